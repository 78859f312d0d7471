// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"
	"k8s.io/cloud-provider/api"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/assign"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/classview"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/service"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/service/servicetest"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/inline"
	"github.com/bm-ccm/bm-ccm/pkg/trigger"
)

// fakeCatalog is a catalog in memory.
type fakeCatalog struct {
	class *v1alpha1.LoadBalancerClass
	// problem is why there is no class.
	problem error
	pools   map[string]ipam.Pool
}

func (s fakeCatalog) classOf(*corev1.Service) (*v1alpha1.LoadBalancerClass, error) {
	if s.problem != nil {
		return nil, s.problem
	}
	if s.class == nil {
		return nil, &ipam.ConfigError{Problem: "no such class"}
	}
	return s.class, nil
}
func (s fakeCatalog) pool(name string) (ipam.Pool, bool) {
	p, ok := s.pools[name]
	return p, ok
}

func (s fakeCatalog) namespaceLabels(string) (labels.Set, error) { return labels.Set{}, nil }

func inlinePool(name string, addresses ...string) ipam.Pool {
	return ipam.NewPool(&v1alpha1.AddressPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.AddressPoolSpec{Addresses: addresses}})
}

func netboxPool(name, prefix string) ipam.Pool {
	return ipam.NewPool(&v1alpha1.AddressPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.AddressPoolSpec{
		NetBox: &v1alpha1.NetBoxSource{Prefixes: []v1alpha1.NetBoxPrefix{{Prefix: prefix}}}}})
}

// newCatalog has one class "public" over the given pools.
func newCatalog(pools ...ipam.Pool) fakeCatalog {
	s := fakeCatalog{class: &v1alpha1.LoadBalancerClass{ObjectMeta: metav1.ObjectMeta{Name: "public"}}, pools: map[string]ipam.Pool{}}
	for _, p := range pools {
		s.class.Spec.Pools = append(s.class.Spec.Pools, p.Name)
		s.pools[p.Name] = p
	}
	return s
}

// testDeps are the parts of a balancer without a service controller around it.
func testDeps(c catalog, store claimStore) deps {
	return deps{
		cluster: "lab", catalog: c, claims: store, outcomes: newOutcomes(), waiting: newWaitingList(), netboxUnavailable: &atomic.Bool{},
		groups:     newGroups(func(string) []*corev1.Service { return nil }, service.RequestedClass),
		conditions: newConditions(fake.NewClientset(), &record.FakeRecorder{}, trigger.New()),
		freed:      func() {}, failed: func() {}, requeue: func(string) bool { return true }, warn: func(*corev1.Service, string, string) {},
	}
}

func newTestBalancer(c fakeCatalog) *balancer {
	a := inline.New("lab")
	a.Restore(nil)
	return newBalancer(testDeps(c, ipam.Combine(nil, a)))
}

func ips(s *corev1.LoadBalancerStatus) []string {
	var out []string
	for _, in := range s.Ingress {
		out = append(out, in.IP)
	}
	return out
}

