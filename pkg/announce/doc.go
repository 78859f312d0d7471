// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package announce is the node agent: it decides which load-balancer addresses
// its node announces, has them announced over BGP, and reports what it did in
// the node's NodeAnnouncement.
//
// All decisions are made by one pure function, Decide, from what the informers
// hold. Nothing on the way from an event to a router asks the API server or any
// other node, so announcements go on and follow endpoints as far as they are
// known while the API server is away.
package announce
