// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package contracttest

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"text/template"

	"github.com/google/go-cmp/cmp"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/schema"
)

// holding returns a request of a Service that has an address.
func holding(r ipam.Request, addr string) ipam.Request {
	r.Held = netip.MustParseAddr(addr)
	return r
}

// asking returns a request for an address.
func asking(r ipam.Request, addr string) ipam.Request {
	r.Addr = netip.MustParseAddr(addr)
	return r
}

// recordAt returns the record of a host.
func (s *scene) recordAt(t *testing.T, host string) address {
	t.Helper()
	for _, a := range s.addresses(t) {
		if strings.HasPrefix(a.Address, host+"/") {
			return a
		}
	}
	t.Fatalf("NetBox has no record of %s", host)
	return address{}
}

// wantMoved wants a claim to say that its record is of another address.
func wantMoved(t *testing.T, a *netbox.Allocator, r ipam.Request, recorded string) {
	t.Helper()
	_, err := a.Claim(t.Context(), r)
	var moved *ipam.MovedError
	if !errors.As(err, &moved) || moved.Recorded.String() != recorded || moved.Held != r.Held {
		t.Fatalf("got %v, want a word on %s, which NetBox gives to a Service that has %s", err, recorded, r.Held)
	}
}

// testChangeWithStatus: the old address goes when the status names the new one.
func testChangeWithStatus(t *testing.T, s *scene) {
	pool := s.pool(t, "198.18.0.0/28")
	claim(t, s.allocator(t), s.request("web", pool))
	for range 2 { // also by the next process
		if got := claim(t, s.allocator(t), asking(holding(s.request("web", pool), "198.18.0.1"), "198.18.0.9")); got != "198.18.0.9" {
			t.Errorf("got %s", got)
		}
		wantClaims(t, s, map[string]string{"198.18.0.1": "web/ipv4", "198.18.0.9": "web/ipv4#next"})
	}
	for name, r := range map[string]ipam.Request{
		"still asked for":     asking(holding(s.request("web", pool), "198.18.0.9"), "198.18.0.9"),
		"no longer asked for": holding(s.request("web", pool), "198.18.0.9"),
	} {
		if got := claim(t, s.allocator(t), r); got != "198.18.0.9" {
			t.Errorf("%s: got %s", name, got)
		}
		wantClaims(t, s, map[string]string{"198.18.0.9": "web/ipv4"})
	}
}

// testMind: the user takes the wish back before the status names the new one.
func testMind(t *testing.T, s *scene) {
	pool := s.pool(t, "198.18.0.0/28")
	a := s.allocator(t)
	r := holding(s.request("web", pool), claim(t, a, s.request("web", pool)))
	claim(t, a, asking(r, "198.18.0.9"))
	if got := claim(t, a, r); got != "198.18.0.1" {
		t.Errorf("got %s", got)
	}
	wantClaims(t, s, map[string]string{"198.18.0.1": "web/ipv4"})
}

// testLost: the address in use is recorded again when its record, or the claim
// in it, is gone.
func testLost(t *testing.T, s *scene) {
	pool := s.pool(t, "198.18.0.0/28")
	claim(t, s.allocator(t), s.request("other", pool))
	r := holding(s.request("web", pool), claim(t, s.allocator(t), s.request("web", pool)))
	want := map[string]string{"198.18.0.1": "other/ipv4", "198.18.0.2": "web/ipv4"}

	s.change(t, s.recordAt(t, "198.18.0.2").ID, map[string]any{"k8s_lb_claim": nil})
	if got := claim(t, s.allocator(t), r); got != "198.18.0.2" {
		t.Errorf("claim cleared: got %s", got)
	}
	wantClaims(t, s, want)

	s.remove(t, object{path: "ipam/ip-addresses/", id: s.recordAt(t, "198.18.0.2").ID})
	if got := claim(t, s.allocator(t), r); got != "198.18.0.2" {
		t.Errorf("record deleted: got %s", got)
	}
	wantClaims(t, s, want)

	s.change(t, s.recordAt(t, "198.18.0.2").ID, map[string]any{"k8s_lb_claim": nil, "k8s_cluster": nil, "k8s_service_uid": nil})
	if _, err := s.allocator(t).Claim(t.Context(), r); !errors.As(err, new(*ipam.ConflictError)) {
		t.Errorf("made somebody else's: %v", err)
	}
}

