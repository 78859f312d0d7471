// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package classview

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"
	servicehelper "k8s.io/cloud-provider/service/helpers"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/service"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/service/servicetest"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

func pools(addresses ...string) *netipx.IPSet {
	return ipam.AddressSet([]ipam.Pool{{Name: "p", Spec: v1alpha1.AddressPoolSpec{Addresses: addresses}}})
}

func TestClassView(t *testing.T) {
	deleted := servicetest.Deleted
	without, with := New(false, nil), New(true, nil)
	formerly := func() *View { return New(false, pools("192.0.2.0/28")) }
	tests := []struct {
		name   string
		view   *View
		in     *corev1.Service
		served bool // shown as a load balancer with its finalizer and status
	}{
		{"ours", without, servicetest.Live("bm-ccm.io/public"), true},
		{"ours, of a class that does not exist", without, servicetest.Live("bm-ccm.io/nope"), true},
		{"foreign", without, servicetest.Live("example.com/lb"), false},
		{"foreign, with a default", with, servicetest.Live("example.com/lb"), false},
		{"no class", without, servicetest.Live(""), false},
		{"no class, with a default", with, servicetest.Live(""), true},
		{"no class, of a default that is gone", formerly(), servicetest.Live(""), true},
		{"no class, of a default that is gone, being deleted", formerly(), servicetest.Live("", deleted), true},
		{"no class, with another party's address", formerly(), servicetest.Live("", func(s *corev1.Service) { s.Status.LoadBalancer.Ingress[0].IP = "198.51.100.1" }), false},
		{"no class, with our address but not our finalizer", formerly(), servicetest.Live("", func(s *corev1.Service) { s.Finalizers = nil }), false},
		{"foreign, with our address", formerly(), servicetest.Live("example.com/lb"), false},
		{"ours, being deleted", without, servicetest.Live("bm-ccm.io/public", deleted), true},
		{"ours, released, held by another finalizer", without, servicetest.Live("bm-ccm.io/public", deleted, func(s *corev1.Service) { s.Finalizers = []string{"other/one"} }), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			class := ""
			if tt.in.Spec.LoadBalancerClass != nil {
				class = *tt.in.Spec.LoadBalancerClass
			}
			stashed := tt.in.DeepCopy()
			Stash(stashed)
			before := stashed.DeepCopy()
			got := tt.view.Show(stashed)
			if diff := cmp.Diff(before, stashed); diff != "" {
				t.Error("Show changed what the informer keeps:", diff)
			}
			if served := got.Spec.Type == corev1.ServiceTypeLoadBalancer; served != tt.served {
				t.Errorf("served %v", served)
			}
			if hidden := len(got.Status.LoadBalancer.Ingress) == 0; hidden == tt.served {
				t.Errorf("status hidden: %v", hidden)
			}
			if !tt.served && servicehelper.HasLBFinalizer(got) {
				t.Error("the shared finalizer of a foreign Service is shown: upstream would remove it")
			}
			if got.Spec.LoadBalancerClass != nil {
				t.Error("the class is shown: upstream would ignore the Service")
			}
			if service.RequestedClass(got) != class {
				t.Errorf("the class is remembered as %q", service.RequestedClass(got))
			}
			if _, leaked := tt.in.Annotations[service.ClassAnnotation]; leaked {
				t.Error("the annotations of the original were written")
			}
			Stash(stashed)
			if diff := cmp.Diff(got, tt.view.Show(stashed)); diff != "" {
				t.Error("projecting twice differs:", diff)
			}
		})
	}
}

// A Service that was recognised stays ours when its status is wiped: its claim
// is still to be freed.
func TestClassViewRemembersWhoItKeeps(t *testing.T) {
	v := New(false, pools("192.0.2.0/28"))
	for _, edit := range []func(*corev1.Service){
		func(*corev1.Service) {},
		func(s *corev1.Service) { s.Status.LoadBalancer = corev1.LoadBalancerStatus{} },
	} {
		svc := servicetest.Live("", edit)
		Stash(svc)
		if !service.IsServed(v.Show(svc)) {
			t.Errorf("hidden: %+v", svc.Status)
		}
	}
}

// A Service of another type is shown as it is, so that upstream cleans up after
// a change of type.
func TestClassViewLeavesOtherTypes(t *testing.T) {
	svc := servicetest.Live("", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP })
	want := svc.DeepCopy()
	Stash(svc)
	if diff := cmp.Diff(want, New(false, nil).Show(svc)); diff != "" {
		t.Error(diff)
	}
}
