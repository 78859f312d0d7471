// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package provision

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/schema"
)

// checkPools resolves the pools in NetBox and counts their addresses, by the
// allocator that claims would go through: what it says here is what a Service
// would get to hear.
func (c *checker) checkPools(ctx context.Context) []Finding {
	var found []Finding
	pools := slices.Clone(c.want.AddressPools)
	for i, p := range pools {
		if !p.NetBox() {
			continue
		}
		what := "pool " + p.Name
		resolved, err := c.pools.Resolve(ctx, p)
		if err == nil {
			err = resolved.Problem
		}
		if err != nil {
			found = append(found, failed(what, err))
			continue
		}
		pools[i] = resolved // for overlaps, which needs the addresses
		usage, err := c.pools.Usage(ctx, resolved)
		if err != nil {
			found = append(found, failed(what, err))
			continue
		}
		found = append(found, usageFinding(what, usage))
		if p.Spec.NetBox.Reserved != nil {
			found = append(found, c.checkReserved(ctx, what, p.Spec.NetBox.Reserved.Tenant))
		}
	}
	return append(found, c.overlaps(ctx, pools)...)
}

// checkReserved tries whether the token may take what is free of a tenant's
// reserved addresses, which takes a permission of its own.
func (c *checker) checkReserved(ctx context.Context, what, tenant string) Finding {
	// Only one that no cluster has tells anything: see schema.Access.
	what += ", right to take"
	r, err := c.sample(ctx, url.Values{"tenant": {tenant}, "status": {"reserved"}, "cf_" + schema.FieldCluster + "__empty": {"true"}},
		func(r address) bool { return r.cluster() == "" && r.Status.Value == "reserved" })
	if err != nil {
		return failed(what, err)
	}
	if r == nil {
		return Finding{ResultSkip, what, fmt.Sprintf("not tried: tenant %s has no reserved address without a cluster", tenant)}
	}
	may, err := c.mayChange(ctx, *r)
	switch {
	case err != nil:
		return failed(what, err)
	case may:
		return Finding{ResultOK, what, fmt.Sprintf("the token may change NetBox address %d (%s) of tenant %s", r.ID, r.addr(), tenant)}
	}
	return Finding{ResultFail, what, fmt.Sprintf(
		"the token may not change NetBox address %d (%s) of tenant %s: run bm-ccm netbox init --reserved-tenant %s", r.ID, r.addr(), tenant, tenant)}
}

// usageFinding says how full a pool is, and warns of one that is full.
func usageFinding(what string, usage map[ipam.Family]ipam.Usage) Finding {
	result := ResultOK
	var parts []string
	for _, family := range []ipam.Family{ipam.IPv4, ipam.IPv6} {
		u, ok := usage[family]
		if !ok {
			continue
		}
		part := fmt.Sprintf("%s: %d addresses, %d used, %d free", family, u.Capacity, u.Used, u.Free)
		if u.Free == 0 {
			result = ResultWarn
			part += ": add a prefix or free addresses"
		}
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		return Finding{ResultFail, what, "NetBox has nothing that this pool describes: correct its spec.netbox, or add it in NetBox"}
	}
	return Finding{result, what, strings.Join(parts, "; ")}
}

// overlaps names the pools that share addresses. Two pools in NetBox may, as NetBox
// gives each address out once. It is a mistake where nobody watches over both: a
// pool in the cluster and one in NetBox, or two VRFs.
func (c *checker) overlaps(ctx context.Context, pools []ipam.Pool) []Finding {
	var found []Finding
	for i, p := range pools {
		for _, q := range pools[i+1:] {
			where := sharedRange(p, q)
			if where == "" {
				continue
			}
			f := Finding{ResultWarn, "pools " + p.Name + " and " + q.Name, fmt.Sprintf("both hold %s: pools overlap: the first pool in the class's order wins", where)}
			switch {
			// The cluster gives out the addresses of its own pools without asking NetBox.
			case p.NetBox() != q.NetBox():
				f.Result = ResultFail
				f.Detail = fmt.Sprintf("both hold %s, and only one of them is in NetBox: two Services could get one address; take it out of one pool", where)
			case p.NetBox() && c.pools.SharedAcrossVRFs(ctx, p, q):
				f.Result = ResultFail
				f.Detail = fmt.Sprintf("both hold %s, in different VRFs: two Services could get one address; take it out of one pool", where)
			}
			found = append(found, f)
		}
	}
	return found
}

// sharedRange names the addresses that two pools have in common; "" if none. A pool
// that cannot be resolved has none: what is wrong is reported with it.
func sharedRange(p, q ipam.Pool) string {
	ours, err1 := p.Ranges()
	theirs, err2 := q.Ranges()
	if errors.Join(err1, err2) != nil {
		return ""
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