// testForeignStatus: a status with an address that is in no pool is not the
// Service's; the record counts.
func testForeignStatus(t *testing.T, s *scene) {
	pool := s.pool(t, "198.18.0.0/28")
	claim(t, s.allocator(t), s.request("web", pool))
	if got := claim(t, s.allocator(t), holding(s.request("web", pool), "203.0.113.77")); got != "198.18.0.1" {
		t.Errorf("got %s", got)
	}
	_, err := s.allocator(t).Claim(t.Context(), holding(s.request("new", pool), "203.0.113.77"))
	if !errors.As(err, new(*ipam.ConfigError)) || !strings.Contains(err.Error(), "203.0.113.77") {
		t.Errorf("without a record: %v", err)
	}
}

// testMovedClaim: an engineer moves the claim of a Service to another record.
func testMovedClaim(t *testing.T, s *scene) {
	pool := s.pool(t, "198.18.0.0/28")
	a := s.allocator(t)
	r := holding(s.request("web", pool), claim(t, a, s.request("web", pool)))
	move := func(t *testing.T) {
		s.change(t, s.recordAt(t, "198.18.0.1").ID, map[string]any{"k8s_lb_claim": nil})
		s.record(t, "198.18.0.9/28", "web/ipv4", map[string]any{"k8s_cluster": s.target.Cluster})
		for range 2 {
			wantMoved(t, s.allocator(t), r, "198.18.0.9")
			wantClaims(t, s, map[string]string{"198.18.0.1": "web/ipv4#next", "198.18.0.9": "web/ipv4"})
		}
	}
	t.Run("taken back", func(t *testing.T) {
		move(t)
		s.change(t, s.recordAt(t, "198.18.0.9").ID, map[string]any{"k8s_lb_claim": nil})
		if got := claim(t, s.allocator(t), r); got != "198.18.0.1" {
			t.Errorf("got %s", got)
		}
		wantClaims(t, s, map[string]string{"198.18.0.1": "web/ipv4", "198.18.0.9": ""})
		s.remove(t, object{path: "ipam/ip-addresses/", id: s.recordAt(t, "198.18.0.9").ID})
	})
	t.Run("refused by the user", func(t *testing.T) {
		move(t)
		if got := claim(t, s.allocator(t), asking(r, "198.18.0.1")); got != "198.18.0.1" {
			t.Errorf("got %s", got)
		}
		wantClaims(t, s, map[string]string{"198.18.0.1": "web/ipv4", "198.18.0.9": ""})
		s.remove(t, object{path: "ipam/ip-addresses/", id: s.recordAt(t, "198.18.0.9").ID})
	})
	t.Run("followed by the user", func(t *testing.T) {
		move(t)
		if got := claim(t, s.allocator(t), asking(r, "198.18.0.9")); got != "198.18.0.9" {
			t.Errorf("got %s", got)
		}
		if got := claim(t, s.allocator(t), asking(holding(r, "198.18.0.9"), "198.18.0.9")); got != "198.18.0.9" {
			t.Errorf("got %s", got)
		}
		wantClaims(t, s, map[string]string{"198.18.0.9": "web/ipv4"})
	})
}

// testReaddressed: an engineer gives the record of a Service another address.
func testReaddressed(t *testing.T, s *scene) {
	pool := s.pool(t, "198.18.0.0/28")
	r := holding(s.request("web", pool), claim(t, s.allocator(t), s.request("web", pool)))
	rec := s.recordAt(t, "198.18.0.1")
	s.admin(t, "PATCH", objectPath(rec.ID), map[string]any{"address": "198.18.0.9/32"}, nil)
	for range 2 {
		wantMoved(t, s.allocator(t), r, "198.18.0.9")
		wantClaims(t, s, map[string]string{"198.18.0.1": "web/ipv4#next", "198.18.0.9": "web/ipv4"})
	}
	s.admin(t, "PATCH", objectPath(s.recordAt(t, "198.18.0.9").ID), map[string]any{"custom_fields": map[string]any{"k8s_lb_claim": nil}}, nil)
	if got := claim(t, s.allocator(t), r); got != "198.18.0.1" {
		t.Errorf("got %s", got)
	}
}

