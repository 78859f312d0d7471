// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package announce

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/bm-ccm/bm-ccm/pkg/announce/bgp"
	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
)

// Reasons of Events on a BGPPeer. The Event's source is the agent of one node,
// because a router can be up for one node and down for another.
const (
	// ReasonPeerSessionEstablished (Normal) says that the BGP session with this
	// router is up; as a Warning, that it is up but cannot carry the routes of
	// one IP family, with what to change.
	ReasonPeerSessionEstablished = "SessionEstablished"
	// ReasonPeerSessionDown (Warning) says why the BGP session with this router
	// is not established and what to check. It comes once for each cause, not
	// for each attempt to connect.
	ReasonPeerSessionDown = "SessionDown"
)

// Reasons of the condition InSync of a NodeAnnouncement. Where several apply,
// the one that says most about the cause is shown: in the order below, after
// ReasonAnnouncing.
const (
	// ReasonAnnouncing (True): the node announces what it should to all its BGP
	// peers.
	ReasonAnnouncing = "Announcing"
	// ReasonRoutesDiffer (False): the BGP table of the agent does not hold what
	// was decided. The agent mends it by itself within 30 s; a lasting one is a
	// bug, and the log says what failed.
	ReasonRoutesDiffer = "RoutesDiffer"
	// ReasonWithheld (False): the node announces nothing, or less than it could,
	// because of its own state: its Node is excluded by a label or taint, is
	// being deleted or does not exist, or its kube-proxy is unhealthy.
	ReasonWithheld = "Withheld"
	// ReasonSessionDown (False): a BGP session of this node is not established,
	// or cannot carry the routes of one IP family.
	ReasonSessionDown = "SessionDown"
	// ReasonInvalidObject (False): a BGPPeer or LoadBalancerClass is not used, or
	// only in part, because of a mistake in it.
	ReasonInvalidObject = "InvalidObject"
	// ReasonNoPeers (False): there are addresses to announce and no BGPPeer
	// whose nodeSelector matches this node.
	ReasonNoPeers = "NoPeers"
)

// sessionEvents puts an Event on a BGPPeer when its session with this node
// comes up, goes down, or is down for another reason than before. It remembers
// what it said in memory only, so a new agent says each session's state once.
type sessionEvents struct {
	recorder record.EventRecorder
	seen     map[string]seenSession // by peer
}

type seenSession struct {
	up      bool
	message string
}

// note takes the sessions as they are now. Those of peers that are gone are
// forgotten: one that comes back under the same name is new.
func (e *sessionEvents) note(peers []*v1alpha1.BGPPeer, sessions []bgp.Session) {
	objects := make(map[string]*v1alpha1.BGPPeer, len(peers))
	for _, p := range peers {
		objects[p.Name] = p
	}
	now := make(map[string]seenSession, len(sessions))
	for _, s := range sessions {
		seen := seenSession{s.Up(), s.Message}
		now[s.Peer] = seen
		if p := objects[s.Peer]; p != nil && e.seen[s.Peer] != seen {
			e.emit(p, s)
		}
	}
	e.seen = now
}

// emit has no Event for a session of which nothing is known yet: each start of an
// agent would warn of every router.
func (e *sessionEvents) emit(p *v1alpha1.BGPPeer, s bgp.Session) {
	switch {
	case s.Up() && s.Message == "":
		e.recorder.Event(p, corev1.EventTypeNormal, ReasonPeerSessionEstablished, "BGP session established")
	case s.Up():
		e.recorder.Event(p, corev1.EventTypeWarning, ReasonPeerSessionEstablished, "BGP session established, but "+s.Message)
	case s.Message != bgp.Connecting:
		e.recorder.Event(p, corev1.EventTypeWarning, ReasonPeerSessionDown, s.Message)
	}
}
