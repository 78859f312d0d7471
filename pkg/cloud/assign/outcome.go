// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package assign

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/service"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// Claimed collects what the claims of a plan came to.
type Claimed struct {
	// Claims are those that the Service has now.
	Claims []ipam.Claim
	// Moved says for each address that NetBox would rather see elsewhere where
	// that is. The Service keeps it.
	Moved []string
	// Own are the claims under the Service's own name after these, as far as this
	// process knows of them without asking NetBox: what it does not keep of them
	// is released.
	Own []ipam.Claim
}

// Add notes the answer to a claim. It returns the error that ends the matter,
// and nil where the Service can do without, or keeps what it has.
func (c *Claimed) Add(wanted Claim, held netip.Addr, claim ipam.Claim, err error) error {
	var moved *ipam.MovedError
	switch {
	case err == nil:
		c.Claims = append(c.Claims, claim)
	case wanted.Optional && errors.As(err, new(*ipam.ExhaustedError)):
	case errors.As(err, &moved) && moved.Held == held:
		c.Moved = append(c.Moved, moved.Error())
		c.Claims = append(c.Claims, ipam.Claim{Key: wanted.Key, Addr: held})
	default:
		return err
	}
	return nil
}

// Outcome is what becomes of a Service.
type Outcome struct {
	// Status is what it has from now on; nil if that is not known, and it keeps
	// what it has.
	Status *corev1.LoadBalancerStatus
	// Event is a sentence for the Event that says so; empty for none.
	Event string
	// Waiting says why it waits for something; nil if it does not. It may be set
	// together with a Status that lost an address.
	Waiting error
	// Unasked says why NetBox could not be asked about a Service that has what it
	// wants. Something may be left to do, a former address to release, say.
	Unasked error
	// Moved is the message of the condition AddressConflict; empty for no conflict.
	Moved string
	// NotRetained says for each address that cannot be retained why.
	NotRetained []string
	// Release is what is to be given back before the status is written.
	Release Release
}

// Release is what a Service gives back.
type Release struct {
	// Own says that the claims under the Service's own name are released, except
	// those with these keys.
	Own    bool
	Except []ipam.Key
	// Leave are the groups that it is no longer in. The address of one is released
	// with its last member.
	Leave []service.Group
	// Shrink says that the shared addresses of its group that no member needs any
	// more are released: it has given one up.
	Shrink bool
}

// Everything is what a Service that is deleted, or is no load balancer any more,
// gives back: its own claims and its part in these groups.
func Everything(groups []service.Group) Release { return Release{Own: true, Leave: groups} }

// Settled returns the outcome of a plan that claims nothing; ok is false where
// there is something to claim.
func (p Plan) Settled() (out Outcome, ok bool) {
	switch {
	case p.Keep:
		return Outcome{Status: p.facts.Service.Status.LoadBalancer.DeepCopy()}, true
	case p.Problem != nil && p.Status != nil:
		return Outcome{Status: p.Status, Waiting: p.Problem}, true
	case p.Problem != nil:
		return Failed(p.facts.Service, p.Problem), true
	}
	return Outcome{}, false
}

// Conclude returns the outcome of a plan whose claims came to this.
func (p Plan) Conclude(c Claimed) Outcome {
	addrs := make([]netip.Addr, len(c.Claims))
	for i, claim := range c.Claims {
		addrs[i] = claim.Addr
	}
	return Outcome{
		Status:      service.StatusOf(addrs...),
		Event:       assigned(p.facts.Class.Name, c.Claims),
		Moved:       strings.Join(c.Moved, "; "),
		NotRetained: p.notRetained(c.Claims),
		Release:     p.facts.release(c),
	}
}

// Failed returns the outcome of a Service for which something could not be done.
// What is assigned stays while NetBox is away.
func Failed(svc *corev1.Service, err error) Outcome {
	if IsUnavailable(err) && isSatisfied(svc) {
		return Outcome{Status: svc.Status.LoadBalancer.DeepCopy(), Unasked: err}
	}
	return Outcome{Waiting: err}
}

// IsUnavailable reports whether an error says that NetBox did not answer, which
// heals by itself.
func IsUnavailable(err error) bool { return errors.As(err, new(*ipam.UnavailableError)) }

// isSatisfied reports whether the Service's status already holds an address of
// each family that it needs, and the one that was asked for, and none that it
// gave up.
func isSatisfied(svc *corev1.Service) bool {
	ask, err := service.ParseAsk(svc.Annotations, svc.Spec.LoadBalancerIP)
	if err != nil {
		return false
	}
	wanted := service.Families(svc)
	for _, a := range service.Addrs(svc) {
		if !slices.Contains(wanted, ipam.FamilyOf(a)) {
			return false
		}
	}
	for i, f := range wanted {
		has, asked := service.Addr(svc, f), ask.Addrs[f]
		needed := i == 0 || !service.PrefersDualStack(svc)
		if needed && !has.IsValid() || asked.IsValid() && asked != has {
			return false
		}
	}
	return len(svc.Status.LoadBalancer.Ingress) > 0
}

// release returns what a Service had before these claims and has no longer: the
// address of a family that it gave up, its own one when it joined a group, and
// its part in groups that it left.
func (f Facts) release(claimed Claimed) Release {
	var r Release
	for _, c := range claimed.Claims {
		r.Except = append(r.Except, c.Key)
	}
	lost := slices.ContainsFunc(service.Addrs(f.Service), func(a netip.Addr) bool {
		return !slices.ContainsFunc(claimed.Claims, func(c ipam.Claim) bool { return c.Addr == a })
	})
	// Its status need not have named a claim: the claim was made, the process
	// died, and the user gave up the family.
	more := slices.ContainsFunc(claimed.Own, func(c ipam.Claim) bool { return !c.Reserved && !slices.Contains(r.Except, c.Key) })
	r.Own = lost || more
	for _, g := range f.Former {
		r.Leave = append(r.Leave, g.Group)
	}
	r.Shrink = lost && f.Group != nil
	return r
}

// notRetained says why addresses cannot be retained although the user wants it.
func (p Plan) notRetained(claims []ipam.Claim) []string {
	if !p.ask.Retain {
		return nil
	}
	var out []string
	for _, c := range claims {
		if pool, ok := p.facts.Pools[c.Pool]; ok && !pool.NetBox() {
			out = append(out, fmt.Sprintf("%s will not stay reserved (annotation %s): pool %q lists its addresses itself, and only a pool in NetBox can keep one without its Service",
				c.Addr, v1alpha1.AnnotationRetain, c.Pool))
		}
	}
	return out
}

// assigned says which addresses a Service has and where they come from.
func assigned(class string, claims []ipam.Claim) string {
	parts := make([]string, 0, len(claims))
	for _, c := range claims {
		part := c.Addr.String()
		if c.Pool != "" {
			part += fmt.Sprintf(" from pool %q", c.Pool)
		}
		parts = append(parts, part)
	}
	return fmt.Sprintf("Assigned %s (class %q)", strings.Join(parts, " and "), class)
}