func TestEnsure(t *testing.T) {
	v4, v6 := inlinePool("v4", "192.0.2.0/30"), inlinePool("v6", "2001:db8::10-2001:db8::11")
	tests := []struct {
		name    string
		catalog fakeCatalog
		svc     *corev1.Service
		want    []string
		problem string
	}{
		{"one family", newCatalog(v4, v6), servicetest.Served("web"), []string{"192.0.2.0"}, ""},
		{"both families required", newCatalog(v4, v6), servicetest.Served("web", servicetest.DualStack(corev1.IPFamilyPolicyRequireDualStack)), []string{"192.0.2.0", "2001:db8::10"}, ""},
		{"both preferred, no IPv6 pool", newCatalog(v4), servicetest.Served("web", servicetest.DualStack(corev1.IPFamilyPolicyPreferDualStack)), []string{"192.0.2.0"}, ""},
		{"both required, no IPv6 pool", newCatalog(v4), servicetest.Served("web", servicetest.DualStack(corev1.IPFamilyPolicyRequireDualStack)), nil, "ipv6"},
		{"asked for", newCatalog(v4), servicetest.Served("web", func(s *corev1.Service) { s.Spec.LoadBalancerIP = "192.0.2.3" }), []string{"192.0.2.3"}, ""},
		{"asked for, in no pool", newCatalog(v4), servicetest.Served("web", func(s *corev1.Service) { s.Spec.LoadBalancerIP = "198.51.100.1" }), nil, "198.51.100.1"},
		{"no class", fakeCatalog{}, servicetest.Served("web"), nil, "no such class"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newTestBalancer(tt.catalog)
			status, err := b.EnsureLoadBalancer(t.Context(), "", tt.svc, nil)
			if tt.problem != "" {
				var retry *api.RetryError
				if !errors.As(err, &retry) || !strings.Contains(err.Error(), tt.problem) {
					t.Errorf("error %v", err)
				}
				if keys := b.waiting.take(-1); len(keys) != 1 {
					t.Errorf("waiting: %v", keys)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, ips(status)); diff != "" {
				t.Error(diff)
			}
			for _, in := range status.Ingress {
				if in.IPMode == nil || *in.IPMode != corev1.LoadBalancerIPModeVIP {
					t.Error("ipMode is not set: upstream would patch the status at every sync")
				}
			}
		})
	}
}

