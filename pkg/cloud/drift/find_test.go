// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package drift

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/bm-ccm/bm-ccm/pkg/cloud/service/servicetest"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

func groupClaim(key, addr string) ipam.Claim {
	c := claimFor("x", addr)
	c.Key = ipam.GroupKey("lab", "default", key, c.Key.Family)
	return c
}

func claimFor(name, addr string) ipam.Claim {
	a := netip.MustParseAddr(addr)
	return ipam.Claim{Key: ipam.Key{Cluster: "lab", Namespace: "default", Service: name, Family: ipam.FamilyOf(a)}, Addr: a}
}

func TestFind(t *testing.T) {
	reserved := claimFor("web", "192.0.2.1")
	reserved.Reserved = true
	inGroup := func(name string, edit ...func(*corev1.Service)) *corev1.Service {
		return servicetest.Served(name, append([]func(*corev1.Service){servicetest.Sharing("k")}, edit...)...)
	}
	web := func(addrs ...string) []*corev1.Service {
		return []*corev1.Service{servicetest.Served("web", servicetest.WithAddrs(addrs...))}
	}
	tests := []struct {
		name     string
		claims   []ipam.Claim
		services []*corev1.Service
		want     []string // "kind service address"
	}{
		{"as recorded", []ipam.Claim{claimFor("web", "192.0.2.1")}, web("192.0.2.1"), nil},
		{"waiting", nil, web(), nil},
		{"wiped", []ipam.Claim{claimFor("web", "192.0.2.1")}, web(), []string{"drifted web 192.0.2.1"}},
		{"one family of two", []ipam.Claim{claimFor("web", "192.0.2.1"), claimFor("web", "2001:db8::1")}, web("192.0.2.1"), []string{"drifted web 2001:db8::1"}},
		{"another address", []ipam.Claim{claimFor("web", "192.0.2.1")}, web("192.0.2.9"), []string{"moved web 192.0.2.9"}},
		{"recorded for nobody", nil, web("192.0.2.9"), []string{"unrecorded web 192.0.2.9"}},
		{"recorded for another one", []ipam.Claim{claimFor("gone", "192.0.2.9")}, web("192.0.2.9"), []string{"unrecorded web 192.0.2.9"}},
		{"recorded twice, one of them is in use", []ipam.Claim{claimFor("web", "192.0.2.1"), claimFor("web", "192.0.2.2")}, web("192.0.2.1"), nil},
		{"gone", []ipam.Claim{claimFor("web", "192.0.2.1")}, nil, []string{"orphan web 192.0.2.1"}},
		{"on its way out", []ipam.Claim{claimFor("web", "192.0.2.1")}, []*corev1.Service{servicetest.Served("web", servicetest.WithAddrs("192.0.2.1"), servicetest.Deleted)}, nil},
		{"of another class now", []ipam.Claim{claimFor("web", "192.0.2.1")}, []*corev1.Service{servicetest.Served("web", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP })}, []string{"orphan web 192.0.2.1"}},
		{"reserved, no such Service", []ipam.Claim{reserved}, nil, nil},
		{"reserved for who waits", []ipam.Claim{reserved}, web(), []string{"drifted web 192.0.2.1"}},
		{"reserved, the Service has another one", []ipam.Claim{reserved}, web("192.0.2.9"), []string{"moved web 192.0.2.9"}},
		{"a group", []ipam.Claim{groupClaim("k", "192.0.2.1")}, []*corev1.Service{inGroup("a", servicetest.WithAddrs("192.0.2.1"), servicetest.WithPort(80)), inGroup("b", servicetest.WithAddrs("192.0.2.1"), servicetest.WithPort(443))}, nil},
		{"a group without members", []ipam.Claim{groupClaim("k", "192.0.2.1")}, nil, []string{"orphan +k 192.0.2.1"}},
		{"a group that somebody waits for", []ipam.Claim{groupClaim("k", "192.0.2.1")}, []*corev1.Service{inGroup("a", servicetest.WithPort(80))}, []string{"drifted a 192.0.2.1"}},
		{"who does not fit is not told again", []ipam.Claim{groupClaim("k", "192.0.2.1")}, []*corev1.Service{inGroup("a", servicetest.WithAddrs("192.0.2.1"), servicetest.WithPort(80)), inGroup("b", servicetest.WithPort(80))}, nil},
		{"a group whose claim is gone", nil, []*corev1.Service{inGroup("a", servicetest.WithAddrs("192.0.2.1"), servicetest.WithPort(80))}, []string{"unrecorded a 192.0.2.1"}},
		{"a group that was moved", []ipam.Claim{groupClaim("k", "192.0.2.7")}, []*corev1.Service{inGroup("a", servicetest.WithAddrs("192.0.2.1"), servicetest.WithPort(80))}, []string{"moved a 192.0.2.1"}},
		{"who left is still to move", []ipam.Claim{groupClaim("k", "192.0.2.1")}, []*corev1.Service{servicetest.Served("a", servicetest.WithAddrs("192.0.2.1"))}, []string{"unrecorded a 192.0.2.1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, d := range Find(ipam.Report{Claims: tt.claims}, tt.services, "") {
				got = append(got, string(d.Kind)+" "+d.Name+" "+d.Addr.String())
				if d.Namespace != "default" || d.Text == "" {
					t.Errorf("%+v", d)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestFindHoldsTheFindings(t *testing.T) {
	f := ipam.Finding{Kind: ipam.DuplicateClaim, Key: claimFor("web", "192.0.2.1").Key, Addr: netip.MustParseAddr("192.0.2.1"), Text: "clear one of them"}
	got := Find(ipam.Report{Findings: []ipam.Finding{f}}, nil, "")
	if len(got) != 1 || got[0].String() != "duplicate-claim\tdefault/web\t192.0.2.1\tclear one of them" {
		t.Errorf("%v", got)
	}
	if s := (ipam.Finding{Kind: "same-cluster-name", Text: "rename"}).String(); s != "same-cluster-name\t-\t-\trename" {
		t.Error(s)
	}
}
