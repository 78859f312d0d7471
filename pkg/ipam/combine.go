// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
)

// Combine makes one Allocator of the one for pools in NetBox and the one for
// pools that list their addresses. Without NetBox, netbox is nil: a pool that
// needs it then gives a *ConfigError.
//
// A claim stays with the allocator that holds it, whatever pools the Service
// may use later; only an asked-for address moves it to the other.
func Combine(netbox, inline Allocator) Allocator {
	return &combined{netbox: netbox, inline: inline}
}

// Knower is implemented by allocators that ask a remote store. Known answers
// from what this process knows to be complete, so that a Service whose pools
// are elsewhere does not pay a remote call.
type Knower interface {
	// Known returns the claim of a key as far as this process can tell without
	// asking, or an error when it cannot tell.
	Known(ctx context.Context, key Key) (Claim, bool, error)
}

type combined struct {
	netbox, inline Allocator
}

var _ Knower = (*combined)(nil)

// Claim implements Allocator.
func (c *combined) Claim(ctx context.Context, r Request) (Claim, error) {
	holder, other, existing, err := c.holder(ctx, append([]Key{r.Key}, r.Former...))
	if err != nil && (r.Held.IsValid() || slices.ContainsFunc(r.Pools, Pool.NetBox)) {
		return Claim{}, err
	}
	if holder == nil {
		return c.claimNew(ctx, r)
	}
	if !r.Addr.IsValid() || r.Addr == existing.Addr {
		return holder.Claim(ctx, c.only(r, holder))
	}
	target, err := c.target(r.Addr, r.Pools)
	if err != nil {
		return Claim{}, err
	}
	if target == holder {
		return holder.Claim(ctx, c.only(r, holder))
	}
	return moveClaim(ctx, existing.Key, c.only(r, other), holder, other)
}

// moveClaim takes the asked-for address from another allocator before it lets
// go of the one that the Service has.
func moveClaim(ctx context.Context, old Key, r Request, from, to Allocator) (Claim, error) {
	claim, err := to.Claim(ctx, r)
	if err != nil {
		return Claim{}, err
	}
	if err := from.Release(ctx, old); err != nil {
		return Claim{}, fmt.Errorf("releasing the former address after claiming %s: %w", claim.Addr, err)
	}
	return claim, nil
}

// holder finds the allocator that holds a claim of the first of these keys that
// has one; other is the remaining allocator. Where a crash in the middle of a
// move left a claim with both, the inline one counts: it was restored from the
// Service's status, so it is what clients use.
func (c *combined) holder(ctx context.Context, keys []Key) (holder, other Allocator, existing Claim, err error) {
	for _, key := range keys {
		claim, ok, err := known(ctx, c.inline, key)
		if err != nil {
			return nil, nil, Claim{}, err
		}
		if ok {
			return c.inline, c.netbox, claim, nil
		}
		if c.netbox == nil {
			continue
		}
		claim, ok, err = known(ctx, c.netbox, key)
		if err != nil {
			return nil, nil, Claim{}, err
		}
		if ok {
			return c.netbox, c.inline, claim, nil
		}
	}
	return nil, nil, Claim{}, nil
}

// target returns the allocator whose pools hold an address.
func (c *combined) target(addr netip.Addr, pools []Pool) (Allocator, error) {
	for _, p := range pools {
		if p.Contains(addr) {
			return c.keeper(p)
		}
	}
	return nil, &NotInPoolsError{Addr: addr, Pools: names(pools)}
}

// keeper returns the allocator that keeps the claims of a pool.
func (c *combined) keeper(p Pool) (Allocator, error) {
	if !p.NetBox() {
		return c.inline, nil
	}
	if c.netbox == nil {
		return nil, &ConfigError{Problem: fmt.Sprintf(
			"pool %q takes addresses from NetBox, but --cloud-config has no netbox section: add one with url and tokenFile", p.Name)}
	}
	return c.netbox, nil
}

// only narrows a request to the pools of one allocator.
func (c *combined) only(r Request, a Allocator) Request {
	r.Pools = slices.DeleteFunc(slices.Clone(r.Pools), func(p Pool) bool {
		keeper, err := c.keeper(p)
		return err != nil || keeper != a
	})
	return r
}