// A second look at a Service that has its address changes and tells nothing.
func TestEnsureAgainIsQuiet(t *testing.T) {
	b := newTestBalancer(newCatalog(inlinePool("v4", "192.0.2.0/30")))
	svc := servicetest.Served("web")
	status, err := b.EnsureLoadBalancer(t.Context(), "", svc, nil)
	if err != nil {
		t.Fatal(err)
	}
	event := &corev1.Event{Reason: reasonEnsured, InvolvedObject: corev1.ObjectReference{UID: svc.UID}}
	if e := b.outcomes.edit(event); e == nil || !strings.Contains(e.Message, `192.0.2.0 from pool "v4"`) {
		t.Errorf("the first Event is %+v", e)
	}
	svc.Status.LoadBalancer = *status
	again, err := b.EnsureLoadBalancer(t.Context(), "", svc, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(status, again); diff != "" {
		t.Error(diff)
	}
	if e := b.outcomes.edit(event); e != nil {
		t.Errorf("the second Event is %+v", e)
	}
}

func TestGivingUpAFamilyReleasesIt(t *testing.T) {
	b := newTestBalancer(newCatalog(inlinePool("v4", "192.0.2.0/30"), inlinePool("v6", "2001:db8::/126")))
	svc := servicetest.Served("web", servicetest.DualStack(corev1.IPFamilyPolicyRequireDualStack))
	status, err := b.EnsureLoadBalancer(t.Context(), "", svc, nil)
	if err != nil {
		t.Fatal(err)
	}
	svc.Status.LoadBalancer = *status
	svc.Spec.IPFamilies = svc.Spec.IPFamilies[:1]
	if _, err := b.EnsureLoadBalancer(t.Context(), "", svc, nil); err != nil {
		t.Fatal(err)
	}
	claims, err := b.claims.Find(t.Context(), "default", "web")
	if err != nil || len(claims) != 1 || claims[0].Key.Family != ipam.IPv4 {
		t.Errorf("left: %v, %v", claims, err)
	}
}

func TestDeleteReleases(t *testing.T) {
	freed := 0
	b := newTestBalancer(newCatalog(inlinePool("v4", "192.0.2.0/32")))
	b.freed = func() { freed++ }
	svc := servicetest.Served("web")
	if _, err := b.EnsureLoadBalancer(t.Context(), "", svc, nil); err != nil {
		t.Fatal(err)
	}
	if _, exists, err := b.GetLoadBalancer(t.Context(), "", svc); !exists || err != nil {
		t.Fatal(exists, err)
	}
	if _, err := b.EnsureLoadBalancer(t.Context(), "", servicetest.Served("other"), nil); err == nil || !strings.Contains(err.Error(), `pool "v4"`) {
		t.Errorf("a full pool gives %v", err)
	}
	for range 2 { // releasing twice is no error
		if err := b.EnsureLoadBalancerDeleted(t.Context(), "", svc); err != nil {
			t.Fatal(err)
		}
	}
	if freed != 1 {
		t.Errorf("waiting Services were woken %d times", freed)
	}
	if _, exists, err := b.GetLoadBalancer(t.Context(), "", svc); exists || err != nil {
		t.Error(exists, err)
	}
	if _, err := b.EnsureLoadBalancer(t.Context(), "", servicetest.Served("other"), nil); err != nil {
		t.Error(err)
	}
}

// The process died when it had recorded the second address and not yet told of
// it, and the user wants one family again.
func TestClaimThatNoStatusNamed(t *testing.T) {
	b := newTestBalancer(newCatalog(inlinePool("v4", "192.0.2.0/30"), inlinePool("v6", "2001:db8::10-2001:db8::11")))
	status, err := b.EnsureLoadBalancer(t.Context(), "", servicetest.Served("web", servicetest.DualStack(corev1.IPFamilyPolicyRequireDualStack)), nil)
	if err != nil || len(status.Ingress) != 2 {
		t.Fatal(status, err)
	}
	svc := servicetest.Served("web", func(s *corev1.Service) { s.Status.LoadBalancer.Ingress = status.Ingress[:1] })
	if _, err := b.EnsureLoadBalancer(t.Context(), "", svc, nil); err != nil {
		t.Fatal(err)
	}
	claims, err := b.claims.Find(t.Context(), svc.Namespace, svc.Name)
	if err != nil || len(claims) != 1 || claims[0].Addr.String() != status.Ingress[0].IP {
		t.Errorf("recorded are %v, %v", claims, err)
	}
}

// waking is a store that knows its claims from the first one on.
type waking struct {
	ipam.Store
	awake bool
}

func (w *waking) Claim(ctx context.Context, r ipam.Request) (ipam.Claim, error) {
	w.awake = true
	return w.Store.Claim(ctx, r)
}

func (w *waking) Known(ctx context.Context, key ipam.Key) (ipam.Claim, bool, error) {
	if !w.awake {
		return ipam.Claim{}, false, &ipam.UnavailableError{Doing: "looking up", Err: errors.New("connection refused")}
	}
	return w.Store.Known(ctx, key)
}

// The same, and NetBox answers for the first time when the claim is made: nobody
// comes back to the Service soon, so what it gave up is released now.
func TestClaimThatNoStatusNamedAndNobodyKnew(t *testing.T) {
	a := inline.New("lab")
	a.Restore([]ipam.Claim{
		{Key: ipam.Key{Cluster: "lab", Namespace: "default", Service: "web", Family: ipam.IPv4}, Addr: netip.MustParseAddr("192.0.2.1")},
		{Key: ipam.Key{Cluster: "lab", Namespace: "default", Service: "web", Family: ipam.IPv6}, Addr: netip.MustParseAddr("2001:db8::1")},
	})
	b := newBalancer(testDeps(newCatalog(inlinePool("v4", "192.0.2.0/30")), &waking{Store: ipam.Combine(nil, a)}))
	if _, err := b.EnsureLoadBalancer(t.Context(), "", servicetest.Served("web", servicetest.WithAddrs("192.0.2.1")), nil); err != nil {
		t.Fatal(err)
	}
	if left, err := a.List(t.Context()); err != nil || len(left) != 1 {
		t.Errorf("left are %v, %v", left, err)
	}
}

// The default class goes while a Service that names none gets its first address:
// it is hidden before the informer shows the address, and upstream takes it for
// one that wants no load balancer any more.
func TestHiddenServiceKeepsItsClaim(t *testing.T) {
	b := newTestBalancer(newCatalog(inlinePool("v4", "192.0.2.0/30")))
	view := classview.New(true, nil)
	svc := servicetest.Live("", func(s *corev1.Service) { s.Status.LoadBalancer = corev1.LoadBalancerStatus{} })
	classview.Stash(svc)
	if _, err := b.EnsureLoadBalancer(t.Context(), "", view.Show(svc), nil); err != nil {
		t.Fatal(err)
	}
	view.SetDefault(false, nil)
	if _, exists, err := b.GetLoadBalancer(t.Context(), "", view.Show(svc)); exists || err != nil {
		t.Errorf("upstream would release the address: %v, %v", exists, err)
	}
	view.SetDefault(true, nil)
	if _, exists, err := b.GetLoadBalancer(t.Context(), "", view.Show(svc)); !exists || err != nil {
		t.Errorf("the claim is gone: %v, %v", exists, err)
	}
	// Another type is the user's own word.
	changed := servicetest.Live("", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP })
	classview.Stash(changed)
	if _, exists, err := b.GetLoadBalancer(t.Context(), "", view.Show(changed)); !exists || err != nil {
		t.Errorf("an address that is to be released is not seen: %v, %v", exists, err)
	}
}

