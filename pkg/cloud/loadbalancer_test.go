// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cloud-provider/api"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/inline"
)

// shelf is a catalogue in memory.
type shelf struct {
	class *v1alpha1.LoadBalancerClass
	// problem is why there is no class.
	problem error
	pools   map[string]*v1alpha1.AddressPool
}

func (s shelf) classOf(*corev1.Service) (*v1alpha1.LoadBalancerClass, error) {
	if s.problem != nil {
		return nil, s.problem
	}
	if s.class == nil {
		return nil, &ipam.ConfigError{Problem: "no such class"}
	}
	return s.class, nil
}
func (s shelf) poolsByName() map[string]*v1alpha1.AddressPool { return s.pools }
func (s shelf) namespaceLabels(string) (labels.Set, error)    { return labels.Set{}, nil }

func inlinePool(name string, addresses ...string) *v1alpha1.AddressPool {
	return &v1alpha1.AddressPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.AddressPoolSpec{Addresses: addresses}}
}

// newShelf has one class "public" over the given pools.
func newShelf(pools ...*v1alpha1.AddressPool) shelf {
	s := shelf{class: &v1alpha1.LoadBalancerClass{ObjectMeta: metav1.ObjectMeta{Name: "public"}}, pools: map[string]*v1alpha1.AddressPool{}}
	for _, p := range pools {
		s.class.Spec.Pools = append(s.class.Spec.Pools, p.Name)
		s.pools[p.Name] = p
	}
	return s
}

func newBalancer(s shelf, restored ...ipam.Claim) *balancer {
	a := inline.New("lab")
	a.Restore(restored)
	return &balancer{
		cluster: "lab", catalogue: s, allocator: ipam.Combine(nil, a), freed: func() {}, failed: func() {},
		replay: func(string) bool { return true }, warn: func(*corev1.Service, string, string) {},
		groups: groups{services: func(string) []*corev1.Service { return nil }},
	}
}

// served is a projected Service of class public without an address.
func served(name string, edit ...func(*corev1.Service)) *corev1.Service {
	svc := lbService("bm-ccm.io/public", append([]func(*corev1.Service){func(s *corev1.Service) {
		s.Name, s.UID, s.Status.LoadBalancer = name, types.UID("uid-"+name), corev1.LoadBalancerStatus{}
	}}, edit...)...)
	classView{}.project(svc)
	return svc
}

func ips(s *corev1.LoadBalancerStatus) []string {
	var out []string
	for _, in := range s.Ingress {
		out = append(out, in.IP)
	}
	return out
}

func dualStack(policy corev1.IPFamilyPolicy) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.IPFamilyPolicy = &policy
		s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	}
}

