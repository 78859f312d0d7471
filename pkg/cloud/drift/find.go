// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package drift

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/bm-ccm/bm-ccm/pkg/cloud/assign"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/service"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// Find compares the records of claims with the Services of the cluster, and
// returns what is wrong, ordered by Service, address and kind: how the two
// differ, and what the report finds within the records. The Services are those
// that a classview shows; defaultClass is the name of the LoadBalancerClass of
// Services that name none, "" for none.
//
// It is pure: a Reconciler acts upon what it returns, and Audit prints it.
func Find(report ipam.Report, services []*corev1.Service, defaultClass string) []ipam.Finding {
	c := newComparison(report.Claims, services, defaultClass)
	var out []ipam.Finding
	for _, claim := range report.Claims {
		if c.isOrphan(claim) {
			out = append(out, ipam.Finding{
				Kind: ipam.Orphan, Namespace: claim.Key.Namespace, Name: claim.Key.Service, Addr: claim.Addr, Key: claim.Key,
				Text: fmt.Sprintf("%s is recorded for a Service that no longer exists: it is freed %s after the controller has seen it first", claim.Addr, orphanGrace),
			})
		}
	}
	for _, svc := range services {
		if service.IsServed(svc) {
			out = append(out, c.differencesOf(svc)...)
		}
	}
	for _, f := range report.Findings {
		f.Namespace, f.Name = f.Key.Namespace, f.Key.Service
		out = append(out, f)
	}
	slices.SortStableFunc(out, byService)
	return out
}

func byService(a, b ipam.Finding) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), a.Addr.Compare(b.Addr), cmp.Compare(a.Kind, b.Kind))
}

// comparison has claims and Services by what they are looked up by. Services are
// named as claims name them, see service.Claimant.
type comparison struct {
	// recorded has the claims of each claimant.
	recorded map[string][]ipam.Claim
	byAddr   map[netip.Addr]ipam.Claim
	// wanted has the claimant of each live Service.
	wanted map[string]bool
	// inUse has the addresses in the status of live Services.
	inUse map[netip.Addr]bool
	// refused are the Services that do not fit into a group.
	refused map[refusal]bool
}

// refusal is a group and the name of a Service that does not fit into it.
type refusal struct {
	group service.Group
	name  string
}

func newComparison(claims []ipam.Claim, services []*corev1.Service, defaultClass string) *comparison {
	c := &comparison{
		recorded: map[string][]ipam.Claim{}, byAddr: map[netip.Addr]ipam.Claim{},
		wanted: map[string]bool{}, inUse: map[netip.Addr]bool{}, refused: map[refusal]bool{},
	}
	shared := map[service.Group]map[ipam.Family]netip.Addr{}
	for _, claim := range claims {
		claimant := service.ClaimantOf(claim.Key)
		c.recorded[claimant] = append(c.recorded[claimant], claim)
		c.byAddr[claim.Addr] = claim
		if g, ok := service.GroupOfClaim(claim.Key); ok {
			if shared[g] == nil {
				shared[g] = map[ipam.Family]netip.Addr{}
			}
			shared[g][claim.Key.Family] = claim.Addr
		}
	}
	members := map[service.Group][]assign.Sharer{}
	for _, svc := range services {
		if !service.IsLoadBalancer(svc) {
			continue
		}
		c.wanted[service.Claimant(svc)] = true
		for _, a := range service.Addrs(svc) {
			c.inUse[a] = true
		}
		for _, g := range c.groupsOf(svc) {
			members[g] = append(members[g], assign.SharerOf(svc, service.ClassName(svc, defaultClass), assign.HeldBy(svc, shared[g])))
		}
	}
	for g, sharers := range members {
		for name := range assign.Admit(g.SharingKey, sharers) {
			c.refused[refusal{g, name}] = true
		}
	}
	return c
}

// groupsOf returns the groups that a Service wants to be in, or has an address of.
func (c *comparison) groupsOf(svc *corev1.Service) []service.Group {
	var out []service.Group
	if g, ok := service.GroupOf(svc); ok {
		out = append(out, g)
	}
	for _, a := range service.Addrs(svc) {
		g, shared := service.GroupOfClaim(c.byAddr[a].Key)
		if shared && g.Namespace == svc.Namespace && !slices.Contains(out, g) {
			out = append(out, g)
		}
	}
	return out
}

// isOrphan reports whether a claim belongs to no Service. An address that a
// Service has is none, whatever the claim says: it would be given out twice.
func (c *comparison) isOrphan(claim ipam.Claim) bool {
	return !claim.Reserved && !c.wanted[service.ClaimantOf(claim.Key)] && !c.inUse[claim.Addr]
}

// differencesOf compares a Service with what is recorded for it.
func (c *comparison) differencesOf(svc *corev1.Service) []ipam.Finding {
	if g, ok := service.GroupOf(svc); ok && c.refused[refusal{g, svc.Name}] {
		return nil // it waits, and says why
	}
	var out []ipam.Finding
	for _, f := range []ipam.Family{ipam.IPv4, ipam.IPv6} {
		if d := c.difference(svc, f); d.Kind != "" {
			d.Namespace, d.Name = svc.Namespace, svc.Name
			out = append(out, d)
		}
	}
	return out
}

// difference compares one family of a Service; without Kind there is none.
func (c *comparison) difference(svc *corev1.Service, f ipam.Family) ipam.Finding {
	has := service.Addr(svc, f)
	var recorded ipam.Claim
	for _, claim := range c.recorded[service.Claimant(svc)] {
		if claim.Key.Family != f {
			continue
		}
		if claim.Addr == has {
			return ipam.Finding{}
		}
		recorded = claim
	}
	other, taken := c.byAddr[has]
	switch {
	case !has.IsValid() && !recorded.Addr.IsValid():
		return ipam.Finding{}
	case !has.IsValid():
		return ipam.Finding{Kind: ipam.Drifted, Addr: recorded.Addr, Key: recorded.Key,
			Text: fmt.Sprintf("%s is recorded for this Service, but its status lacks it: the status is written again", recorded.Addr)}
	case recorded.Addr.IsValid():
		return ipam.Finding{Kind: ipam.Moved, Addr: has, Key: recorded.Key,
			Text: fmt.Sprintf("this Service has %s, but %s is recorded for it: it keeps what it has", has, recorded.Addr)}
	case taken:
		return ipam.Finding{Kind: ipam.Unrecorded, Addr: has, Key: other.Key,
			Text: fmt.Sprintf("this Service has %s, which is recorded for %s", has, service.ClaimantOf(other.Key))}
	default:
		return ipam.Finding{Kind: ipam.Unrecorded, Addr: has,
			Text: fmt.Sprintf("this Service has %s, which has no NetBox record; re-creating it", has)}
	}
}
