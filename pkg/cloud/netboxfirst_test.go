// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"strings"
	"testing"
	"time"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/service/servicetest"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/netboxtest"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/schema"
)

// record returns what NetBox has at an address.
func recordAt(t *testing.T, server *netboxtest.Server, addr string) netboxtest.Address {
	t.Helper()
	for _, a := range server.Addresses() {
		if strings.HasPrefix(a.Address, addr+"/") {
			return a
		}
	}
	t.Fatalf("NetBox does not have %s", addr)
	return netboxtest.Address{}
}

func TestRetain(t *testing.T) {
	server, connect := newNetBox(t)
	w := newHarness(t, netboxCatalog(), connect)
	retain := servicetest.Annotated(v1alpha1.AnnotationRetain, "true")
	w.create("web", "", 80, retain)
	w.create("other", "", 80)
	w.create("s1", "k", 80, retain)
	w.create("s2", "k", 443)
	w.settle()
	kept := map[string]string{"web": w.ip("web"), "s1": w.ip("s1")}
	for _, name := range []string{"web", "other", "s2", "s1"} {
		w.delete(name)
		w.settle()
	}
	w.wantClaims()
	if n := len(server.Addresses()); n != 2 {
		t.Errorf("NetBox keeps %d addresses, want 2: %+v", n, server.Addresses())
	}
	if err := w.check(nil); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"new", "web", "s1"} {
		key := ""
		if name == "s1" {
			key = "k"
		}
		w.create(name, key, 80)
	}
	w.settle()
	w.wantIPs(kept)
	if ip := w.ip("new"); ip == kept["web"] || ip == kept["s1"] {
		t.Errorf("a retained address was given to another Service")
	}
	if len(w.events) > 0 {
		t.Errorf("Events: %v", w.events)
	}
}

func TestRetainNeedsNetBox(t *testing.T) {
	w := newHarness(t, newCatalog(inlinePool("v4", "192.0.2.1-192.0.2.9")), nil)
	w.create("a", "", 80, servicetest.Annotated(v1alpha1.AnnotationRetain, "true"))
	w.create("later", "", 80)
	w.settle()
	if len(w.events) != 1 || !w.warned("a", `192.0.2.1 will not stay reserved (annotation bm-ccm.io/retain): pool "v4" lists`) {
		t.Errorf("Events: %q", w.events)
	}
	w.edit("later", servicetest.Annotated(v1alpha1.AnnotationRetain, "true"))
	w.settle()
	w.start()
	w.settle()
	if len(w.events) != 2 || !w.warned("later", "192.0.2.2 will not stay reserved") {
		t.Errorf("Events: %q", w.events)
	}
}

func TestHostname(t *testing.T) {
	server, connect := newNetBox(t)
	w := newHarness(t, netboxCatalog(), connect)
	w.create("web", "", 80, servicetest.Annotated(v1alpha1.AnnotationHostname, "WWW.example.org"))
	w.create("s1", "k", 80, servicetest.Annotated(v1alpha1.AnnotationHostname, "shared.example.org"))
	w.create("s2", "k", 443, servicetest.Annotated(v1alpha1.AnnotationHostname, "late.example.org"))
	w.settle()
	for name, want := range map[string]string{"web": "www.example.org", "s1": "shared.example.org"} {
		if got := recordAt(t, server, w.ip(name)).DNSName; got != want {
			t.Errorf("%s is %q in NetBox, want %q", name, got, want)
		}
	}
	server.ResetRequests()
	w.start()
	w.settle()
	for request, n := range server.RequestCounts() {
		if !strings.HasPrefix(request, "GET") {
			t.Errorf("%d times %s at rest", n, request)
		}
	}
}