func TestEnsure(t *testing.T) {
	v4, v6 := inlinePool("v4", "192.0.2.0/30"), inlinePool("v6", "2001:db8::10-2001:db8::11")
	tests := []struct {
		name    string
		shelf   shelf
		svc     *corev1.Service
		want    []string
		problem string
	}{
		{"one family", newShelf(v4, v6), served("web"), []string{"192.0.2.0"}, ""},
		{"both families required", newShelf(v4, v6), served("web", dualStack(corev1.IPFamilyPolicyRequireDualStack)), []string{"192.0.2.0", "2001:db8::10"}, ""},
		{"both preferred, no IPv6 pool", newShelf(v4), served("web", dualStack(corev1.IPFamilyPolicyPreferDualStack)), []string{"192.0.2.0"}, ""},
		{"both required, no IPv6 pool", newShelf(v4), served("web", dualStack(corev1.IPFamilyPolicyRequireDualStack)), nil, "ipv6"},
		{"asked for", newShelf(v4), served("web", func(s *corev1.Service) { s.Spec.LoadBalancerIP = "192.0.2.3" }), []string{"192.0.2.3"}, ""},
		{"asked for, in no pool", newShelf(v4), served("web", func(s *corev1.Service) { s.Spec.LoadBalancerIP = "198.51.100.1" }), nil, "198.51.100.1"},
		{"no class", shelf{}, served("web"), nil, "no such class"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBalancer(tt.shelf)
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
	b := newBalancer(newShelf(inlinePool("v4", "192.0.2.0/30")))
	svc := served("web")
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
	b := newBalancer(newShelf(inlinePool("v4", "192.0.2.0/30"), inlinePool("v6", "2001:db8::/126")))
	svc := served("web", dualStack(corev1.IPFamilyPolicyRequireDualStack))
	status, err := b.EnsureLoadBalancer(t.Context(), "", svc, nil)
	if err != nil {
		t.Fatal(err)
	}
	svc.Status.LoadBalancer = *status
	svc.Spec.IPFamilies = svc.Spec.IPFamilies[:1]
	if _, err := b.EnsureLoadBalancer(t.Context(), "", svc, nil); err != nil {
		t.Fatal(err)
	}
	claims, err := b.allocator.Find(t.Context(), "default", "web")
	if err != nil || len(claims) != 1 || claims[0].Key.Family != ipam.IPv4 {
		t.Errorf("left: %v, %v", claims, err)
	}
}

func TestDeleteReleases(t *testing.T) {
	freed := 0
	b := newBalancer(newShelf(inlinePool("v4", "192.0.2.0/32")))
	b.freed = func() { freed++ }
	svc := served("web")
	if _, err := b.EnsureLoadBalancer(t.Context(), "", svc, nil); err != nil {
		t.Fatal(err)
	}
	if _, exists, err := b.GetLoadBalancer(t.Context(), "", svc); !exists || err != nil {
		t.Fatal(exists, err)
	}
	if _, err := b.EnsureLoadBalancer(t.Context(), "", served("other"), nil); err == nil || !strings.Contains(err.Error(), `pool "v4"`) {
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
	if _, err := b.EnsureLoadBalancer(t.Context(), "", served("other"), nil); err != nil {
		t.Error(err)
	}
}

// The process died when it had recorded the second address and not yet told of
// it, and the user wants one family again.
func TestClaimThatNoStatusNamed(t *testing.T) {
	b := newBalancer(newShelf(inlinePool("v4", "192.0.2.0/30"), inlinePool("v6", "2001:db8::10-2001:db8::11")))
	status, err := b.EnsureLoadBalancer(t.Context(), "", served("web", dualStack(corev1.IPFamilyPolicyRequireDualStack)), nil)
	if err != nil || len(status.Ingress) != 2 {
		t.Fatal(status, err)
	}
	svc := served("web", func(s *corev1.Service) { s.Status.LoadBalancer.Ingress = status.Ingress[:1] })
	if _, err := b.EnsureLoadBalancer(t.Context(), "", svc, nil); err != nil {
		t.Fatal(err)
	}
	claims, err := b.allocator.Find(t.Context(), svc.Namespace, svc.Name)
	if err != nil || len(claims) != 1 || claims[0].Addr.String() != status.Ingress[0].IP {
		t.Errorf("recorded are %v, %v", claims, err)
	}
}

// outage is an allocator whose store does not answer.
type outage struct{ ipam.Allocator }

func (outage) Claim(context.Context, ipam.Request) (ipam.Claim, error) {
	return ipam.Claim{}, &ipam.UnavailableError{Doing: "claiming", Err: errors.New("connection refused"), RetryAfter: 100e9}
}
func (outage) Find(context.Context, string, string) ([]ipam.Claim, error) {
	return nil, &ipam.UnavailableError{Doing: "looking up", Err: errors.New("connection refused")}
}

func TestOutageTouchesNoAssignedAddress(t *testing.T) {
	b := newBalancer(newShelf(inlinePool("v4", "192.0.2.0/30")))
	b.allocator = outage{}
	svc := served("web", func(s *corev1.Service) {
		s.Status.LoadBalancer = *statusOf([]ipam.Claim{{Addr: netip.MustParseAddr("192.0.2.1")}})
	})
	status, err := b.EnsureLoadBalancer(t.Context(), "", svc, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&svc.Status.LoadBalancer, status); diff != "" {
		t.Error(diff)
	}
	if !b.waiting.has(svc) || !b.missed.Load() {
		t.Error("nobody will come back to it, though there may be a former address to let go")
	}
	_, err = b.EnsureLoadBalancer(t.Context(), "", served("new"), nil)
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
	both := append(svc.Status.LoadBalancer.Ingress, statusOf([]ipam.Claim{{Addr: netip.MustParseAddr("2001:db8::1")}}).Ingress...)
	svc.Status.LoadBalancer.Ingress = both
	if _, err := b.EnsureLoadBalancer(t.Context(), "", svc, nil); !errors.As(err, &retry) {
		t.Errorf("a Service that gave up a family gets %v, and nobody comes back to it", err)
	}
}
