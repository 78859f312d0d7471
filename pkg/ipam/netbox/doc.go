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
//	           B: key#next the old one is deleted
//	           B: key      the new one takes over the key
//
// Every lookup asks for both keys. A claim that finds A and B goes on where the
// asked-for address is B, and deletes B where it is not (the user has changed
// their mind); one that finds B alone gives it the key. A release deletes both.
//
// # Requests
//
// go-netbox is the transport: it knows the paths and methods. Its models are
// not used, because they refuse whole answers over one unknown choice, label or
// empty string; bodies are written and read here, leniently. Every request has
// a deadline.
package netbox
