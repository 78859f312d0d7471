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

// Combine makes one Store of the one for pools in NetBox and the one for pools
// that list their addresses. Without NetBox, netbox is nil: a pool that needs it
// then gives a *ConfigError.
//
// A claim stays with the store that has it, whatever pools the Service may use
// later; only an asked-for address moves it to the other.
func Combine(netbox, inline Store) Store {
	return &combined{netbox: netbox, inline: inline}
}

type combined struct {
	netbox, inline Store
}

// Claim implements Claims.
func (c *combined) Claim(ctx context.Context, r Request) (Claim, error) {
	current, other, existing, err := c.storeOfClaim(ctx, append([]Key{r.Key}, r.Former...))
	if err != nil && (r.Held.IsValid() || slices.ContainsFunc(r.Pools, Pool.NetBox)) {
		return Claim{}, err
	}
	if current == nil {
		return c.claimNew(ctx, r)
	}
	if !r.Addr.IsValid() || r.Addr == existing.Addr {
		return current.Claim(ctx, c.only(r, current))
	}
	target, err := c.target(r.Addr, r.Pools)
	if err != nil {
		return Claim{}, err
	}
	if target == current {
		return current.Claim(ctx, c.only(r, current))
	}
	return moveClaim(ctx, existing.Key, c.only(r, other), current, other)
}

// moveClaim takes the asked-for address from another store before it releases
// the one that the Service has.
func moveClaim(ctx context.Context, old Key, r Request, from, to Store) (Claim, error) {
	claim, err := to.Claim(ctx, r)
	if err != nil {
		return Claim{}, err
	}
	if err := from.Release(ctx, old); err != nil {
		return Claim{}, fmt.Errorf("releasing the former address after claiming %s: %w", claim.Addr, err)
	}
	return claim, nil
}

// storeOfClaim finds the store that has a claim of the first of these keys that
// is claimed; other is the remaining store. Where a crash in the middle of a
// move left a claim with both, the inline one counts: it was restored from the
// Service's status, so it is what clients use.
func (c *combined) storeOfClaim(ctx context.Context, keys []Key) (current, other Store, existing Claim, err error) {
	for _, key := range keys {
		claim, ok, err := c.inline.Known(ctx, key)
		if err != nil {
			return nil, nil, Claim{}, err
		}
		if ok {
			return c.inline, c.netbox, claim, nil
		}
		if c.netbox == nil {
			continue
		}
		claim, ok, err = c.netbox.Known(ctx, key)
		if err != nil {
			return nil, nil, Claim{}, err
		}
		if ok {
			return c.netbox, c.inline, claim, nil
		}
	}
	return nil, nil, Claim{}, nil
}

// target returns the store whose pools hold an address.
func (c *combined) target(addr netip.Addr, pools []Pool) (Store, error) {
	for _, p := range pools {
		if p.Contains(addr) {
			return c.storeOf(p)
		}
	}
	return nil, &NotInPoolsError{Addr: addr, Pools: names(pools)}
}

// storeOf returns the store that keeps the claims of a pool.
func (c *combined) storeOf(p Pool) (Store, error) {
	if !p.NetBox() {
		return c.inline, nil
	}
	if c.netbox == nil {
		return nil, &ConfigError{Problem: fmt.Sprintf(
			"pool %q takes addresses from NetBox, but --cloud-config has no netbox section: add one with url and tokenFile", p.Name)}
	}
	return c.netbox, nil
}

// only narrows a request to the pools of one store.
func (c *combined) only(r Request, only Store) Request {
	r.Pools = slices.DeleteFunc(slices.Clone(r.Pools), func(p Pool) bool {
		store, err := c.storeOf(p)
		return err != nil || store != only
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
		store, err := c.storeOf(rest[0])
		if err != nil {
			return Claim{}, err
		}
		part := r
		part.Pools, rest = rest[:n], rest[n:]
		claim, err := store.Claim(ctx, part)
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

// Find implements Claims.
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

// Release implements Claims.
func (c *combined) Release(ctx context.Context, key Key) error {
	return c.release(ctx, key, Claims.Release)
}

// Retain implements Claims.
func (c *combined) Retain(ctx context.Context, key Key) error {
	return c.release(ctx, key, Claims.Retain)
}

// release takes a claim from its Service, in whatever store it is. how is Release
// or Retain.
func (c *combined) release(ctx context.Context, key Key, how func(Claims, context.Context, Key) error) error {
	_, inline, err := c.inline.Known(ctx, key)
	if err != nil {
		return err
	}
	if inline {
		if err := how(c.inline, ctx, key); err != nil {
			return err
		}
	}
	if c.netbox == nil {
		return nil
	}
	if inline {
		if _, ok, err := c.netbox.Known(ctx, key); err == nil && !ok {
			return nil
		}
	}
	return how(c.netbox, ctx, key)
}

// Resolve implements Pools.
func (c *combined) Resolve(ctx context.Context, p Pool) (Pool, error) {
	store, err := c.storeOf(p)
	if err != nil {
		return p, err
	}
	return store.Resolve(ctx, p)
}

// Audit implements Records.
func (c *combined) Audit(ctx context.Context, pools []Pool) (Report, error) {
	report, err := c.inline.Audit(ctx, nil)
	if err != nil || c.netbox == nil {
		return report, err
	}
	more, err := c.netbox.Audit(ctx, slices.DeleteFunc(slices.Clone(pools), func(p Pool) bool { return !p.NetBox() }))
	more.Claims = append(report.Claims, more.Claims...)
	return more, err
}

// List implements Records.
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

// Usage implements Pools.
func (c *combined) Usage(ctx context.Context, p Pool) (map[Family]Usage, error) {
	store, err := c.storeOf(p)
	if err != nil {
		return nil, err
	}
	return store.Usage(ctx, p)
}

// Known implements Claims.
func (c *combined) Known(ctx context.Context, key Key) (Claim, bool, error) {
	current, _, claim, err := c.storeOfClaim(ctx, []Key{key})
	return claim, current != nil && err == nil, err
}

func names(pools []Pool) []string {
	out := make([]string, len(pools))
	for i, p := range pools {
		out[i] = p.Name
	}
	return out
}
