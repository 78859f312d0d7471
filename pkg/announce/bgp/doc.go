// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package bgp announces host routes to routers over BGP (RFC 4271) and learns
// nothing from them: whatever a router sends is rejected.
//
// A Speaker is given the peers and the routes that should be, in full, and changes
// what differs. It reads back what its table holds, so that the caller can
// compare wanted with actual, and knows in words why a session is down.
//
// Graceful restart (RFC 4724) is offered to every router, and closing a Speaker
// (or the death of the process) sends no notification: a router that speaks it
// keeps the routes until the next Speaker has sent them again. For this to work
// the routes must be set before the peers.
package bgp
