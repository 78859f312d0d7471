// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/service/servicetest"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/trigger"
)

// fixture is one Service with its condition, over a fake API server.
type fixture struct {
	t      *testing.T
	client *fake.Clientset
	events *record.FakeRecorder
	c      *conditions
}

func newFixture(t *testing.T) *fixture {
	d := &fixture{t: t, client: fake.NewClientset(servicetest.Served("web", servicetest.WithAddrs("192.0.2.1"))), events: record.NewFakeRecorder(20)}
	d.restart()
	return d
}

// restart forgets what the process knew.
func (d *fixture) restart() { d.c = newConditions(d.client, d.events, trigger.New()) }

func (d *fixture) web() *corev1.Service {
	d.t.Helper()
	svc, err := d.client.CoreV1().Services("default").Get(d.t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		d.t.Fatal(err)
	}
	return svc
}

// want checks the condition ("status/reason", "" for none), and how many
// writes and Events there were since the last time.
func (d *fixture) want(condition string, writes int) {
	d.t.Helper()
	got := ""
	if c := meta.FindStatusCondition(d.web().Status.Conditions, v1alpha1.ConditionAddressConflict); c != nil {
		got = string(c.Status) + "/" + c.Reason
		if c.LastTransitionTime.IsZero() {
			d.t.Error("lastTransitionTime is not set")
		}
	}
	n := 0
	for _, a := range d.client.Actions() {
		if a.GetVerb() == "patch" && a.GetSubresource() == "status" {
			n++
		}
	}
	d.client.ClearActions()
	if got != condition || n != writes || len(d.events.Events) != writes {
		d.t.Errorf("condition %q after %d writes and %d Events, want %q after %d", got, n, len(d.events.Events), condition, writes)
	}
	for len(d.events.Events) > 0 {
		<-d.events.Events
	}
	if len(d.web().Status.LoadBalancer.Ingress) != 1 {
		d.t.Error("the address was touched")
	}
}

// N3, N6: what NetBox says otherwise, and what needs manual correction, is a
// condition of the Service; N8: and nothing else is written.
func TestConflictCondition(t *testing.T) {
	d := newFixture(t)
	found := map[types.UID][]ipam.Finding{"uid-web": {{Kind: ipam.DuplicateClaim, Text: "twice"}}}
	audit := func(found map[types.UID][]ipam.Finding) { d.c.report(t.Context(), []*corev1.Service{d.web()}, found) }

	d.c.claimed(t.Context(), d.web(), "")
	d.want("", 0)
	stale := d.web()
	d.c.claimed(t.Context(), stale, "moved")
	d.c.claimed(t.Context(), stale, "moved") // the informer does not show it yet
	d.want("True/MovedInNetBox", 1)
	audit(found)
	d.want("True/MovedInNetBox", 0) // what the user can settle comes first
	d.c.claimed(t.Context(), d.web(), "")
	d.want("True/DuplicateClaim", 1)

	// After a restart nothing is written before drift has looked.
	d.restart()
	d.c.claimed(t.Context(), d.web(), "")
	d.want("True/DuplicateClaim", 0)
	audit(found)
	d.want("True/DuplicateClaim", 0)
	audit(nil)
	d.want("False/Resolved", 1)
	audit(nil)
	d.want("False/Resolved", 0)

	// Another Service of that name is not written to.
	other := d.web()
	other.UID = "uid-other"
	d.c.forget("uid-web")
	found["uid-other"] = []ipam.Finding{{Kind: ipam.BadClaim, Text: "odd"}}
	patch, ok := d.c.due(other)
	if ok || patch.Type != "" {
		t.Errorf("something is due before anybody said so: %v", patch)
	}
}

// N7: the pool of the address has it too.
func TestPoolConflict(t *testing.T) {
	var s v1alpha1.AddressPoolStatus
	setConflict(&s, nil, 1)
	if len(s.Conditions) > 0 {
		t.Errorf("a pool without conflicts has %v", s.Conditions)
	}
	setConflict(&s, strings.Split("1 2 3 4 5 6 7", " "), 1)
	checkCondition(t, s, v1alpha1.ConditionConflict, "True")
	if m := s.Conditions[0].Message; m != "1; 2; 3; 4; 5; and 2 more" {
		t.Error(m)
	}
	setConflict(&s, nil, 1)
	checkCondition(t, s, v1alpha1.ConditionConflict, "False")
}

// A sync and drift speak at the same time: the sync's word stands, in
// whatever order the API server would take two patches.
func TestConflictWritesInOrder(t *testing.T) {
	for range 20 {
		d := newFixture(t)
		web := d.web()
		var wg sync.WaitGroup
		wg.Go(func() { d.c.claimed(t.Context(), web, "moved") })
		wg.Go(func() {
			d.c.report(t.Context(), []*corev1.Service{web}, map[types.UID][]ipam.Finding{"uid-web": {{Kind: ipam.BadClaim, Text: "odd"}}})
		})
		wg.Wait()
		d.c.claimed(t.Context(), web, "moved")
		if c := meta.FindStatusCondition(d.web().Status.Conditions, v1alpha1.ConditionAddressConflict); c == nil || c.Reason != reasonMoved {
			t.Fatalf("%+v", c)
		}
	}
}
