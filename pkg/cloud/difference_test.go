// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

func withStatus(addrs ...string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		for _, a := range addrs {
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: a})
		}
	}
}

func withPort(port int32) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.Ports = []corev1.ServicePort{{Port: port}} }
}

func groupClaim(key, addr string) ipam.Claim {
	c := claimFor("x", addr)
	c.Key = ipam.GroupKey("lab", "default", key, c.Key.Family)
	return c
}

func TestDifferences(t *testing.T) {
	reserved := claimFor("web", "192.0.2.1")
	reserved.Reserved = true
	inGroup := func(name string, edit ...func(*corev1.Service)) *corev1.Service {
		return served(name, append([]func(*corev1.Service){shares("k")}, edit...)...)
	}
	web := func(addrs ...string) []*corev1.Service { return []*corev1.Service{served("web", withStatus(addrs...))} }
	deleted := func(s *corev1.Service) { s.DeletionTimestamp = &metav1.Time{} }
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
		{"on its way out", []ipam.Claim{claimFor("web", "192.0.2.1")}, []*corev1.Service{served("web", withStatus("192.0.2.1"), deleted)}, nil},
		{"of another class now", []ipam.Claim{claimFor("web", "192.0.2.1")}, []*corev1.Service{served("web", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP })}, []string{"orphan web 192.0.2.1"}},
		{"reserved, no such Service", []ipam.Claim{reserved}, nil, nil},
		{"reserved for who waits", []ipam.Claim{reserved}, web(), []string{"drifted web 192.0.2.1"}},
		{"reserved, the Service has another one", []ipam.Claim{reserved}, web("192.0.2.9"), []string{"moved web 192.0.2.9"}},
		{"a group", []ipam.Claim{groupClaim("k", "192.0.2.1")}, []*corev1.Service{inGroup("a", withStatus("192.0.2.1"), withPort(80)), inGroup("b", withStatus("192.0.2.1"), withPort(443))}, nil},
		{"a group without members", []ipam.Claim{groupClaim("k", "192.0.2.1")}, nil, []string{"orphan +k 192.0.2.1"}},
		{"a group that somebody waits for", []ipam.Claim{groupClaim("k", "192.0.2.1")}, []*corev1.Service{inGroup("a", withPort(80))}, []string{"drifted a 192.0.2.1"}},
		{"who does not fit is not told again", []ipam.Claim{groupClaim("k", "192.0.2.1")}, []*corev1.Service{inGroup("a", withStatus("192.0.2.1"), withPort(80)), inGroup("b", withPort(80))}, nil},
		{"a group whose claim is gone", nil, []*corev1.Service{inGroup("a", withStatus("192.0.2.1"), withPort(80))}, []string{"unrecorded a 192.0.2.1"}},
		{"a group that was moved", []ipam.Claim{groupClaim("k", "192.0.2.7")}, []*corev1.Service{inGroup("a", withStatus("192.0.2.1"), withPort(80))}, []string{"moved a 192.0.2.1"}},
		{"who left is still to move", []ipam.Claim{groupClaim("k", "192.0.2.1")}, []*corev1.Service{served("a", withStatus("192.0.2.1"))}, []string{"unrecorded a 192.0.2.1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, d := range Differences(ipam.Report{Claims: tt.claims}, tt.services, "") {
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

func TestDifferencesHoldTheFindings(t *testing.T) {
	f := ipam.Finding{Kind: ipam.DuplicateClaim, Key: claimFor("web", "192.0.2.1").Key, Addr: netip.MustParseAddr("192.0.2.1"), Text: "clear one of them"}
	got := Differences(ipam.Report{Findings: []ipam.Finding{f}}, nil, "")
	if len(got) != 1 || got[0].String() != "duplicate-claim\tdefault/web\t192.0.2.1\tclear one of them" {
		t.Errorf("%v", got)
	}
	if s := (Difference{Kind: "same-cluster-name", Text: "rename"}).String(); s != "same-cluster-name\t-\t-\trename" {
		t.Error(s)
	}
}
