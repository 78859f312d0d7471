// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package announce

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/bm-ccm/bm-ccm/pkg/announce/bgp"
	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
)

func host(s string) netip.Prefix {
	a := netip.MustParseAddr(s)
	return netip.PrefixFrom(a, a.BitLen())
}

func TestDiffer(t *testing.T) {
	wanted := []bgp.Route{{Prefix: host("192.0.2.1")}, {Prefix: host("192.0.2.2"), Peers: []string{"a"}}, {Prefix: host("192.0.2.3")}}
	actual := []bgp.Route{{Prefix: host("192.0.2.2")}, {Prefix: host("192.0.2.3")}, {Prefix: host("192.0.2.4")}}
	want := []string{
		"192.0.2.1/32 is missing from the BGP table",
		"192.0.2.2/32 has other peers or communities in the BGP table",
		"192.0.2.4/32 is in the BGP table and should not be",
	}
	if d := cmp.Diff(want, differ(wanted, actual)); d != "" {
		t.Errorf("differences (-want +got):\n%s", d)
	}
	if got := differ(wanted, wanted); got != nil {
		t.Errorf("differences of equal tables: %v", got)
	}
}

func TestInSyncCondition(t *testing.T) {
	up := bgp.Session{Peer: "tor", State: bgp.Established}
	one := []Announcement{{Addr: netip.MustParseAddr("192.0.2.1"), Class: "public"}}
	peer := []*v1alpha1.BGPPeer{{}}
	tests := []struct {
		name   string
		report report
		status metav1.ConditionStatus
		reason string
		word   string
	}{
		{"all well", report{decision: &Decision{Announcements: one, Peers: peer}, sessions: []bgp.Session{up}}, metav1.ConditionTrue, ReasonAnnouncing, ""},
		{"nothing to do", report{decision: &Decision{}}, metav1.ConditionTrue, ReasonAnnouncing, ""},
		{"no peers", report{decision: &Decision{Announcements: one}}, metav1.ConditionFalse, ReasonNoPeers, "BGPPeer"},
		{"withheld", report{decision: &Decision{Withheld: "tired"}}, metav1.ConditionFalse, ReasonWithheld, "tired"},
		{"down", report{decision: &Decision{Peers: peer}, sessions: []bgp.Session{{Peer: "tor", State: bgp.Active, Message: "refused"}}}, metav1.ConditionFalse, ReasonSessionDown, "peer tor: refused"},
		{"up with a shortcoming", report{decision: &Decision{Peers: peer}, sessions: []bgp.Session{{Peer: "tor", State: bgp.Established, Message: "no IPv6"}}}, metav1.ConditionFalse, ReasonSessionDown, "no IPv6"},
		{"differences", report{decision: &Decision{}, differences: []string{"1", "2", "3", "4", "5"}}, metav1.ConditionFalse, ReasonRoutesDiffer, "1; 2; 3; and 2 more"},
		{"broken object", report{decision: &Decision{Problems: []string{"oops"}}}, metav1.ConditionFalse, ReasonInvalidObject, "oops"},
		{"very long", report{decision: &Decision{Withheld: strings.Repeat("ä", 2000)}}, metav1.ConditionFalse, ReasonWithheld, "ä"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := tt.report.inSync()
			if c.Status != tt.status || c.Reason != tt.reason || !strings.Contains(c.Message, tt.word) {
				t.Errorf("condition %+v, want %s, %s, ...%s...", c, tt.status, tt.reason, tt.word)
			}
			if len(c.Message) > maxConditionMessageLen {
				t.Errorf("message of %d octets", len(c.Message))
			}
		})
	}
}

func TestStatusListsAtMostSoMany(t *testing.T) {
	d := &Decision{}
	for i := range v1alpha1.MaxListedAddresses + 5 {
		d.Announcements = append(d.Announcements, Announcement{Addr: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), Class: "public"})
	}
	d.Announcements = append(d.Announcements, Announcement{Addr: netip.MustParseAddr("11.0.0.1"), Class: "other"})
	st := (&report{decision: d}).status()
	if len(st.Classes) != 2 || len(st.Classes[0].Addresses) != v1alpha1.MaxListedAddresses || len(st.Classes[1].Addresses) != 1 {
		t.Errorf("%d classes with %d addresses", len(st.Classes), len(st.Classes[0].Addresses))
	}
	if want := int32(v1alpha1.MaxListedAddresses + 6); st.AddressCount != want {
		t.Errorf("addressCount %d, want %d", st.AddressCount, want)
	}
}

func TestCarryOver(t *testing.T) {
	session := func(state, message string, since int64) v1alpha1.NodeAnnouncementStatus {
		return v1alpha1.NodeAnnouncementStatus{BGP: []v1alpha1.BGPSession{{
			Peer: "tor", State: state, Message: message, Since: metav1.Unix(since, 0),
		}}}
	}
	tests := []struct {
		name     string
		old, now v1alpha1.NodeAnnouncementStatus
		same     bool
	}{
		{"circles while down", session("Active", "refused", 1), session("OpenSent", "refused", 9), true},
		{"another reason", session("Active", "refused", 1), session("Active", "no answer", 9), false},
		{"comes up", session("Active", "refused", 1), session("Established", "", 9), false},
		{"new session", session("Established", "", 1), session("Established", "", 9), false},
		{"same session", session("Established", "", 1), session("Established", "", 1), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := sameStatus(tt.old, carryOver(tt.old, tt.now)); got != tt.same {
				t.Errorf("same is %t, want %t", got, tt.same)
			}
		})
	}
}

