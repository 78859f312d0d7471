// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Peer is a router to open a session to. Name identifies it in everything that
// the Speaker reports; all names and all addresses must differ.
type Peer struct {
	Name     string
	Address  netip.Addr
	Port     uint16
	PeerASN  uint32
	LocalASN uint32
	// HoldTime is the proposed hold time (RFC 4271 section 4.2), in full seconds.
	HoldTime time.Duration
	// Multihop is the number of hops that an external peer may be away; 0 is a
	// directly connected one.
	Multihop uint8
}

// Route is an address prefix to announce.
type Route struct {
	Prefix netip.Prefix
	// Peers names the peers to announce it to; nil means all of them, an empty
	// list none.
	Peers []string
	// Communities are attached as they are (RFC 1997).
	Communities []uint32
}

// Equal reports whether two routes are announced in the same way.
func (r Route) Equal(o Route) bool {
	return r.Prefix == o.Prefix && (r.Peers == nil) == (o.Peers == nil) &&
		slices.Equal(r.Peers, o.Peers) && slices.Equal(r.Communities, o.Communities)
}

// normal returns the route with host bits cleared, and its lists sorted and
// without duplicates, so that routes and sets of peers can be compared.
func (r Route) normal() Route {
	r.Prefix = r.Prefix.Masked()
	r.Peers = sortedSet(r.Peers)
	r.Communities = sortedSet(r.Communities)
	return r
}

func sortedSet[T interface{ ~string | ~uint32 }](in []T) []T {
	if in == nil || slices.IsSortedFunc(in, strictOrder[T]) {
		return in
	}
	out := slices.Clone(in)
	slices.Sort(out)
	return slices.Compact(out)
}

// strictOrder puts an element before its equal, so that a list with duplicates
// does not count as sorted.
func strictOrder[T interface{ ~string | ~uint32 }](a, b T) int {
	if a <= b {
		return -1
	}
	return 1
}

// subset identifies the peers of a route among all sets of peers in use; ok is
// false for a route that goes to all of them.
func (r Route) subset() (id string, ok bool) {
	return strings.Join(r.Peers, ","), r.Peers != nil
}

// State is the state of a session (RFC 4271 section 8.2.2).
type State string

// The states of a session. Connect does not occur: the library that runs the
// session calls it Active.
const (
	Idle        State = "Idle"
	Active      State = "Active"
	OpenSent    State = "OpenSent"
	OpenConfirm State = "OpenConfirm"
	Established State = "Established"
)

// Session is how the session with a peer fares.
type Session struct {
	Peer    string
	Address netip.Addr
	State   State
	// Since is when the session was established, or was lost, or first tried.
	// It does not move with every attempt to connect.
	Since time.Time
	// Announced counts the routes that are announced to this peer.
	Announced int
	// Message says why the session is down, or what about it does not work,
	// and what to do; it is empty when all is well.
	Message string
}

// Connecting is the Message of a session about which nothing is known yet.
const Connecting = "connecting"

// Up reports whether routes are exchanged.
func (s Session) Up() bool { return s.State == Established }
