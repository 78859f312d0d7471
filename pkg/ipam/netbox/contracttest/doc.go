// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package contracttest holds the tests of how the NetBox allocator behaves against
// a NetBox, real or in memory: the same body runs against both, so that the
// double cannot drift from what it stands for.
package contracttest
