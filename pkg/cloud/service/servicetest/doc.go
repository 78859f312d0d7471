// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package servicetest makes the Services that the tests of pkg/cloud and of the
// packages below it are about.
package servicetest
