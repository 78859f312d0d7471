// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package announce

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/bm-ccm/bm-ccm/pkg/announce/bgp"
	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
)

// Reasons of Events on a BGPPeer.
const (
	eventDown        = "SessionDown"
	eventEstablished = "SessionEstablished"
)

// sessionEvents puts an Event on a BGPPeer when its session with this node
// comes up, goes down, or is down for another reason than before.
type sessionEvents struct {
	recorder record.EventRecorder
	seen     map[string]seenSession // by peer
}

type seenSession struct {
	up      bool
	message string
}

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

func (e *sessionEvents) emit(p *v1alpha1.BGPPeer, s bgp.Session) {
	switch {
	case s.Up() && s.Message == "":
		e.recorder.Event(p, corev1.EventTypeNormal, eventEstablished, "BGP session established")
	case s.Up():
		e.recorder.Event(p, corev1.EventTypeWarning, eventEstablished, "BGP session established, but "+s.Message)
	case s.Message != bgp.Connecting:
		e.recorder.Event(p, corev1.EventTypeWarning, eventDown, s.Message)
	}
}
