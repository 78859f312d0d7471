// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package assign decides what a Service should have. It is pure: facts in, plan
// out, and nothing asked or written in between.
//
//	Facts      what is known: the Service, its class and pools, its groups, its claims
//	Decide     Facts > Plan: the claims to take and to keep, or why there are none
//	Conclude   Plan and what the claims came to > Outcome: status, Event, condition,
//	           what to release
//
// There are two steps because only the store of claims knows which address is
// free. The executor in package cloud gathers the facts, has the claims made and
// carries the outcome out; the rules are all here. Those of sharing one address
// are in sharing.go and group.go, those of choosing a class and its pools in
// candidates.go, those of whose an address is after a restart in restore.go.
package assign
