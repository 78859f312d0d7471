// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/schema"
)

// Audit implements ipam.Allocator. It looks for what NetBox does not prevent: the
// web interface takes no lock, and neither claims nor addresses have a unique
// constraint in the database. It costs three lists: the records of this
// cluster, those with a claim of it, and those in the pools.
func (a *Allocator) Audit(ctx context.Context, pools []ipam.Pool) (ipam.Report, error) {
	ours, err := a.reread(ctx)
	if err != nil {
		return ipam.Report{}, err
	}
	claims := a.known()
	named, err := a.api.addressesByClaimOf(ctx, a.cluster)
	if err != nil {
		return ipam.Report{}, err
	}
	var inPools []record
	if prefixes := prefixesIn(pools); len(prefixes) > 0 {
		if inPools, err = a.api.addressesIn(ctx, prefixes); err != nil {
			return ipam.Report{}, err
		}
	}
	return ipam.Report{Claims: claims, Findings: findings(a.cluster, a.clusterUID, distinct(ours, named), inPools)}, nil
}

// prefixesIn returns the prefixes that the addresses of pools make up. Those
// of a pool with a mistake are left out: its status tells of it.
func prefixesIn(pools []ipam.Pool) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range pools {
		ranges, err := p.Ranges()
		if err != nil {
			continue
		}
		for _, r := range ranges {
			out = append(out, r.Prefixes()...)
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}

// distinct unites records of several lists.
func distinct(lists ...[]record) []record {
	byID := map[int64]record{}
	for _, list := range lists {
		for _, r := range list {
			byID[r.id] = r
		}
	}
	out := make([]record, 0, len(byID))
	for _, r := range byID {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b record) int { return cmp.Compare(a.id, b.id) })
	return out
}

// findings says what is wrong with the records that name a cluster; others are
// the records in its pools, whoever they belong to.
func findings(cluster, uid string, named, others []record) []ipam.Finding {
	var out []ipam.Finding
	byClaim := map[string][]record{}
	for _, r := range named {
		if r.claim != "" {
			byClaim[r.claim] = append(byClaim[r.claim], r)
		}
		if f, ok := inspect(cluster, uid, r); ok {
			out = append(out, f)
		}
	}
	for _, same := range byClaim {
		if len(same) > 1 {
			out = append(out, remark(ipam.DuplicateClaim, same[0], "claim %s stands on %s: clear %s on all but the one in use",
				same[0].claim, recordNames(same), schema.FieldClaim))
		}
	}
	out = append(out, duplicates(named, others)...)
	slices.SortFunc(out, func(x, y ipam.Finding) int {
		return cmp.Or(x.Addr.Compare(y.Addr), cmp.Compare(x.Kind, y.Kind))
	})
	return out
}

// inspect says what is wrong with one record by itself. The first that applies is
// what has to be corrected first.
func inspect(cluster, uid string, r record) (ipam.Finding, bool) {
	key, err := ipam.ParseKey(strings.TrimSuffix(r.claim, nextSuffix))
	mentions := err == nil && key.Cluster == cluster
	switch {
	case r.cluster != cluster && r.cluster != "" && mentions:
		return remark(ipam.ForeignOwner, r, "address %s (NetBox address %d) has claim %s but belongs to cluster %s: set %s to %s, or clear the claim",
			r.addr, r.id, r.claim, r.cluster, schema.FieldCluster, cluster), true
	case r.cluster != cluster:
		return ipam.Finding{}, false // by hand, for a Service that may come
	case r.clusterUID != "" && uid != "" && r.clusterUID != uid:
		return remark(ipam.SameClusterName, r, "address %s (NetBox address %d) was taken by another cluster that is also named %s: give one of the two another clusterName",
			r.addr, r.id, cluster), true
	case r.claim == "" && r.serviceUID == "" && r.status == statusReserved:
		return ipam.Finding{}, false // a reserved address that was given back
	case r.claim == "" && r.serviceUID == "":
		return remark(ipam.BadClaim, r, "address %s (NetBox address %d) names cluster %s but no Service: set %s or clear %s",
			r.addr, r.id, cluster, schema.FieldClaim, schema.FieldCluster), true
	case r.claim == "":
		return remark(ipam.BadClaim, r, "address %s (NetBox address %d) has lost its claim: set %s again, or delete the record if no Service has the address",
			r.addr, r.id, schema.FieldClaim), true
	case !mentions:
		return remark(ipam.BadClaim, r, "address %s (NetBox address %d) has claim %q: write %s/<namespace>/<service>/<ipv4|ipv6>", r.addr, r.id, r.claim, cluster), true
	case ipam.FamilyOf(r.addr) != key.Family:
		return remark(ipam.BadClaim, r, "address %s (NetBox address %d) has claim %s, which is for the other IP family: correct %s", r.addr, r.id, r.claim, schema.FieldClaim), true
	}
	return ipam.Finding{}, false
}

// duplicates finds addresses with several records, one of which is a claim. Two
// records in different VRFs are two addresses to NetBox; where pools have both,
// netbox check reports it.
func duplicates(named, others []record) []ipam.Finding {
	type addrInVRF struct {
		addr netip.Addr
		vrf  int64
	}
	at := map[addrInVRF][]record{}
	for _, r := range distinct(named, others) {
		at[addrInVRF{r.addr, r.vrf}] = append(at[addrInVRF{r.addr, r.vrf}], r)
	}
	var out []ipam.Finding
	for _, r := range named {
		same := at[addrInVRF{r.addr, r.vrf}]
		if len(same) > 1 && r.claim != "" {
			delete(at, addrInVRF{r.addr, r.vrf})
			out = append(out, remark(ipam.DuplicateAddress, r, "NetBox has address %s several times (%s): delete all but the one of claim %s", r.addr, recordNames(same), r.claim))
		}
	}
	return out
}

// recordNames names records.
func recordNames(records []record) string {
	out := make([]string, len(records))
	for i, r := range records {
		out[i] = fmt.Sprintf("NetBox address %d (%s)", r.id, r.addr)
	}
	return strings.Join(out, " and ")
}

// remark is a finding about a record, with its key where its claim has one.
func remark(kind ipam.FindingKind, r record, format string, args ...any) ipam.Finding {
	f := ipam.Finding{Kind: kind, Addr: r.addr, Text: fmt.Sprintf(format, args...)}
	if key, err := ipam.ParseKey(strings.TrimSuffix(r.claim, nextSuffix)); err == nil {
		f.Key = key
	}
	return f
}