// claimNew tries the pools in their order, neighbours of one kind together.
func (c *combined) claimNew(ctx context.Context, r Request) (Claim, error) {
	if addr := cmp.Or(r.Addr, r.Held); addr.IsValid() {
		target, err := c.target(addr, r.Pools)
		if err != nil && !r.Addr.IsValid() {
			return Claim{}, &ConfigError{Problem: fmt.Sprintf(
				"this Service has %s, which is recorded nowhere and in none of its pools (%s): add it to a pool, or ask for another address with the annotation %s",
				addr, strings.Join(names(r.Pools), ", "), v1alpha1.AnnotationAddresses)}
		}
		if err != nil {
			return Claim{}, err
		}
		return target.Claim(ctx, c.only(r, target))
	}
	full := &ExhaustedError{Family: r.Key.Family}
	for rest := r.Pools; len(rest) > 0; {
		n := sameKind(rest)
		keeper, err := c.keeper(rest[0])
		if err != nil {
			return Claim{}, err
		}
		part := r
		part.Pools, rest = rest[:n], rest[n:]
		claim, err := keeper.Claim(ctx, part)
		var exhausted *ExhaustedError
		if !errors.As(err, &exhausted) {
			return claim, err
		}
		full.Pools = append(full.Pools, exhausted.Pools...)
	}
	return Claim{}, full
}

// sameKind counts the pools at the front that are of one kind.
func sameKind(pools []Pool) int {
	n := 1
	for n < len(pools) && pools[n].NetBox() == pools[0].NetBox() {
		n++
	}
	return n
}

// Find implements Allocator.
func (c *combined) Find(ctx context.Context, namespace, service string) ([]Claim, error) {
	claims, err := c.inline.Find(ctx, namespace, service)
	if err != nil || c.netbox == nil {
		return claims, err
	}
	more, err := c.netbox.Find(ctx, namespace, service)
	if err != nil {
		return nil, err
	}
	claims = append(claims, more...)
	slices.SortStableFunc(claims, func(a, b Claim) int { return cmp.Compare(a.Key.Family, b.Key.Family) })
	return claims, nil
}

// Release implements Allocator.
func (c *combined) Release(ctx context.Context, key Key) error {
	return c.end(ctx, key, Allocator.Release)
}

// Retain implements Allocator.
func (c *combined) Retain(ctx context.Context, key Key) error {
	return c.end(ctx, key, Allocator.Retain)
}

// end takes a claim from its Service, with whom it may be.
func (c *combined) end(ctx context.Context, key Key, end func(Allocator, context.Context, Key) error) error {
	_, inline, err := known(ctx, c.inline, key)
	if err != nil {
		return err
	}
	if inline {
		if err := end(c.inline, ctx, key); err != nil {
			return err
		}
	}
	if c.netbox == nil {
		return nil
	}
	if inline {
		if _, ok, err := known(ctx, c.netbox, key); err == nil && !ok {
			return nil
		}
	}
	return end(c.netbox, ctx, key)
}

// Resolve implements Allocator.
func (c *combined) Resolve(ctx context.Context, p Pool) (Pool, error) {
	keeper, err := c.keeper(p)
	if err != nil {
		return p, err
	}
	return keeper.Resolve(ctx, p)
}

// Audit implements Allocator.
func (c *combined) Audit(ctx context.Context, pools []Pool) (Report, error) {
	report, err := c.inline.Audit(ctx, nil)
	if err != nil || c.netbox == nil {
		return report, err
	}
	more, err := c.netbox.Audit(ctx, slices.DeleteFunc(slices.Clone(pools), func(p Pool) bool { return !p.NetBox() }))
	more.Claims = append(report.Claims, more.Claims...)
	return more, err
}

// List implements Allocator.
func (c *combined) List(ctx context.Context) ([]Claim, error) {
	claims, err := c.inline.List(ctx)
	if err != nil || c.netbox == nil {
		return claims, err
	}
	more, err := c.netbox.List(ctx)
	if err != nil {
		return nil, err
	}
	return append(claims, more...), nil
}

// Usage implements Allocator.
func (c *combined) Usage(ctx context.Context, p Pool) (map[Family]Usage, error) {
	keeper, err := c.keeper(p)
	if err != nil {
		return nil, err
	}
	return keeper.Usage(ctx, p)
}

// Known implements Knower.
func (c *combined) Known(ctx context.Context, key Key) (Claim, bool, error) {
	holder, _, claim, err := c.holder(ctx, []Key{key})
	return claim, holder != nil && err == nil, err
}

// known looks for the claim of a key, without a remote call where that is sure.
func known(ctx context.Context, a Allocator, key Key) (Claim, bool, error) {
	if k, ok := a.(Knower); ok {
		return k.Known(ctx, key)
	}
	claims, err := a.Find(ctx, key.Namespace, key.Service)
	if err != nil {
		return Claim{}, false, err
	}
	for _, c := range claims {
		if c.Key == key {
			return c, true, nil
		}
	}
	return Claim{}, false, nil
}

func names(pools []Pool) []string {
	out := make([]string, len(pools))
	for i, p := range pools {
		out[i] = p.Name
	}
	return out
}