// outage is an allocator whose store does not answer.
type outage struct{ ipam.Store }

func (outage) Claim(context.Context, ipam.Request) (ipam.Claim, error) {
	return ipam.Claim{}, &ipam.UnavailableError{Doing: "claiming", Err: errors.New("connection refused"), RetryAfter: 100e9}
}
func (outage) Known(context.Context, ipam.Key) (ipam.Claim, bool, error) {
	return ipam.Claim{}, false, &ipam.UnavailableError{Doing: "looking up", Err: errors.New("connection refused")}
}
func (outage) Find(context.Context, string, string) ([]ipam.Claim, error) {
	return nil, &ipam.UnavailableError{Doing: "looking up", Err: errors.New("connection refused")}
}

func TestOutageTouchesNoAssignedAddress(t *testing.T) {
	b := newTestBalancer(newCatalog(inlinePool("v4", "192.0.2.0/30")))
	b.claims = outage{}
	svc := servicetest.Served("web", func(s *corev1.Service) {
		s.Status.LoadBalancer = *service.StatusOf(netip.MustParseAddr("192.0.2.1"))
	})
	status, err := b.EnsureLoadBalancer(t.Context(), "", svc, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&svc.Status.LoadBalancer, status); diff != "" {
		t.Error(diff)
	}
	if !b.waiting.has(svc) || !b.netboxUnavailable.Load() {
		t.Error("nobody will come back to it, though there may be a former address to let go")
	}
	_, err = b.EnsureLoadBalancer(t.Context(), "", servicetest.Served("new"), nil)
	var retry *api.RetryError
	if !errors.As(err, &retry) || retry.RetryAfter() != 100e9 {
		t.Errorf("a new Service gets %v", err)
	}
	b.waiting.take(-1)
	if _, exists, err := b.GetLoadBalancer(t.Context(), "", svc); err == nil {
		t.Errorf("exists is %v without an error: upstream would let the Service go", exists)
	}
	if !b.waiting.has(svc) {
		t.Error("nobody will come back to a Service that could not be let go")
	}
	// What it gave up is still to be released, so it must not pass for done.
	both := slices.Concat(svc.Status.LoadBalancer.Ingress, service.StatusOf(netip.MustParseAddr("2001:db8::1")).Ingress)
	svc.Status.LoadBalancer.Ingress = both
	if _, err := b.EnsureLoadBalancer(t.Context(), "", svc, nil); !errors.As(err, &retry) {
		t.Errorf("a Service that gave up a family gets %v, and nobody comes back to it", err)
	}
}

// C4: what had its address from a default class that is gone keeps it without a
// word, and frees it when it is deleted.
func TestDefaultClassIsTakenAway(t *testing.T) {
	w := newHarness(t, newCatalog(inlinePool("v4", "192.0.2.1-192.0.2.9")), nil)
	w.create("web", "", 80)
	w.settle()
	w.catalog.class = nil
	w.catalog.problem = assign.ErrNoDefault
	w.start()
	w.create("new", "", 80)
	waits := w.settle()
	w.wantIPs(map[string]string{"web": "192.0.2.1", "new": ""})
	if len(waits) != 1 || !strings.Contains(waits["new"], "mark one class as default") {
		t.Errorf("waiting: %v", waits)
	}
	w.delete("web")
	w.settle()
	w.wantClaims()
}
