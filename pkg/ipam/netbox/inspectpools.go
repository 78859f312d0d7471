// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox/schema"
)

// inspectPools resolves the pools in NetBox and counts their addresses.
func (a *Allocator) inspectPools(ctx context.Context, pools []ipam.Pool) []Line {
	var lines []Line
	pools = slices.Clone(pools)
	for i, p := range pools {
		if !p.NetBox() {
			continue
		}
		what := "pool " + p.Name
		resolved, err := a.Resolve(ctx, p)
		if err == nil {
			err = resolved.Problem
		}
		if err != nil {
			lines = append(lines, failed(what, err))
			continue
		}
		pools[i] = resolved
		usage, err := a.Usage(ctx, resolved)
		if err != nil {
			lines = append(lines, failed(what, err))
			continue
		}
		lines = append(lines, usageLine(what, usage))
		if p.Spec.NetBox.Reserved != nil {
			lines = append(lines, a.inspectStock(ctx, what, p.Spec.NetBox.Reserved.Tenant))
		}
	}
	return append(lines, a.overlaps(ctx, pools)...)
}

// inspectStock looks whether the token may take what is free of a tenant's
// reserved addresses.
func (a *Allocator) inspectStock(ctx context.Context, what, tenant string) Line {
	what += ", right to take"
	r, err := a.sample(ctx, url.Values{"tenant": {tenant}, "status": {statusReserved}, "cf_" + schema.FieldCluster + "__empty": {"true"}},
		func(r record) bool { return r.cluster == "" && r.status == statusReserved })
	if err != nil {
		return failed(what, err)
	}
	if r == nil {
		return Line{ResultSkip, what, fmt.Sprintf("not tried: tenant %s has no reserved address without a cluster", tenant)}
	}
	may, err := a.client.mayChange(ctx, *r)
	switch {
	case err != nil:
		return failed(what, err)
	case may:
		return Line{ResultOK, what, fmt.Sprintf("the token may change NetBox address %d (%s) of tenant %s", r.id, r.addr, tenant)}
	}
	return Line{ResultFail, what, fmt.Sprintf(
		"the token may not change NetBox address %d (%s) of tenant %s: run bm-ccm netbox init --reserved-tenant %s", r.id, r.addr, tenant, tenant)}
}

func usageLine(what string, usage map[ipam.Family]ipam.Usage) Line {
	line := Line{Result: ResultOK, What: what}
	var parts []string
	for _, f := range []ipam.Family{ipam.IPv4, ipam.IPv6} {
		u, ok := usage[f]
		if !ok {
			continue
		}
		parts = append(parts, fmt.Sprintf("%s: %d addresses, %d used, %d free", f, u.Capacity, u.Used, u.Free))
		if u.Free == 0 {
			line.Result = ResultWarn
			parts[len(parts)-1] += ": add a prefix or free addresses"
		}
	}
	line.Detail = strings.Join(parts, "; ")
	if len(parts) == 0 {
		line.Result, line.Detail = ResultFail, "NetBox has nothing that this pool describes: correct its spec.netbox, or add it in NetBox"
	}
	return line
}

// overlaps names the pools that share addresses.
func (a *Allocator) overlaps(ctx context.Context, pools []ipam.Pool) []Line {
	var lines []Line
	for i, p := range pools {
		for _, q := range pools[i+1:] {
			where := sharedRange(p, q)
			if where == "" {
				continue
			}
			line := Line{ResultWarn, "pools " + p.Name + " and " + q.Name, fmt.Sprintf("both hold %s: which one gives out an address is a matter of order", where)}
			switch {
			case p.NetBox() != q.NetBox():
				line.Result = ResultFail
				line.Detail = fmt.Sprintf("both hold %s, and only one of them is in NetBox: two Services could get one address; take it out of one pool", where)
			case p.NetBox() && a.acrossVRFs(ctx, p, q):
				line.Result = ResultFail
				line.Detail = fmt.Sprintf("both hold %s, in different VRFs: two Services could get one address; take it out of one pool", where)
			}
			lines = append(lines, line)
		}
	}
	return lines
}

// acrossVRFs tells whether NetBox would hand out an address once for each pool.
func (a *Allocator) acrossVRFs(ctx context.Context, p, q ipam.Pool) bool {
	ours, err1 := a.sourcesOf(ctx, p, foundTTL)
	theirs, err2 := a.sourcesOf(ctx, q, foundTTL)
	if errors.Join(err1, err2) != nil {
		return false // told with the pool
	}
	_, _, shared := sharedAcrossVRFs(slices.Concat(ours, theirs))
	return shared
}

func sharedRange(p, q ipam.Pool) string {
	ours, err1 := p.Ranges()
	theirs, err2 := q.Ranges()
	if errors.Join(err1, err2) != nil {
		return "" // told elsewhere
	}
	for _, a := range ours {
		for _, b := range theirs {
			if !a.Overlaps(b) {
				continue
			}
			if a.From().Less(b.From()) {
				return b.String()
			}
			return a.String()
		}
	}
	return ""
}
