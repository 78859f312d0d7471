// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package netbox keeps claims in NetBox's IPAM: the claim protocol, and the pools
// of addresses that claims are taken from.
//
// A claim is one ip-address object whose custom field k8s_lb_claim holds the
// claim key. NetBox guarantees that a key stands on one object only and picks
// the address, both in the one request that also records the owner, so a crash
// at any point leaves nothing that the next run does not find by its key.
//
// # Changing an address
//
// Only one object may hold a key, so the change of an address that the user
// asks for goes through a second key, "<key>#next":
//
//	A: key                 before
//	A: key     B: key#next the new address is recorded with its owner
//	A: key     B: key#next the Service's status names B
//	           B: key#next the old one is released
//	           B: key      the new one takes over the key
//
// Every lookup asks for both keys. While the status names A, both stay: an
// address in use always has a record. A claim that finds A and B goes on where
// the status names B, and releases B where it is no longer asked for; one that
// finds B alone gives it the key. A release is of both.
//
// # What engineers write
//
// A record whose claim field names a Service is what that Service gets. A
// Service that has another address keeps it: then the engineer's record holds
// the key as a wish (its k8s_service_uid is empty), the address in use holds
// "<key>#next", and the claim is an *ipam.MovedError until the user asks for
// one of the two, or the wish is cleared.
//
// What becomes of a record that is released is written in it, in the field
// k8s_lb_release: only what was created here is deleted.
//
// # Invariants
//
// Whoever changes this package must keep these; the tests hold it to them:
//
//   - A record is written with its owner in one request. There is never an
//     address that is taken and nobody's.
//   - A request whose answer is lost is not repeated. It may be on its way still,
//     so what became of it is looked up by its key, by the next claim if need be.
//   - No list that is posted has a key twice, which NetBox would not notice: it
//     checks all items before it saves any. Claims hold a lock for their key.
//   - An address that a Service has is not taken from it by anything but its
//     user's word: not by an engineer's record, a pool that shrinks, or NetBox
//     being away.
//   - Addresses never get a role. NetBox exempts vip and its like from being
//     unique, and two clusters would get the same one.
//
// # Files
//
// claim.go has the steps of a claim, change.go those of its change, release.go
// those of its end; queue.go and batcher.go make lists of them. record.go is the
// record of an address, claimcache.go what is known of all. pool.go and source.go
// are about where addresses come from, selector.go, reserved.go and avoid.go about
// pools that need more, and sourcecache.go and ttlcache.go remember that. api.go,
// addresses.go and networks.go are the requests.
package netbox