// memoryAPI is an API that holds one NodeAnnouncement and may fail.
type memoryAPI struct {
	mu      sync.Mutex
	stored  *v1alpha1.NodeAnnouncement
	fail    error
	updates []time.Duration // since the start
	started time.Time
}

func (m *memoryAPI) Get(_ context.Context, name string, _ metav1.GetOptions) (*v1alpha1.NodeAnnouncement, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stored == nil {
		return nil, apierrors.NewNotFound(schema.GroupResource{}, name)
	}
	return m.stored.DeepCopy(), nil
}

func (m *memoryAPI) Create(_ context.Context, a *v1alpha1.NodeAnnouncement, _ metav1.CreateOptions) (*v1alpha1.NodeAnnouncement, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stored = a.DeepCopy()
	return a, nil
}

func (m *memoryAPI) UpdateStatus(_ context.Context, a *v1alpha1.NodeAnnouncement, _ metav1.UpdateOptions) (*v1alpha1.NodeAnnouncement, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.updates = append(m.updates, time.Since(m.started))
	if m.fail != nil {
		return nil, m.fail
	}
	m.stored = a.DeepCopy()
	return a, nil
}

// withWriter runs body beside a writer, on a fake clock.
func withWriter(t *testing.T, body func(*writer, *memoryAPI)) {
	synctest.Test(t, func(t *testing.T) {
		api := &memoryAPI{started: time.Now()}
		w := newWriter("a", api, newMetrics(prometheus.NewRegistry()))
		ctx, cancel := context.WithCancel(t.Context())
		go w.run(ctx)
		body(w, api)
		cancel()
		synctest.Wait()
	})
}

func count(n int32) v1alpha1.NodeAnnouncementStatus {
	return v1alpha1.NodeAnnouncementStatus{AddressCount: n}
}

func TestWriterFirstAtOnceThenSlowly(t *testing.T) {
	withWriter(t, func(w *writer, api *memoryAPI) {
		for i := range int32(600) {
			w.set("uid", count(i+1))
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if api.updates[0] != 0 {
			t.Errorf("first write after %s", api.updates[0])
		}
		// A minute of churn: a burst, then one every two seconds.
		if n := len(api.updates); n < 25 || n > 35 {
			t.Errorf("%d writes in a minute of churn, want about 30", n)
		}
		if api.stored.Status.AddressCount != 600 {
			t.Errorf("stored %d, want the last", api.stored.Status.AddressCount)
		}
	})
}

func TestWriterWritesNothingTwice(t *testing.T) {
	withWriter(t, func(w *writer, api *memoryAPI) {
		api.stored = &v1alpha1.NodeAnnouncement{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Status: count(7)}
		for range 5 {
			w.set("uid", count(7))
			time.Sleep(5 * time.Second)
		}
		synctest.Wait()
		if len(api.updates) != 0 {
			t.Errorf("%d writes of what was there already", len(api.updates))
		}
	})
}

func TestWriterWaitsForTheNode(t *testing.T) {
	withWriter(t, func(w *writer, api *memoryAPI) {
		w.set("", count(1))
		time.Sleep(time.Minute)
		synctest.Wait()
		if api.stored != nil {
			t.Errorf("created without an owner: %+v", api.stored)
		}
		w.set("uid", count(1))
		time.Sleep(time.Minute)
		synctest.Wait()
		if api.stored == nil || api.stored.OwnerReferences[0].UID != "uid" {
			t.Errorf("stored %+v, want an object that the Node owns", api.stored)
		}
	})
}

func TestWriterRetries(t *testing.T) {
	for _, failure := range []error{
		errors.New("connection refused"),
		apierrors.NewConflict(schema.GroupResource{}, "a", fmt.Errorf("changed")),
		apierrors.NewForbidden(schema.GroupResource{}, "a", fmt.Errorf("no")),
	} {
		withWriter(t, func(w *writer, api *memoryAPI) {
			api.fail = failure
			w.set("uid", count(1))
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			if n := len(api.updates); n < 5 || n > 20 {
				t.Errorf("%v: %d attempts in ten minutes", failure, n)
			}
			api.mu.Lock()
			api.fail = nil
			api.mu.Unlock()
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			if api.stored.Status.AddressCount != 1 {
				t.Errorf("%v: not written after the trouble was over", failure)
			}
		})
	}
}

func TestProxyCheckJudge(t *testing.T) {
	bad := errors.New("503")
	p := &proxyCheck{}
	steps := []struct {
		err     error
		healthy bool
	}{
		{bad, false}, {bad, false}, // not healthy until it says so once
		{nil, true}, {bad, true}, {bad, true}, {nil, true}, // two in a row are nothing
		{bad, true}, {bad, true}, {bad, false}, {bad, false},
		{nil, true},
	}
	for i, s := range steps {
		p.problem = p.judge(s.err)
		if (p.problem == "") != s.healthy {
			t.Fatalf("after answer %d: problem %q, want healthy=%t", i, p.problem, s.healthy)
		}
	}
}

func TestRouterID(t *testing.T) {
	v4, v6 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	if got := routerID("a", []netip.Addr{v6, v4}); got != v4 {
		t.Errorf("router ID %s, want the node's IPv4 address", got)
	}
	seen := map[netip.Addr]string{}
	for i := range 2000 {
		name := fmt.Sprint("node-", i)
		id := routerID(name, []netip.Addr{v6})
		if !id.Is4() || id.IsUnspecified() || id.As4()[0] == 0 || id.As4()[0] >= 224 {
			t.Fatalf("router ID of %s is %s", name, id)
		}
		if other, ok := seen[id]; ok {
			t.Fatalf("%s and %s have the same router ID %s", name, other, id)
		}
		seen[id] = name
	}
}
