// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package assign

import (
	"errors"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/service"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// Facts are all that the decision about one Service looks at. They are gathered
// once, before it.
type Facts struct {
	// Cluster is part of every claim key.
	Cluster string
	// Service is a projection.
	Service *corev1.Service
	// Class is the LoadBalancerClass of the Service; nil with ClassProblem.
	Class        *v1alpha1.LoadBalancerClass
	ClassProblem error
	// Pools are those of the class that exist, with the addresses that they have
	// now, by name.
	Pools map[string]ipam.Pool
	// NamespaceLabels are those of the Service's namespace.
	NamespaceLabels map[string]string
	// Group is the group that the Service wants to be in; nil for none.
	Group *Group
	// Former are the groups whose address the Service has, and that it is to leave.
	Former []Group
	// Own are the claims under the Service's own name. They matter only for one
	// that wants to share an address.
	Own []ipam.Claim
}

// Plan says what a Service should have.
type Plan struct {
	facts Facts
	ask   service.Ask

	// Keep says that nothing changes, and that nothing is to be claimed.
	Keep bool
	// Problem says why nothing is to be claimed; nil if something is.
	Problem error
	// Status is what the Service is left with under Problem, where it loses an
	// address; nil where it keeps what it has.
	Status *corev1.LoadBalancerStatus
	// Claims are to be made in this order: the primary family first.
	Claims []Claim
}

// Claim is a claim to make, or to keep: a store answers a request whose claim
// exists with that one.
type Claim struct {
	ipam.Request
	// Optional says that the Service is content without: the second family of
	// PreferDualStack.
	Optional bool
	// HeldYields says that Held came from another claim than the one of this key
	// (the Service joins or leaves a group). Where the key has a claim of its own
	// already, that one counts and the held address is given up.
	HeldYields bool
}

// Decide returns what a Service should have.
func Decide(f Facts) Plan {
	p := Plan{facts: f}
	if errors.Is(f.ClassProblem, ErrNoDefault) && len(f.Service.Status.LoadBalancer.Ingress) > 0 {
		// The default class that it had its address from is gone. An assigned
		// address stays until its Service is deleted, see classview.
		p.Keep = true
		return p
	}
	if p.Problem = f.ClassProblem; p.Problem != nil {
		return p
	}
	if p.ask, p.Problem = service.ParseAsk(f.Service.Annotations, f.Service.Spec.LoadBalancerIP); p.Problem != nil {
		return p
	}
	var shared terms
	if f.Group != nil {
		if shared = f.Group.terms(); shared.refusal != nil {
			p.Problem, p.Status = shared.refusal, f.withoutClashes(shared.refusal)
			return p
		}
		p.ask.Addrs = shared.asked // of any member
	}
	p.Claims, p.Problem = p.claims(shared)
	return p
}

// claims returns the claims of a Service, one for each family.
func (p Plan) claims(shared terms) ([]Claim, error) {
	f := p.facts
	var out []Claim
	for i, family := range service.Families(f.Service) {
		optional := i > 0 && service.PrefersDualStack(f.Service)
		candidates, err := Candidates(p.ask, f.Class, f.Pools, f.NamespaceLabels, family)
		if optional && errors.As(err, new(*ipam.NoPoolError)) {
			continue
		}
		if err != nil {
			return nil, err
		}
		c := Claim{Optional: optional, Request: ipam.Request{
			Key:      service.ClaimKey(f.Cluster, f.Service, family),
			Owner:    ipam.Owner{UID: string(f.Service.UID), Class: f.Class.Name},
			Pools:    candidates,
			Addr:     p.ask.Addrs[family],
			Held:     service.Addr(f.Service, family),
			Hostname: p.ask.Hostname,
		}}
		f.takeAlong(&c)
		if f.Group != nil {
			f.share(&c, shared)
		}
		out = append(out, c)
	}
	return out, nil
}

// takeAlong has a Service that leaves a group take the shared address along,
// unless others still need it.
func (f Facts) takeAlong(c *Claim) {
	family := c.Key.Family
	for _, g := range f.Former {
		if shared := g.Addrs[family]; !shared.IsValid() || shared != c.Held {
			continue
		}
		if g.Needs(family) {
			c.Held = netip.Addr{}
			return
		}
		c.Former = append(c.Former, g.ClaimKey(f.Cluster, family))
		c.HeldYields = true
	}
}

// share makes a claim of a single Service one of its group. The first member
// brings its own address along.
func (f Facts) share(c *Claim, t terms) {
	own, family := c.Key, c.Key.Family
	c.Key = f.Group.ClaimKey(f.Cluster, family)
	c.Owner.UID = ipam.SharedUID
	c.Hostname = t.hostname
	if shared := f.Group.Addrs[family]; shared.IsValid() {
		c.Held, c.Former, c.HeldYields = shared, nil, false
		return
	}
	// An address that neither its own nor a former group's claim records stays
	// what the Service has: only where it is known to be its own may it be given
	// up for what the group's claim holds.
	c.Former = append(c.Former, own)
	c.HeldYields = slices.ContainsFunc(f.Own, func(o ipam.Claim) bool { return o.Addr == c.Held })
}

// withoutClashes returns the status of a refused Service without the addresses
// on which another Service has the same port: no node could tell their packets
// apart. It returns nil where there are none, and the Service keeps what it has.
func (f Facts) withoutClashes(refusal *SharingError) *corev1.LoadBalancerStatus {
	clashing := map[netip.Addr]bool{}
	note := func(g Group, refusal *SharingError) {
		if refusal != nil && refusal.Ports {
			for _, a := range g.Addrs {
				clashing[a] = true
			}
		}
	}
	note(*f.Group, refusal)
	for _, g := range f.Former {
		note(g, g.refusals()[f.Service.Name])
	}
	left := f.Service.Status.LoadBalancer.DeepCopy()
	left.Ingress = slices.DeleteFunc(left.Ingress, func(in corev1.LoadBalancerIngress) bool {
		a, err := netip.ParseAddr(in.IP)
		return err == nil && clashing[a.Unmap()]
	})
	if len(left.Ingress) == len(f.Service.Status.LoadBalancer.Ingress) {
		return nil
	}
	return left
}
