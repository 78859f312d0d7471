// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/inline"
)

func claimFor(name, addr string) ipam.Claim {
	a := netip.MustParseAddr(addr)
	return ipam.Claim{Key: ipam.Key{Cluster: "lab", Namespace: "default", Service: name, Family: ipam.FamilyOf(a)}, Addr: a}
}

func orphan(claim ipam.Claim) Difference {
	return Difference{Kind: Orphan, Namespace: claim.Key.Namespace, Name: claim.Key.Service, Addr: claim.Addr, Key: claim.Key}
}

func TestOrphansWaitForTheGracePeriod(t *testing.T) {
	now := time.Now()
	l := &ledger{now: func() time.Time { return now }}
	seen := []Difference{orphan(claimFor("gone", "192.0.2.1")), {Kind: Drifted, Name: "other"}}
	if due := l.due(seen); len(due) != 0 {
		t.Errorf("freed at first sight: %v", due)
	}
	now = now.Add(orphanGrace - time.Second)
	if due := l.due(seen); len(due) != 0 {
		t.Errorf("freed before the grace period: %v", due)
	}
	// The Service comes back and goes again: the clock starts anew.
	if due := l.due(nil); len(due) != 0 {
		t.Error(due)
	}
	now = now.Add(time.Second)
	if due := l.due(seen); len(due) != 0 {
		t.Errorf("the clock did not start anew: %v", due)
	}
	now = now.Add(orphanGrace)
	if due := l.due(seen); len(due) != 1 || due[0].Name != "gone" {
		t.Error(due)
	}
}

// Before an orphan is freed, the API server is asked past the cache and past
// the class view: an address that a Service has is never given to another one.
func TestFreeAsksTheAPIServer(t *testing.T) {
	group := claimFor("x", "192.0.2.1")
	group.Key = ipam.GroupKey("lab", "default", "k", ipam.IPv4)
	tests := []struct {
		name  string
		claim ipam.Claim
		live  *corev1.Service
		freed bool
	}{
		{"gone", claimFor("web", "192.0.2.1"), nil, true},
		{"back", claimFor("web", "192.0.2.1"), lbService("bm-ccm.io/public"), false},
		{"another type", claimFor("web", "192.0.2.9"), lbService("", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP }), true},
		{"somebody has the address", claimFor("other", "192.0.2.1"), lbService("example.com/lb"), false},
		{"a group without members", group, lbService("bm-ccm.io/public", func(s *corev1.Service) { s.Status.LoadBalancer.Ingress = nil }), true},
		{"a group with a member", group, lbService("bm-ccm.io/public", func(s *corev1.Service) {
			s.Annotations[v1alpha1.AnnotationSharingKey], s.Status.LoadBalancer.Ingress = "k", nil
		}), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client := fake.NewClientset()
			if tt.live != nil {
				client = fake.NewClientset(tt.live)
			}
			a := inline.New("lab")
			a.Restore([]ipam.Claim{tt.claim})
			services := newServiceInformer(client, classView{})
			l := &ledger{allocator: a, client: client, services: services, groups: &groups{services: services.inNamespace}}
			if err := l.free(t.Context(), orphan(tt.claim)); err != nil {
				t.Fatal(err)
			}
			left, err := a.List(t.Context())
			if err != nil || (len(left) == 0) != tt.freed {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}

func netboxPool(name, prefix string) ipam.Pool {
	return ipam.Pool{Name: name, Spec: v1alpha1.AddressPoolSpec{NetBox: &v1alpha1.NetBoxSource{Prefixes: []v1alpha1.NetBoxPrefix{{Prefix: prefix}}}}}
}

func TestInlineClaims(t *testing.T) {
	age := 0
	assigned := func(name, addr string, edit ...func(*corev1.Service)) *corev1.Service {
		age++
		return served(name, append(edit, func(s *corev1.Service) {
			s.CreationTimestamp = metav1.NewTime(time.Unix(int64(age), 0))
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: addr}}
		})...)
	}
	shares := func(s *corev1.Service) { s.Annotations = map[string]string{v1alpha1.AnnotationSharingKey: "k"} }
	services := []*corev1.Service{
		assigned("a", "192.0.2.1"), assigned("b", "203.0.113.7"), served("c"), assigned("elsewhere", "10.0.0.1"),
		assigned("s1", "192.0.2.2", shares), assigned("s2", "192.0.2.2", shares), assigned("s3", "192.0.2.3", shares),
	}
	listed := ipam.Pool{Name: "listed", Spec: inlinePool("listed", "192.0.2.0/28").Spec}
	away := netboxPool("away", "198.51.100.0/24")
	away.Problem = errOutage
	common := []string{"lab/default/a/ipv4=192.0.2.1", "lab/default/+k/ipv4=192.0.2.2", "lab/default/+k/ipv4=192.0.2.2", "lab/default/s3/ipv4=192.0.2.3"}
	for name, tt := range map[string]struct {
		pools []ipam.Pool
		want  []string
	}{
		"NetBox tells its own":            {[]ipam.Pool{listed, netboxPool("nb", "203.0.113.0/24")}, append([]string{"lab/default/elsewhere/ipv4=10.0.0.1"}, common...)},
		"while NetBox's are not known":    {[]ipam.Pool{listed, netboxPool("nb", "203.0.113.0/24"), away}, common},
		"an overlap belongs to NetBox":    {[]ipam.Pool{listed, netboxPool("nb", "192.0.2.0/24")}, []string{"lab/default/b/ipv4=203.0.113.7", "lab/default/elsewhere/ipv4=10.0.0.1"}},
		"a pool of any kind may be empty": {nil, append([]string{"lab/default/b/ipv4=203.0.113.7", "lab/default/elsewhere/ipv4=10.0.0.1"}, common...)},
	} {
		claims, err := inlineClaims("lab", services, tt.pools)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range claims {
			got = append(got, c.Key.String()+"="+c.Addr.String())
		}
		slices.Sort(got)
		slices.Sort(tt.want)
		got, tt.want = slices.Compact(got), slices.Compact(tt.want)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
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
