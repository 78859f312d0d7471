// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	servicehelper "k8s.io/cloud-provider/service/helpers"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

const finalizer = servicehelper.LoadBalancerCleanupFinalizer

// lbService is a Service of type LoadBalancer as the API server has it.
func lbService(class string, edit ...func(*corev1.Service)) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "uid-1", Annotations: map[string]string{"a": "b"}, Finalizers: []string{finalizer, "other/one"}},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}},
		Status:     corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}}},
	}
	if class != "" {
		svc.Spec.LoadBalancerClass = &class
	}
	for _, e := range edit {
		e(svc)
	}
	return svc
}

func TestClassView(t *testing.T) {
	deleted := func(s *corev1.Service) { s.DeletionTimestamp = &metav1.Time{} }
	pools, err := addressSet([]ipam.Pool{netboxPool("nb", "192.0.2.0/28")})
	if err != nil {
		t.Fatal(err)
	}
	formerly := func() classView { return classView{kept: &keptServices{pools: pools}} }
	tests := []struct {
		name   string
		view   classView
		in     *corev1.Service
		served bool // shown as a load balancer with its finalizer and status
	}{
		{"ours", classView{}, lbService("bm-ccm.io/public"), true},
		{"ours, of a class that does not exist", classView{}, lbService("bm-ccm.io/nope"), true},
		{"foreign", classView{}, lbService("example.com/lb"), false},
		{"foreign, with a default", classView{servesDefault: true}, lbService("example.com/lb"), false},
		{"no class", classView{}, lbService(""), false},
		{"no class, with a default", classView{servesDefault: true}, lbService(""), true},
		{"no class, of a default that is gone", formerly(), lbService(""), true},
		{"no class, of a default that is gone, being deleted", formerly(), lbService("", deleted), true},
		{"no class, with another party's address", formerly(), lbService("", func(s *corev1.Service) { s.Status.LoadBalancer.Ingress[0].IP = "198.51.100.1" }), false},
		{"no class, with our address but not our finalizer", formerly(), lbService("", func(s *corev1.Service) { s.Finalizers = nil }), false},
		{"foreign, with our address", formerly(), lbService("example.com/lb"), false},
		{"ours, being deleted", classView{}, lbService("bm-ccm.io/public", deleted), true},
		{"ours, released, held by another finalizer", classView{}, lbService("bm-ccm.io/public", deleted, func(s *corev1.Service) { s.Finalizers = []string{"other/one"} }), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			class := ""
			if tt.in.Spec.LoadBalancerClass != nil {
				class = *tt.in.Spec.LoadBalancerClass
			}
			got := tt.in.DeepCopy()
			tt.view.project(got)
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
			if requestedClass(got) != class {
				t.Errorf("the class is remembered as %q", requestedClass(got))
			}
			if _, leaked := tt.in.Annotations[stashedClass]; leaked {
				t.Error("the annotations of the original were written")
			}
			again := got.DeepCopy()
			tt.view.project(again)
			if diff := cmp.Diff(got, again); diff != "" {
				t.Error("projecting twice differs:", diff)
			}
		})
	}
}

// A Service that was recognised stays ours when its status is wiped: its claim
// is still to be freed.
func TestClassViewRemembersWhoItKeeps(t *testing.T) {
	pools, err := addressSet([]ipam.Pool{netboxPool("nb", "192.0.2.0/28")})
	if err != nil {
		t.Fatal(err)
	}
	v := classView{kept: &keptServices{pools: pools}}
	for _, edit := range []func(*corev1.Service){
		func(*corev1.Service) {},
		func(s *corev1.Service) { s.Status.LoadBalancer = corev1.LoadBalancerStatus{} },
	} {
		svc := lbService("", edit)
		v.project(svc)
		if !isServed(svc) {
			t.Errorf("hidden: %+v", svc.Status)
		}
	}
}

// What had its address from a default class that is gone keeps it without a
// word, and frees it when it is deleted.
func TestDefaultClassIsTakenAway(t *testing.T) {
	w := newWorld(t, newShelf(inlinePool("v4", "192.0.2.1-192.0.2.9")), nil)
	w.create("web", "", 80)
	w.settle()
	w.shelf.class = nil
	w.shelf.problem = errNoDefault
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

// A Service of another type is shown as it is, so that upstream cleans up after
// a change of type.
func TestClassViewLeavesOtherTypes(t *testing.T) {
	svc := lbService("", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP })
	want := svc.DeepCopy()
	if _, err := (classView{}).transform(svc); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, svc); diff != "" {
		t.Error(diff)
	}
}
