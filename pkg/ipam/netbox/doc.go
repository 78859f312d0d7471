// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package netbox keeps claims in NetBox's IPAM and reads machines from its
// DCIM.
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
//	           B: key#next the old one is let go
//	           B: key      the new one takes over the key
//
// Every lookup asks for both keys. While the status names A, both stay: an
// address in use always has a record. A claim that finds A and B goes on where
// the status names B, and lets go of B where it is no longer asked for; one that
// finds B alone gives it the key. A release lets go of both.
//
// # What engineers write
//
// A record whose claim field names a Service is what that Service gets. A
// Service that has another address keeps it: then the engineer's record holds
// the key as a wish (its k8s_service_uid is empty), the address in use holds
// "<key>#next", and the claim is an *ipam.MovedError until the user asks for
// one of the two, or the wish is cleared.
//
// What becomes of a record that is let go is written in it, in the field
// k8s_lb_release: only what was created here is deleted.
//
// # Requests
//
// go-netbox is the transport: it knows the paths and methods. Its models are
// not used, because they refuse whole answers over one unknown choice, label or
// empty string; bodies are written and read here, leniently. Every request has
// a deadline.
package netbox
