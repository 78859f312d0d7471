// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// desk is one Service with its condition, over a fake API server.
type desk struct {
	t      *testing.T
	client *fake.Clientset
	events *record.FakeRecorder
	c      *conflicts
}

func newDesk(t *testing.T) *desk {
	d := &desk{t: t, client: fake.NewClientset(served("web", withStatus("192.0.2.1"))), events: record.NewFakeRecorder(20)}
	d.restart()
	return d
}

// restart forgets what the process knew.
func (d *desk) restart() { d.c = &conflicts{client: d.client, recorder: d.events} }

func (d *desk) web() *corev1.Service {
	d.t.Helper()
	svc, err := d.client.CoreV1().Services("default").Get(d.t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		d.t.Fatal(err)
	}
	return svc
}

// want checks the condition ("status/reason", "" for none), and how many
// writes and Events there were since the last time.
func (d *desk) want(condition string, writes int) {
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

func TestConflictCondition(t *testing.T) {
	d := newDesk(t)
	found := map[types.UID]conflict{"uid-web": {reason: "DuplicateClaim", message: "twice"}}
	audit := func(found map[types.UID]conflict) { d.c.compared(t.Context(), []*corev1.Service{d.web()}, found) }

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

	// After a restart nothing is written before the ledger has looked.
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
	found["uid-other"] = conflict{reason: "BadClaim", message: "odd"}
	patch, ok := d.c.due(other)
	if ok || patch.Type != "" {
		t.Errorf("something is due before anybody said so: %v", patch)
	}
}

func TestFindingsAreToldWhereTheyBelong(t *testing.T) {
	pools := []ipam.Pool{netboxPool("a", "203.0.113.0/24"), netboxPool("b", "198.51.100.0/24"), {Name: "list", Spec: inlinePool("list", "203.0.113.0/24").Spec}}
	services := []*corev1.Service{
		served("web", withStatus("203.0.113.1")), served("db", withStatus("203.0.113.2")), served("s1", shares("k")), served("s2", shares("k")),
	}
	at := func(kind ipam.FindingKind, key ipam.Key, addr string) ipam.Finding {
		f := ipam.Finding{Kind: kind, Key: key, Text: "odd"}
		if addr != "" {
			f.Addr = netip.MustParseAddr(addr)
		}
		return f
	}
	for _, tt := range []struct {
		name            string
		f               ipam.Finding
		services, pools []string
	}{
		{"by claim", at(ipam.ForeignOwner, claimFor("db", "203.0.113.9").Key, "203.0.113.9"), []string{"db"}, []string{"a"}},
		{"by address", at(ipam.DuplicateAddress, ipam.Key{}, "203.0.113.1"), []string{"web"}, []string{"a"}},
		{"a group", at(ipam.DuplicateClaim, groupClaim("k", "198.51.100.1").Key, "198.51.100.1"), []string{"s1", "s2"}, []string{"b"}},
		{"the cluster's name", at(ipam.SameClusterName, ipam.Key{}, ""), nil, []string{"a", "b"}},
		{"nobody's", at(ipam.BadClaim, ipam.Key{}, "192.0.2.1"), nil, nil},
	} {
		var names []string
		for _, svc := range concernedServices(tt.f, services) {
			names = append(names, svc.Name)
		}
		if diff := cmp.Diff([][]string{tt.services, tt.pools}, [][]string{names, concernedPools(tt.f, pools)}); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
	if r := reasonOf(ipam.SameClusterName); r != "SameClusterName" {
		t.Error(r)
	}
}

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

// A sync and the ledger speak at the same time: the sync's word stands, in
// whatever order the API server would take two patches.
func TestConflictWritesInOrder(t *testing.T) {
	for range 20 {
		d := newDesk(t)
		web := d.web()
		var wg sync.WaitGroup
		wg.Go(func() { d.c.claimed(t.Context(), web, "moved") })
		wg.Go(func() {
			d.c.compared(t.Context(), []*corev1.Service{web}, map[types.UID]conflict{"uid-web": {reason: "BadClaim", message: "odd"}})
		})
		wg.Wait()
		d.c.claimed(t.Context(), web, "moved")
		if c := meta.FindStatusCondition(d.web().Status.Conditions, v1alpha1.ConditionAddressConflict); c == nil || c.Reason != reasonMoved {
			t.Fatalf("%+v", c)
		}
	}
}
