// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package bench holds what the benchmarks share: the table they end with and
// the JSON they leave behind.
package bench