// An engineer gives the Service's name to another address: nothing moves by
// itself, and the Service says what NetBox wants.
func TestMovedInNetBox(t *testing.T) {
	server, connect := newNetBox(t)
	w := newHarness(t, netboxCatalog(), connect)
	w.create("web", "", 80)
	w.create("s1", "k", 80)
	w.settle()
	before := map[string]string{"web": w.ip("web"), "s1": w.ip("s1")}
	for _, claim := range []string{"lab/default/web/ipv4", "lab/default/+k/ipv4"} {
		for _, a := range server.Addresses() {
			if a.CustomFields[schema.FieldClaim] == claim {
				behind(t, server, map[string]any{"id": a.ID, "custom_fields": map[string]any{schema.FieldClaim: nil}})
			}
		}
	}
	behind(t, server, map[string]any{"address": "203.0.113.99/32", "custom_fields": map[string]any{schema.FieldClaim: "lab/default/web/ipv4"}})
	behind(t, server, map[string]any{"address": "203.0.113.98/32", "custom_fields": map[string]any{schema.FieldClaim: "lab/default/+k/ipv4"}})
	w.start()
	if waits := w.settle(); len(waits) > 0 {
		t.Errorf("waiting: %v", waits)
	}
	w.wantIPs(before)
	for _, name := range []string{"web", "s1"} {
		w.b.conditions.mu.Lock()
		said := w.b.conditions.moved[w.live[name].UID]
		w.b.conditions.mu.Unlock()
		if !strings.Contains(said, "this Service has "+before[name]+" and keeps it") {
			t.Errorf("%s says %q", name, said)
		}
	}
	// The user agrees.
	w.edit("web", servicetest.Annotated(v1alpha1.AnnotationAddresses, "203.0.113.99"))
	w.settle()
	w.wantIPs(map[string]string{"web": "203.0.113.99"})
	if said := w.b.conditions.moved[w.live["web"].UID]; said != "" {
		t.Errorf("still said: %q", said)
	}
}

func behind(t *testing.T, server *netboxtest.Server, data map[string]any) {
	t.Helper()
	if _, err := server.WriteBehindBack(data); err != nil {
		t.Fatal(err)
	}
}

// N1: an engineer writes a Service's name into an address before there is one.
func TestAssignedInNetBoxFirst(t *testing.T) {
	server, connect := newNetBox(t)
	w := newHarness(t, netboxCatalog(), connect)
	behind(t, server, map[string]any{"address": "203.0.113.77/32", "custom_fields": map[string]any{schema.FieldClaim: "lab/default/web/ipv4"}})
	behind(t, server, map[string]any{"address": "203.0.113.78/32", "custom_fields": map[string]any{schema.FieldClaim: "lab/default/+k/ipv4"}})
	w.create("web", "", 80)
	w.create("s1", "k", 80)
	w.create("s2", "k", 443)
	w.settle()
	w.wantIPs(map[string]string{"web": "203.0.113.77", "s1": "203.0.113.78", "s2": "203.0.113.78"})
}

// While NetBox is away, also after a restart, who shares keeps the address, and
// who wants to join waits.
func TestSharersWhileNetBoxIsAway(t *testing.T) {
	server, connect := newNetBox(t)
	w := newHarness(t, netboxCatalog(), connect)
	w.create("old", "", 443)
	w.create("a", "k", 80)
	w.create("b", "k", 443)
	w.settle()
	before := map[string]string{"a": w.ip("a"), "b": w.ip("b"), "old": w.ip("old"), "new": ""}
	restore := server.Inject(netboxtest.Fault{Reset: true})
	w.start()
	w.create("new", "k", 8080)
	w.edit("old", servicetest.Sharing("k")) // older than b, whose port it wants
	waits := w.settle()
	w.wantIPs(before)
	if len(waits) != 1 || waits["new"] == "" {
		t.Errorf("waiting: %v", waits)
	}
	restore()
	time.Sleep(time.Second) // a failed check of NetBox counts for that long
	waits = w.settle()
	before["new"] = before["a"]
	w.wantIPs(before)
	if len(waits) != 1 || !strings.Contains(waits["old"], `with Service "b": both have port TCP/443`) {
		t.Errorf("waiting: %v", waits)
	}
}
