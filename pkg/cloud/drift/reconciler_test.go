// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package drift

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/classview"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/service"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/service/servicetest"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/inline"
)

// noGroups is the memory of groups that nobody else uses.
type noGroups struct{}

func (noGroups) Learn([]ipam.Claim) {}
func (noGroups) Lock(context.Context, ...service.Group) (func(), error) {
	return func() {}, nil
}
func (noGroups) NoteReleased(service.Group, ipam.Family) {}

func orphan(claim ipam.Claim) ipam.Finding {
	return ipam.Finding{Kind: ipam.Orphan, Namespace: claim.Key.Namespace, Name: claim.Key.Service, Addr: claim.Addr, Key: claim.Key}
}

func TestOrphansWaitForTheGracePeriod(t *testing.T) {
	now := time.Now()
	r := &Reconciler{now: func() time.Time { return now }}
	seen := []ipam.Finding{orphan(claimFor("gone", "192.0.2.1")), {Kind: ipam.Drifted, Name: "other"}}
	if due := r.dueOrphans(seen); len(due) != 0 {
		t.Errorf("freed at first sight: %v", due)
	}
	now = now.Add(orphanGrace - time.Second)
	if due := r.dueOrphans(seen); len(due) != 0 {
		t.Errorf("freed before the grace period: %v", due)
	}
	// The Service comes back and goes again: the clock starts anew.
	if due := r.dueOrphans(nil); len(due) != 0 {
		t.Error(due)
	}
	now = now.Add(time.Second)
	if due := r.dueOrphans(seen); len(due) != 0 {
		t.Errorf("the clock did not start anew: %v", due)
	}
	now = now.Add(orphanGrace)
	if due := r.dueOrphans(seen); len(due) != 1 || due[0].Name != "gone" {
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
		{"back", claimFor("web", "192.0.2.1"), servicetest.Live("bm-ccm.io/public"), false},
		{"another type", claimFor("web", "192.0.2.9"), servicetest.Live("", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP }), true},
		{"somebody has the address", claimFor("other", "192.0.2.1"), servicetest.Live("example.com/lb"), false},
		{"a group without members", group, servicetest.Live("bm-ccm.io/public", func(s *corev1.Service) { s.Status.LoadBalancer.Ingress = nil }), true},
		{"a group with a member", group, servicetest.Live("bm-ccm.io/public", func(s *corev1.Service) {
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
			services := classview.NewServices(client, classview.New(false, nil))
			r := NewReconciler(Options{Claims: a, Client: client, Services: services, Groups: noGroups{}})
			if err := r.Free(t.Context(), orphan(tt.claim)); err != nil {
				t.Fatal(err)
			}
			left, err := a.List(t.Context())
			if err != nil || (len(left) == 0) != tt.freed {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}
