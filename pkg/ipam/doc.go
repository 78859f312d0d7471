// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ipam says what a claim on an address is and who keeps claims: the
// Allocator interface with its errors, and the pure choice of the pools that a
// Service may take an address from.
//
// A claim is one address of one IP family for one Service of one cluster. Its
// key is all there is to find it again, after a crash at any point.
package ipam
