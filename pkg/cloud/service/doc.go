// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package service reads what a Service says: its class, IP families,
// addresses, annotations and the group that it shares an address with. Its
// functions are pure and decide nothing; what follows from their answers is in
// package assign for one Service, and in package drift for all of them.
//
// The Services are projections (package classview): their class stands in an
// annotation, because the upstream service controller ignores every Service
// that names one.
package service
