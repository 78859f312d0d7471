// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package announce

import (
	"fmt"
	"math"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bm-ccm/bm-ccm/pkg/announce/bgp"
	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
)

const (
	// maxNamedDifferences is how many differences a condition names. The first
	// few show the cause; a node that has lost its table has thousands.
	maxNamedDifferences = 3
	// maxConditionMessageLen bounds a condition's message, in bytes. The API
	// takes 32768; this is what still reads well in kubectl describe, and it
	// keeps what a thousand nodes write small.
	maxConditionMessageLen = 1024
)

// report is all that a status is made of.
type report struct {
	decision *Decision
	sessions []bgp.Session
	// differences between what was decided and what the BGP table holds.
	differences []string
}

// status is what a NodeAnnouncement says of a report. It holds nothing that
// changes by itself, such as an age or a counter of attempts: the writer compares
// it with what is stored and writes only a difference.
func (r *report) status() v1alpha1.NodeAnnouncementStatus {
	established := 0
	st := v1alpha1.NodeAnnouncementStatus{AddressCount: clamp32(len(r.decision.Announcements))}
	for _, s := range r.sessions {
		if s.Up() {
			established++
		}
		st.BGP = append(st.BGP, v1alpha1.BGPSession{
			Peer: s.Peer, Address: s.Address.String(), State: string(s.State),
			// The API stores full seconds; a fraction would never compare equal.
			Since: metav1.NewTime(s.Since).Rfc3339Copy(), Announced: clamp32(s.Announced), Message: s.Message,
		})
	}
	st.BGPSummary = fmt.Sprintf("%d/%d", established, len(r.sessions))
	st.Classes = announcedClasses(r.decision.Announcements)
	st.Conditions = []metav1.Condition{r.inSync()}
	return st
}

// clamp32 makes a count fit the API, whose integers have 32 bits.
func clamp32(n int) int32 {
	return int32(min(n, math.MaxInt32)) //nolint:gosec // cut off just here
}

// announcedClasses groups the addresses by class, both in the order of the
// addresses, so that equal decisions give equal statuses. Those above
// MaxListedAddresses are counted only.
func announcedClasses(announcements []Announcement) []v1alpha1.AnnouncedClass {
	var out []v1alpha1.AnnouncedClass
	position := map[string]int{}
	for _, a := range announcements {
		i, ok := position[a.Class]
		if !ok {
			i = len(out)
			position[a.Class] = i
			out = append(out, v1alpha1.AnnouncedClass{Class: a.Class})
		}
		if len(out[i].Addresses) < v1alpha1.MaxListedAddresses {
			out[i].Addresses = append(out[i].Addresses, a.Addr.String())
		}
	}
	return out
}

// inSync is the condition, without its transition time. It has one reason, that of
// the case that explains most: with the table wrong the state of sessions is
// beside the point, and a node that withholds needs no peers.
func (r *report) inSync() metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionInSync, Status: metav1.ConditionFalse}
	d := r.decision
	switch {
	case len(r.differences) > 0:
		c.Reason, c.Message = ReasonRoutesDiffer, listSome(r.differences)
	case d.Withheld != "":
		c.Reason, c.Message = ReasonWithheld, "announcements are held back: "+d.Withheld
	case len(r.down()) > 0:
		c.Reason, c.Message = ReasonSessionDown, listSome(r.down())
	case len(d.Problems) > 0:
		c.Reason, c.Message = ReasonInvalidObject, listSome(d.Problems)
	case len(d.Peers) == 0 && len(d.Announcements) > 0:
		c.Reason, c.Message = ReasonNoPeers, "no BGPPeer is for this node: create one, or let the nodeSelector of one match the node's labels"
	default:
		c.Status, c.Reason = metav1.ConditionTrue, ReasonAnnouncing
		c.Message = "announces what it should to all its BGP peers"
	}
	// Cut at a byte, then drop what is left of the character that it hit.
	if len(c.Message) > maxConditionMessageLen {
		c.Message = strings.ToValidUTF8(c.Message[:maxConditionMessageLen], "")
	}
	return c
}

// down names the sessions that are not established, or lack something.
func (r *report) down() []string {
	var out []string
	for _, s := range r.sessions {
		if !s.Up() || s.Message != "" {
			out = append(out, fmt.Sprintf("peer %s: %s", s.Peer, s.Message))
		}
	}
	return out
}

// listSome joins the first items and counts the rest.
func listSome(items []string) string {
	if len(items) <= maxNamedDifferences {
		return strings.Join(items, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(items[:maxNamedDifferences], "; "), len(items)-maxNamedDifferences)
}

// differ names what routes of the BGP table are missing, different or too many, in
// the order of the lists: a message in random order would be written each time.
func differ(wanted, actual []bgp.Route) []string {
	have := make(map[string]bgp.Route, len(actual))
	for _, r := range actual {
		have[r.Prefix.String()] = r
	}
	var out []string
	for _, w := range wanted {
		key := w.Prefix.String()
		h, ok := have[key]
		switch {
		case !ok:
			out = append(out, key+" is missing from the BGP table")
		case !h.Equal(w):
			out = append(out, key+" has other peers or communities in the BGP table")
		}
		delete(have, key)
	}
	for _, r := range actual {
		if _, ok := have[r.Prefix.String()]; ok {
			out = append(out, r.Prefix.String()+" is in the BGP table and should not be")
		}
	}
	return out
}

// carryOver keeps from the status in the API what has not really changed: the
// time of the condition, and the state of a session that is down, which goes
// around in circles while it is tried again.
func carryOver(old, now v1alpha1.NodeAnnouncementStatus) v1alpha1.NodeAnnouncementStatus {
	before := map[string]v1alpha1.BGPSession{}
	for _, s := range old.BGP {
		before[s.Peer] = s
	}
	for i, s := range now.BGP {
		b, ok := before[s.Peer]
		if ok && isDown(b) && isDown(s) && b.Message == s.Message && b.Address == s.Address {
			now.BGP[i] = b
		}
	}
	conditions := append([]metav1.Condition(nil), old.Conditions...)
	for _, c := range now.Conditions {
		meta.SetStatusCondition(&conditions, c)
	}
	now.Conditions = conditions
	return now
}

// isDown does not ask for a state: Idle, Active, OpenSent and OpenConfirm come and
// go with each attempt.
func isDown(s v1alpha1.BGPSession) bool { return s.State != string(bgp.Established) }

// sameStatus takes an empty list for a missing one, as the API server stores it.
func sameStatus(a, b v1alpha1.NodeAnnouncementStatus) bool {
	return equality.Semantic.DeepEqual(a, b)
}
