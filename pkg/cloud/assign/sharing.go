// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package assign

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// Sharer is what the rules of sharing look at in a Service. The Services of a
// namespace with one sharing key are judged together by Admit.
type Sharer struct {
	Name    string
	Created time.Time
	// Class is the name of the LoadBalancerClass.
	Class string
	Ports []SharedPort
	// Local: externalTrafficPolicy is Local.
	Local    bool
	Selector map[string]string
	// Asked are the addresses that the user asks for.
	Asked map[ipam.Family]netip.Addr
	// Held are the shared addresses that the Service has already.
	Held map[ipam.Family]netip.Addr
	// Changed says that the Service is known not to be what it was when it was
	// last admitted.
	Changed bool
}

// SharedPort is a port of a Service; no two Services with one address have the
// same.
type SharedPort struct {
	Protocol string
	Port     int32
}

func (p SharedPort) String() string { return fmt.Sprintf("%s/%d", p.Protocol, p.Port) }

// SharingError says why a Service cannot share an address with another one.
type SharingError struct {
	SharingKey string
	// Other is the name of the Service that is in the way.
	Other string
	// Ports says that both have the same port, so that a packet could be for
	// either.
	Ports bool
	// Problem is the rest of the sentence, with the fix.
	Problem string
}

func (e *SharingError) Error() string {
	return fmt.Sprintf("annotation %s: cannot share %q with Service %q: %s", v1alpha1.AnnotationSharingKey, e.SharingKey, e.Other, e.Problem)
}

// Admit decides which of the Services with one sharing key have the address
// together, and returns for each other one, by name, why it does not. Who has
// the address already and did not change comes before who has, and that before
// who wants to join; among equals the older one comes first, then the one whose
// name does.
func Admit(sharingKey string, sharers []Sharer) map[string]*SharingError {
	refused := map[string]*SharingError{}
	var admitted []Sharer
	for _, s := range slices.SortedFunc(slices.Values(sharers), bySeniority) {
		if err := s.fits(admitted); err != nil {
			err.SharingKey = sharingKey
			refused[s.Name] = err
			continue
		}
		admitted = append(admitted, s)
	}
	return refused
}

func bySeniority(a, b Sharer) int {
	return cmp.Or(cmp.Compare(a.rank(), b.rank()), a.Created.Compare(b.Created), cmp.Compare(a.Name, b.Name))
}

func (s Sharer) rank() int {
	switch {
	case len(s.Held) == 0:
		return 2
	case s.Changed || s.asksForAnother():
		return 1
	default:
		return 0
	}
}

// asksForAnother reports whether the user wants another address than the shared
// one.
func (s Sharer) asksForAnother() bool {
	for f, held := range s.Held {
		if asked := s.Asked[f]; asked.IsValid() && asked != held {
			return true
		}
	}
	return false
}

// fits returns nil if a Service may join these.
func (s Sharer) fits(admitted []Sharer) *SharingError {
	for _, other := range admitted {
		if problem, ports := s.clash(other); problem != "" {
			return &SharingError{Other: other.Name, Problem: problem, Ports: ports}
		}
	}
	return nil
}

// clash says what keeps two Services from sharing an address; "" for nothing.
func (s Sharer) clash(other Sharer) (problem string, ports bool) {
	for _, p := range s.Ports {
		if slices.Contains(other.Ports, p) {
			return fmt.Sprintf("both have port %s: give one of them another port or another key", p), true
		}
	}
	switch {
	case s.Class != other.Class:
		return fmt.Sprintf("its LoadBalancerClass is %q, this one's is %q: use one class, or another key", other.Class, s.Class), false
	case s.Local != other.Local:
		return fmt.Sprintf("its spec.externalTrafficPolicy is %s, this one's is %s: use the same, or another key", policyName(other.Local), policyName(s.Local)), false
	case s.Local && !s.sameEndpoints(other):
		return "with spec.externalTrafficPolicy Local both need the same spec.selector, and one that is not empty: use Cluster, one selector, or another key", false
	}
	for _, f := range []ipam.Family{ipam.IPv4, ipam.IPv6} {
		mine, its := s.wants(f), other.wants(f)
		if mine.IsValid() && its.IsValid() && mine != its {
			return fmt.Sprintf("it has or asks for %s, this one %s: ask for one address on all of them (annotation %s), or use another key",
				its, mine, v1alpha1.AnnotationAddresses), false
		}
	}
	return "", false
}

// sameEndpoints reports whether both Services have the same pods, so that a node
// has endpoints of both or of none.
func (s Sharer) sameEndpoints(other Sharer) bool {
	return len(s.Selector) > 0 && maps.Equal(s.Selector, other.Selector)
}

// wants is the address that a Service asks for, or else the one that it has.
func (s Sharer) wants(f ipam.Family) netip.Addr {
	if asked := s.Asked[f]; asked.IsValid() {
		return asked
	}
	return s.Held[f]
}

func policyName(local bool) string {
	if local {
		return "Local"
	}
	return "Cluster"
}
