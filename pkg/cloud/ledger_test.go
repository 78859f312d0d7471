// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

func claimFor(name, addr string) ipam.Claim {
	a := netip.MustParseAddr(addr)
	return ipam.Claim{Key: ipam.Key{Cluster: "lab", Namespace: "default", Service: name, Family: ipam.FamilyOf(a)}, Addr: a}
}

func TestOrphansWaitForTheGracePeriod(t *testing.T) {
	now := time.Now()
	l := &ledger{now: func() time.Time { return now }}
	gone, kept := claimFor("gone", "192.0.2.1"), claimFor("kept", "192.0.2.2")
	live := map[string]*corev1.Service{"default/kept": served("kept")}
	claims := []ipam.Claim{gone, kept}
	if due := l.orphans(claims, live); len(due) != 0 {
		t.Errorf("freed at first sight: %v", due)
	}
	now = now.Add(orphanGrace - time.Second)
	if due := l.orphans(claims, live); len(due) != 0 {
		t.Errorf("freed before the grace period: %v", due)
	}
	// The Service comes back and goes again: the clock starts anew.
	if due := l.orphans(claims, map[string]*corev1.Service{"default/kept": served("kept"), "default/gone": served("gone")}); len(due) != 0 {
		t.Error(due)
	}
	now = now.Add(time.Second)
	if due := l.orphans(claims, live); len(due) != 0 {
		t.Errorf("the clock did not start anew: %v", due)
	}
	now = now.Add(orphanGrace)
	if diff := cmp.Diff([]ipam.Key{gone.Key}, l.orphans(claims, live)); diff != "" {
		t.Error(diff)
	}
}

func TestDrifted(t *testing.T) {
	with := func(name string, addrs ...string) *corev1.Service {
		return served(name, func(s *corev1.Service) {
			for _, a := range addrs {
				s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: a})
			}
		})
	}
	tests := []struct {
		name    string
		svc     *corev1.Service
		claims  []ipam.Claim
		drifted bool
	}{
		{"as recorded", with("web", "192.0.2.1"), []ipam.Claim{claimFor("web", "192.0.2.1")}, false},
		{"waiting", with("web"), nil, false},
		{"wiped", with("web"), []ipam.Claim{claimFor("web", "192.0.2.1")}, true},
		{"another address", with("web", "192.0.2.9"), []ipam.Claim{claimFor("web", "192.0.2.1")}, true},
		{"not recorded", with("web", "192.0.2.9"), nil, true},
		{"one family of two", with("web", "192.0.2.1"), []ipam.Claim{claimFor("web", "192.0.2.1"), claimFor("web", "2001:db8::1")}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := drifted(tt.claims, map[string]*corev1.Service{"default/web": tt.svc})
			if (len(got) == 1) != tt.drifted {
				t.Errorf("drifted: %v", got)
			}
		})
	}
}

func TestInlineClaimsLeaveNetBoxAlone(t *testing.T) {
	nb := &v1alpha1.AddressPool{Spec: v1alpha1.AddressPoolSpec{NetBox: &v1alpha1.NetBoxSource{Prefixes: []v1alpha1.NetBoxPrefix{{Prefix: "203.0.113.0/24"}}}}}
	assigned := func(name, addr string) *corev1.Service {
		return served(name, func(s *corev1.Service) { s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: addr}} })
	}
	got := inlineClaims("lab", []*corev1.Service{assigned("a", "192.0.2.1"), assigned("b", "203.0.113.7"), served("c")}, []*v1alpha1.AddressPool{nb})
	want := claimFor("a", "192.0.2.1")
	want.Owner.UID = "uid-a"
	if diff := cmp.Diff([]ipam.Claim{want}, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

func TestPoolStatus(t *testing.T) {
	pool := inlinePool("v4", "192.0.2.0/30")
	full := poolStatus(pool, map[ipam.Family]ipam.Usage{ipam.IPv4: {Capacity: 4, Used: 4}}, nil)
	if full.IPv4.Used != 4 || full.IPv6 != nil || full.Source != "inline" {
		t.Errorf("%+v", full)
	}
	checkCondition(t, full, v1alpha1.ConditionReady, "True")
	checkCondition(t, full, v1alpha1.ConditionExhausted, "True")

	pool.Spec = v1alpha1.AddressPoolSpec{NetBox: &v1alpha1.NetBoxSource{}}
	pool.Status = full
	down := poolStatus(pool, nil, &ipam.UnavailableError{Doing: "counting", Err: errOutage})
	if down.IPv4 == nil || down.IPv4.Used != 4 {
		t.Error("an outage wiped the last known counts")
	}
	checkCondition(t, down, v1alpha1.ConditionReady, "False")
	checkCondition(t, down, v1alpha1.ConditionNetBoxReachable, "False")

	wrong := poolStatus(pool, nil, &ipam.ConfigError{Problem: "no such prefix"})
	checkCondition(t, wrong, v1alpha1.ConditionReady, "False")
	checkCondition(t, wrong, v1alpha1.ConditionNetBoxReachable, "True")
}

func TestWaker(t *testing.T) {
	var list waitingList
	for _, name := range []string{"a", "b", "c"} {
		list.add(served(name))
	}
	list.remove(served("b"))
	woken := make(chan string, 3)
	w := newWaker(&list, func(key string) bool { woken <- key; return true })
	go w.run(t.Context())
	w.one()
	first := <-woken
	w.all()
	if second := <-woken; second == first || second == "default/b" {
		t.Errorf("woken: %s, %s", first, second)
	}
}

var errOutage = errors.New("connection refused")

func checkCondition(t *testing.T, s v1alpha1.AddressPoolStatus, kind, want string) {
	t.Helper()
	c := meta.FindStatusCondition(s.Conditions, kind)
	if c == nil || string(c.Status) != want || c.Message == "" {
		t.Errorf("%s: %+v, want %s with a message", kind, c, want)
	}
}