// testRetain keeps an address for the next Service of that name, and from all others.
func testRetain(t *testing.T, s *scene) {
	pool := s.pool(t, "198.18.0.0/28")
	a := s.allocator(t)
	r := s.request("web", pool)
	claim(t, a, r)
	for range 2 {
		if err := a.Retain(t.Context(), r.Key); err != nil {
			t.Fatal(err)
		}
		rec := s.recordAt(t, "198.18.0.1")
		if rec.Status.Value != "reserved" || rec.Fields["k8s_service_uid"] != nil || rec.Fields["k8s_lb_claim"] != r.Key.String() {
			t.Errorf("retained: %+v", rec)
		}
	}
	for name, a := range map[string]*netbox.Allocator{"same": a, "restarted": s.allocator(t)} {
		found, err := a.Find(t.Context(), s.namespace, "web")
		if err != nil || len(found) != 1 || !found[0].Reserved {
			t.Errorf("%s: found %+v, %v", name, found, err)
		}
	}
	if got := claim(t, a, s.request("other", pool)); got != "198.18.0.2" {
		t.Errorf("another Service got %s", got)
	}
	r.Owner.UID = "uid-of-the-next-web"
	if got := claim(t, s.allocator(t), r); got != "198.18.0.1" {
		t.Errorf("the next Service of that name got %s", got)
	}
	if rec := s.recordAt(t, "198.18.0.1"); rec.Status.Value != "active" || rec.Fields["k8s_service_uid"] != "uid-of-the-next-web" {
		t.Errorf("in use again: %+v", rec)
	}
	if err := a.Release(t.Context(), r.Key); err != nil {
		t.Fatal(err)
	}
	wantClaims(t, s, map[string]string{"198.18.0.2": "other/ipv4"})
}

// testKeep: what an engineer wrote for a Service outlives it.
func testKeep(t *testing.T, s *scene) {
	pool := s.pool(t, "198.18.0.0/28")
	id := s.record(t, "198.18.0.9/28", "web/ipv4", map[string]any{"k8s_cluster": s.target.Cluster}).id
	s.admin(t, "PATCH", objectPath(id), map[string]any{"status": "reserved"}, nil)
	r := s.request("web", pool)
	for range 2 {
		a := s.allocator(t)
		if got := claim(t, a, r); got != "198.18.0.9" {
			t.Errorf("got %s", got)
		}
		if rec := s.recordAt(t, "198.18.0.9"); rec.Status.Value != "active" || rec.Fields["k8s_lb_release"] != schema.ReleaseKeep {
			t.Errorf("in use: %+v", rec)
		}
		for range 2 {
			if err := a.Release(t.Context(), r.Key); err != nil {
				t.Fatal(err)
			}
		}
		rec := s.recordAt(t, "198.18.0.9")
		if rec.ID != id || rec.Status.Value != "reserved" || rec.Description != "written by hand" || rec.Fields["k8s_service_uid"] != nil {
			t.Errorf("after the release: %+v", rec)
		}
		wantClaims(t, s, map[string]string{"198.18.0.9": "web/ipv4"})
	}
}

// testShared: Services begin and cease to share an address.
func testShared(t *testing.T, s *scene) {
	pool := s.pool(t, "198.18.0.0/28")
	a := s.allocator(t)
	own := s.request("web", pool)
	claim(t, a, own)
	group := own
	group.Key = ipam.GroupKey(s.target.Cluster, s.namespace, "edge", ipam.IPv4)
	group.Owner.UID, group.Former = ipam.SharedUID, []ipam.Key{own.Key}
	for range 2 {
		if got := claim(t, a, group); got != "198.18.0.1" {
			t.Errorf("sharing moved the address to %s", got)
		}
		wantClaims(t, s, map[string]string{"198.18.0.1": "+edge/ipv4"})
	}
	if found, err := a.Find(t.Context(), s.namespace, "web"); err != nil || len(found) != 0 {
		t.Errorf("of its own it has %v, %v", found, err)
	}
	own.Former = []ipam.Key{group.Key}
	if got := claim(t, s.allocator(t), own); got != "198.18.0.1" {
		t.Errorf("no longer sharing moved the address to %s", got)
	}
	wantClaims(t, s, map[string]string{"198.18.0.1": "web/ipv4"})
}

