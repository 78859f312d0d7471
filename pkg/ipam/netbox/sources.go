// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// claimAny takes the next free address of the first prefix that has one.
func (a *Allocator) claimAny(ctx context.Context, r ipam.Request) (record, error) {
	exhausted := &ipam.ExhaustedError{Family: r.Key.Family}
	for _, p := range r.Pools {
		prefixes, err := a.prefixesOf(ctx, p, r.Key.Family)
		if err != nil {
			return record{}, err
		}
		for _, info := range prefixes {
			got, err := a.waiting.claim(ctx, info, a.item(r, r.Key.String()))
			if !errors.Is(err, errFull) {
				return got, err
			}
		}
		exhausted.Pools = append(exhausted.Pools, fullSentence(p.Name, prefixes))
	}
	return record{}, exhausted
}

// prefixesOf resolves the prefixes of a pool that are of a family.
func (a *Allocator) prefixesOf(ctx context.Context, p ipam.Pool, f ipam.Family) ([]prefixInfo, error) {
	var out []prefixInfo
	if !p.NetBox() {
		return nil, &ipam.ConfigError{Problem: fmt.Sprintf("pool %q lists its addresses itself: NetBox keeps no claims of it", p.Name)}
	}
	ranges, err := p.Ranges()
	if err != nil {
		return nil, err
	}
	for i, rg := range ranges {
		if ipam.FamilyOf(rg.From()) != f {
			continue
		}
		info, err := a.sources.find(ctx, p, i)
		if err != nil {
			return nil, err
		}
		out = append(out, info)
	}
	return out, nil
}

func fullSentence(pool string, prefixes []prefixInfo) string {
	var total int64
	where := make([]string, len(prefixes))
	for i, p := range prefixes {
		total = addUp(total, p.capacity())
		where[i] = p.String()
	}
	return fmt.Sprintf("pool %q: 0 of %d addresses free in %s", pool, total, strings.Join(where, ", "))
}

// prefixWith finds the prefix that holds an address.
func (a *Allocator) prefixWith(ctx context.Context, addr netip.Addr, pools []ipam.Pool) (prefixInfo, error) {
	names := make([]string, len(pools))
	for n, p := range pools {
		names[n] = p.Name
		ranges, err := p.Ranges()
		if err != nil {
			return prefixInfo{}, err
		}
		for i, rg := range ranges {
			if p.NetBox() && rg.Contains(addr) {
				return a.sources.find(ctx, p, i)
			}
		}
	}
	return prefixInfo{}, &ipam.NotInPoolsError{Addr: addr, Pools: names}
}

// Resolve implements ipam.Allocator.
func (a *Allocator) Resolve(_ context.Context, p ipam.Pool) (ipam.Pool, error) { return p, nil }

// Usage implements ipam.Allocator. It costs one request per prefix.
func (a *Allocator) Usage(ctx context.Context, p ipam.Pool) (map[ipam.Family]ipam.Usage, error) {
	out := map[ipam.Family]ipam.Usage{}
	for i := range p.Spec.NetBox.Prefixes {
		info, err := a.sources.find(ctx, p, i)
		if err != nil {
			return nil, err
		}
		used, err := a.client.countAddresses(ctx, info)
		if err != nil {
			return nil, err
		}
		u := out[ipam.FamilyOf(info.prefix.Addr())]
		free := max(info.capacity()-used, 0)
		u = ipam.Usage{Capacity: addUp(u.Capacity, info.capacity()), Used: addUp(u.Used, used), Free: addUp(u.Free, free)}
		out[ipam.FamilyOf(info.prefix.Addr())] = u
	}
	return out, nil
}

// addUp adds counts and stays at 2^63-1.
func addUp(a, b int64) int64 {
	if sum := a + b; sum >= 0 {
		return sum
	}
	return 1<<63 - 1
}
