// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package labtest starts labs for tests.
package labtest