// testRecord: what the configuration says is written once; what an admin
// changes later stays.
func testRecord(t *testing.T, s *scene) {
	tag := strings.ToLower(s.namespace)
	s.make(t, "extras/tags/", map[string]any{"name": tag, "slug": tag})
	s.make(t, "tenancy/tenants/", map[string]any{"name": tag, "slug": tag})
	c, err := s.client()
	if err != nil {
		t.Fatal(err)
	}
	a := netbox.NewAllocator(c, s.target.Cluster, clusterUID, netbox.Record{
		Tenant: tag, Tags: []string{tag}, Status: "dhcp",
		Description: template.Must(template.New("").Parse("{{.Service}} in {{.Namespace}} of {{.Cluster}} ({{.Class}}, {{.Family}})")),
	})
	r := s.request("web", s.pool(t, "198.18.0.0/28"))
	r.Owner.Class, r.Hostname = "public", "web.example.org"
	claim(t, a, r)
	rec := s.recordAt(t, "198.18.0.1")
	want := address{
		ID: rec.ID, Address: rec.Address, Status: rec.Status, Fields: rec.Fields, DNSName: "web.example.org",
		Description: "web in " + s.namespace + " of " + s.target.Cluster + " (public, ipv4)",
		Tenant:      slug{tag}, Tags: []slug{{tag}},
	}
	if diff := cmp.Diff(want, rec); diff != "" || rec.Status.Value != "dhcp" || rec.Fields["k8s_lb_class"] != "public" {
		t.Errorf("record %+v (-want +got):\n%s", rec, diff)
	}
	s.admin(t, "PATCH", objectPath(rec.ID), map[string]any{"description": "mine", "comments": "mine", "tags": []any{}}, nil)
	r.Hostname = "www.example.org"
	r.Owner.UID = "uid-of-the-next-web"
	claim(t, s.allocator(t), r)
	rec = s.recordAt(t, "198.18.0.1")
	if rec.Description != "mine" || rec.DNSName != "www.example.org" || len(rec.Tags) != 0 || rec.Tenant.Slug != tag {
		t.Errorf("after an admin's changes: %+v", rec)
	}
	if err := a.Release(t.Context(), r.Key); err != nil { // before the tenant can go
		t.Fatal(err)
	}
}

// testAudit wants each kind of mistake to be found in a real list of records.
func testAudit(t *testing.T, s *scene) {
	pool := s.pool(t, "198.18.0.0/28")
	a := s.allocator(t)
	claim(t, a, s.request("web", pool))
	claim(t, a, s.request("db", pool))
	report, err := a.Audit(t.Context(), []ipam.Pool{pool})
	if err != nil || len(s.mine(report.Findings)) != 0 {
		t.Fatalf("all is well, but: %+v, %v", report.Findings, err)
	}
	s.change(t, s.recordAt(t, "198.18.0.2").ID, map[string]any{"k8s_cluster": "somebody-else"})
	s.record(t, "198.18.0.3/28", "", map[string]any{"k8s_cluster": s.target.Cluster})
	s.record(t, "198.18.0.4/28", "two/ipv6", map[string]any{"k8s_cluster": s.target.Cluster})
	s.record(t, "198.18.0.5/28", "three/ipv4", map[string]any{"k8s_cluster": s.target.Cluster, "k8s_cluster_uid": "another"})
	report, err = s.allocator(t).Audit(t.Context(), []ipam.Pool{pool})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]ipam.FindingKind{}
	for _, f := range s.mine(report.Findings) {
		got[f.Addr.String()] = f.Kind
		if f.Text == "" {
			t.Errorf("%+v says nothing", f)
		}
	}
	want := map[string]ipam.FindingKind{
		"198.18.0.2": ipam.ForeignOwner, "198.18.0.3": ipam.BadClaim, "198.18.0.4": ipam.BadClaim, "198.18.0.5": ipam.SameClusterName,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s\n%+v", diff, report.Findings)
	}
}

// mine returns the findings about this run's addresses.
func (s *scene) mine(findings []ipam.Finding) []ipam.Finding {
	var out []ipam.Finding
	for _, f := range findings {
		if netip.MustParsePrefix("198.18.0.0/28").Contains(f.Addr) {
			out = append(out, f)
		}
	}
	return out
}
