// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package drift

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/component-base/metrics/testutil"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/service/servicetest"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

func netboxPool(name, prefix string) ipam.Pool {
	return ipam.Pool{Name: name, Spec: v1alpha1.AddressPoolSpec{NetBox: &v1alpha1.NetBoxSource{Prefixes: []v1alpha1.NetBoxPrefix{{Prefix: prefix}}}}}
}

func TestFindingsAreReportedWhereTheyBelong(t *testing.T) {
	pools := []ipam.Pool{netboxPool("a", "203.0.113.0/24"), netboxPool("b", "198.51.100.0/24"), {Name: "list", Spec: v1alpha1.AddressPoolSpec{Addresses: []string{"203.0.113.0/24"}}}}
	services := []*corev1.Service{
		servicetest.Served("web", servicetest.WithAddrs("203.0.113.1")), servicetest.Served("db", servicetest.WithAddrs("203.0.113.2")), servicetest.Served("s1", servicetest.Sharing("k")), servicetest.Served("s2", servicetest.Sharing("k")),
	}
	at := func(kind ipam.FindingKind, key ipam.Key, addr string) ipam.Finding {
		f := ipam.Finding{Kind: kind, Key: key, Text: "odd"}
		if addr != "" {
			f.Addr = netip.MustParseAddr(addr)
		}
		return f
	}
	for _, tt := range []struct {
		name            string
		f               ipam.Finding
		services, pools []string
	}{
		{"by claim", at(ipam.ForeignOwner, claimFor("db", "203.0.113.9").Key, "203.0.113.9"), []string{"db"}, []string{"a"}},
		{"by address", at(ipam.DuplicateAddress, ipam.Key{}, "203.0.113.1"), []string{"web"}, []string{"a"}},
		{"a group", at(ipam.DuplicateClaim, groupClaim("k", "198.51.100.1").Key, "198.51.100.1"), []string{"s1", "s2"}, []string{"b"}},
		{"the cluster's name", at(ipam.SameClusterName, ipam.Key{}, ""), nil, []string{"a", "b"}},
		{"nobody's", at(ipam.BadClaim, ipam.Key{}, "192.0.2.1"), nil, nil},
	} {
		var names []string
		for _, svc := range concernedServices(tt.f, services) {
			names = append(names, svc.Name)
		}
		if diff := cmp.Diff([][]string{tt.services, tt.pools}, [][]string{names, concernedPools(tt.f, pools)}); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
	if r := Reason(ipam.SameClusterName); r != "SameClusterName" {
		t.Error(r)
	}
}

func TestMetrics(t *testing.T) {
	count(ipam.Report{Claims: make([]ipam.Claim, 4)}, []ipam.Finding{{Kind: ipam.Moved}, {Kind: ipam.Drifted}, {Kind: ipam.BadClaim}, {Kind: ipam.Moved}})
	const want = `
# HELP bm_ccm_claims [ALPHA] Addresses that are recorded for Services of this cluster, as of the last comparison with the Services.
# TYPE bm_ccm_claims gauge
bm_ccm_claims 4
# HELP bm_ccm_ipam_conflicts [ALPHA] IPAM conflicts that need manual action, by kind, as of the last comparison with the Services.
# TYPE bm_ccm_ipam_conflicts gauge
bm_ccm_ipam_conflicts{kind="bad-claim"} 1
bm_ccm_ipam_conflicts{kind="duplicate-address"} 0
bm_ccm_ipam_conflicts{kind="duplicate-claim"} 0
bm_ccm_ipam_conflicts{kind="foreign-owner"} 0
bm_ccm_ipam_conflicts{kind="moved"} 2
bm_ccm_ipam_conflicts{kind="same-cluster-name"} 0
`
	if err := testutil.GatherAndCompare(legacyregistry.DefaultGatherer, strings.NewReader(want), "bm_ccm_claims", "bm_ccm_ipam_conflicts"); err != nil {
		t.Error(err)
	}
}
