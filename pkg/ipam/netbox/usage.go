// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"errors"

	"go4.org/netipx"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// Usage implements ipam.Allocator. What the pool describes is looked up anew;
// the addresses in it are counted with one request for each VRF and family.
// With an error that is about a part of the pool, it counts the rest.
func (a *Allocator) Usage(ctx context.Context, p ipam.Pool) (map[ipam.Family]ipam.Usage, error) {
	if p.NetBox() && p.Spec.NetBox.Reserved != nil {
		// One list has them all; nothing else of NetBox is theirs.
		records, err := a.sources.reservedPool(*p.Spec.NetBox.Reserved).records(ctx, p, 0)
		if err != nil {
			return nil, err
		}
		return usageOf(records, p.Spec.AvoidBuggyIPs), nil
	}
	sources, problem := a.sourcesOf(ctx, p, 0)
	if problem != nil && !errors.As(problem, new(*sourceError)) {
		return nil, problem
	}
	used, err := a.countUsed(ctx, sources)
	if err != nil {
		return nil, err
	}
	out := map[ipam.Family]ipam.Usage{}
	for _, f := range []ipam.Family{ipam.IPv4, ipam.IPv6} {
		part := ofFamily(sources, f)
		if len(part) == 0 {
			continue
		}
		capacity := ipam.Count(usableRanges(part), f, p.Spec.AvoidBuggyIPs)
		out[f] = ipam.Usage{Capacity: capacity, Used: used[f], Free: max(capacity-used[f], 0)}
	}
	return out, problem
}

// countUsed counts the records in sources, each once where they overlap. NetBox
// counts, by a list of one object; it has no other way that knows of overlaps.
func (a *Allocator) countUsed(ctx context.Context, sources []source) (map[ipam.Family]int64, error) {
	// A filter names one VRF, and NetBox compares networks of one family only.
	type group struct {
		vrf    int64
		family ipam.Family
	}
	sets := map[group]*netipx.IPSetBuilder{}
	for _, s := range sources {
		g := group{s.vrf, s.family()}
		if sets[g] == nil {
			sets[g] = &netipx.IPSetBuilder{}
		}
		sets[g].AddRange(s.all)
	}
	out := map[ipam.Family]int64{}
	for g, b := range sets {
		set, err := b.IPSet()
		if err != nil {
			return nil, err
		}
		n, err := a.api.countAddresses(ctx, set.Prefixes(), g.vrf)
		if err != nil {
			return nil, err
		}
		out[g.family] += n
	}
	return out, nil
}
