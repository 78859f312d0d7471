// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ipam says what a claim on an address is and what a store of claims
// does: the interfaces Claims, Pools and Records with their errors, the addresses
// of a pool, and Combine, which makes one store of NetBox and of pools that list
// their addresses themselves.
//
// A claim is one address of one IP family for one Service of one cluster. Its
// key is all there is to find it again, after a crash at any point. What a
// Service should have is not decided here, see pkg/cloud/assign.
package ipam
