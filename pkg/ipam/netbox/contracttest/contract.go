// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package contracttest

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox"
)

// test is one part of the suite. Each has a scene of its own, so that they do not
// depend on their order, and leave nothing in a real NetBox.
type test struct {
	name string
	run  func(*testing.T, *scene)
}

// Run tests the allocator against a NetBox. Nothing here knows whether that is the
// one in memory or a real one: where the two differ, one of the runs fails.
func Run(t *testing.T, target Target) {
	tests := []test{
		{"a claim is recorded, found and released", testLifeCycle},
		{"IPv6", testIPv6},
		{"racing claims get distinct addresses", testRacingClaims},
		{"racing claims of one key get one address", testRacingKey},
		{"a full pool", testFull},
		{"a full prefix is followed by the next", testNextPrefix},
		{"an asked-for address", testAsked},
		{"an asked-for address that is taken", testAskedTaken},
		{"the user changes the address", testChange},
		{"a change goes on where it broke off", testChangeBrokenOff},
		{"a change waits for the status", testChangeWithStatus},
		{"a change is taken back", testMind},
		{"the record of an address in use is lost", testLost},
		{"a status with an address of somebody else's", testForeignStatus},
		{"an engineer moves a claim", testMovedClaim},
		{"an engineer gives a record another address", testReaddressed},
		{"an engineer assigns an address", testByHand},
		{"an engineer's record outlives the Service", testKeep},
		{"an address is retained", testRetain},
		{"an address is shared", testShared},
		{"records as configured", testRecord},
		{"audit", testAudit},
		{"an engineer assigns an address outside of the pools", testByHandOutside},
		{"a Service is made anew", testNewUID},
		{"two clusters with one name", testTwoClusters},
		{"a record that is somebody else's now", testForeign},
		{"many are released while one is gone", testReleaseMany},
		{"a missing prefix and VRF", testMissing},
		{"usage", testUsage},
	}
	for _, tt := range append(tests, poolTests...) {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, newScene(t, target)) })
	}
}

// claim wants a claim and returns its address.
func claim(t *testing.T, a *netbox.Allocator, r ipam.Request) string {
	t.Helper()
	c, err := a.Claim(t.Context(), r)
	if err != nil {
		t.Fatalf("claiming for %s: %v", r.Key.Service, err)
	}
	if c.Key != r.Key || c.Owner != r.Owner {
		t.Errorf("asked for %v of %v, got %+v", r.Key, r.Owner, c)
	}
	return c.Addr.String()
}

// wantClaims compares all that this run has in NetBox, so that nothing is left over
// either.
func wantClaims(t *testing.T, s *scene, want map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, s.claims(t)); diff != "" {
		t.Errorf("the records in NetBox, address to claim (-want +got):\n%s", diff)
	}
}

// testLifeCycle is the way of most claims: whatever else changes, an address is
// recorded with its owner, found again by a process that knows nothing, and gone
// after its release.
func testLifeCycle(t *testing.T, s *scene) {
	a := s.allocator(t)
	r := s.request("web", s.pool(t, "198.18.0.0/28"))
	if got := claim(t, a, r); got != "198.18.0.1" {
		t.Errorf("got %s, want the lowest free address", got)
	}
	rec := s.addresses(t)[0]
	if rec.Status.Value != "active" || rec.Role != nil || rec.Description != fmt.Sprintf("k8s %s %s/web", s.target.Cluster, s.namespace) {
		t.Errorf("status, role or description: %+v", rec)
	}
	for field, want := range map[string]string{
		"k8s_lb_claim": r.Key.String(), "k8s_cluster": s.target.Cluster, "k8s_cluster_uid": clusterUID, "k8s_service_uid": "uid-of-web",
	} {
		if rec.Fields[field] != want {
			t.Errorf("field %s is %v, want %s", field, rec.Fields[field], want)
		}
	}
	restarted := s.allocator(t)
	for name, a := range map[string]*netbox.Allocator{"same": a, "restarted": restarted} {
		if got := claim(t, a, r); got != "198.18.0.1" {
			t.Errorf("%s: claimed again, got %s", name, got)
		}
		found, err := a.Find(t.Context(), s.namespace, "web")
		if err != nil || len(found) != 1 || found[0].Addr.String() != "198.18.0.1" || found[0].Owner.UID != "uid-of-web" {
			t.Errorf("%s: Find: %v, %v", name, found, err)
		}
	}
	for range 2 { // the second time there is nothing to do
		if err := restarted.Release(t.Context(), r.Key); err != nil {
			t.Fatal(err)
		}
	}
	wantClaims(t, s, map[string]string{})
	if found, err := restarted.Find(t.Context(), s.namespace, "web"); err != nil || len(found) != 0 {
		t.Errorf("after the release: %v, %v", found, err)
	}
}

// testIPv6 claims an address of each family for one Service: two keys, two records.
func testIPv6(t *testing.T, s *scene) {
	a := s.allocator(t)
	v6, v4 := s.pool(t, "2001:db8:c::/64"), s.pool(t, "198.18.0.0/28")
	r6, r4 := s.request("web", v6), s.request("web", v4)
	claim(t, a, r6)
	claim(t, a, r4)
	wantClaims(t, s, map[string]string{"2001:db8:c::1": "web/ipv6", "198.18.0.1": "web/ipv4"})
	found, err := a.Find(t.Context(), s.namespace, "web")
	if err != nil || len(found) != 2 || found[0].Key.Family != ipam.IPv4 || found[1].Key.Family != ipam.IPv6 {
		t.Errorf("%v, %v", found, err)
	}
}

// testRacingClaims lets two controllers claim at once, as two do for a moment when the
// leader changes.
func testRacingClaims(t *testing.T, s *scene) {
	const n = 40
	pool := s.pool(t, "198.18.0.0/24")
	one, two := s.allocator(t), s.allocator(t)
	got := make([]string, n)
	var wg sync.WaitGroup
	for i := range n {
		a := one
		if i%2 == 1 {
			a = two
		}
		wg.Go(func() {
			c, err := a.Claim(t.Context(), s.request(fmt.Sprintf("s%d", i), pool))
			if err != nil {
				t.Errorf("claim %d: %v", i, err)
			}
			got[i] = c.Addr.String()
		})
	}
	wg.Wait()
	want := map[string]string{}
	for i, addr := range got {
		want[addr] = fmt.Sprintf("s%d/ipv4", i)
	}
	if len(want) != n {
		t.Errorf("%d distinct addresses for %d Services", len(want), n)
	}
	wantClaims(t, s, want)
}

// testRacingKey is what the unique field is for.
func testRacingKey(t *testing.T, s *scene) {
	pool := s.pool(t, "198.18.0.0/28")
	got := map[string]bool{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 12 {
		a := s.allocator(t)
		if err := a.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			c, err := a.Claim(t.Context(), s.request("web", pool))
			if err != nil {
				t.Errorf("claim: %v", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			got[c.Addr.String()] = true
		})
	}
	wg.Wait()
	if len(got) != 1 {
		t.Errorf("one Service got %v", got)
	}
	wantClaims(t, s, map[string]string{"198.18.0.1": "web/ipv4"})
}

// testFull wants the last address to be found, and who gets none to be told why.
func testFull(t *testing.T, s *scene) {
	a := s.allocator(t)
	pool := s.pool(t, "198.18.0.0/30")
	results := make(chan error, 5)
	for i := range 5 {
		go func() {
			_, err := a.Claim(t.Context(), s.request(fmt.Sprintf("s%d", i), pool))
			results <- err
		}()
	}
	full := 0
	for range 5 {
		var exhausted *ipam.ExhaustedError
		if err := <-results; errors.As(err, &exhausted) {
			full++
			if want := fmt.Sprintf(`pool "public": 0 of 2 addresses free in 198.18.0.0/30 (VRF %s)`, s.namespace); err.Error() != want {
				t.Errorf("got %q, want %q", err, want)
			}
		} else if err != nil {
			t.Error(err)
		}
	}
	if full != 3 {
		t.Errorf("%d of 5 Services found the pool full, want 3", full)
	}
	if n := len(s.addresses(t)); n != 2 {
		t.Errorf("%d records, want 2", n)
	}
}

// testNextPrefix goes on with the next prefix of a pool when one is full.
func testNextPrefix(t *testing.T, s *scene) {
	a := s.allocator(t)
	pool := s.pool(t, "198.18.0.0/31", "198.18.1.0/28")
	for i, want := range []string{"198.18.0.0", "198.18.0.1", "198.18.1.1"} {
		if got := claim(t, a, s.request(fmt.Sprintf("s%d", i), pool)); got != want {
			t.Errorf("claim %d: got %s, want %s", i, got, want)
		}
	}
}

// testAsked claims the address that the user names, whatever is free below it.
func testAsked(t *testing.T, s *scene) {
	a := s.allocator(t)
	r := s.request("web", s.pool(t, "198.18.0.0/28"))
	r.Addr = netip.MustParseAddr("198.18.0.7")
	for range 2 {
		if got := claim(t, a, r); got != "198.18.0.7" {
			t.Errorf("got %s", got)
		}
	}
	if role := s.addresses(t)[0].Role; role != nil {
		t.Errorf("role %v is exempt from NetBox's uniqueness", role)
	}
	other := s.request("other", r.Pools...)
	other.Addr = netip.MustParseAddr("198.18.1.7")
	var outside *ipam.NotInPoolsError
	if _, err := a.Claim(t.Context(), other); !errors.As(err, &outside) {
		t.Errorf("an address outside gives %v", err)
	}
	wantClaims(t, s, map[string]string{"198.18.0.7": "web/ipv4"})
}

// testAskedTaken wants whoever has the address to be named.
func testAskedTaken(t *testing.T, s *scene) {
	a := s.allocator(t)
	pool := s.pool(t, "198.18.0.0/28")
	s.record(t, "198.18.0.7/28", "", nil)
	claim(t, a, s.request("first", pool))
	for addr, holder := range map[string]string{"198.18.0.7": "written by hand", "198.18.0.1": "/first/ipv4"} {
		r := s.request("web", pool)
		r.Addr = netip.MustParseAddr(addr)
		var conflict *ipam.ConflictError
		if _, err := a.Claim(t.Context(), r); !errors.As(err, &conflict) || !strings.Contains(err.Error(), holder) {
			t.Errorf("%s: got %v, want a conflict that names %q", addr, err, holder)
		}
	}
	wantClaims(t, s, map[string]string{"198.18.0.7": "", "198.18.0.1": "first/ipv4"})
}

// testChange moves a claim to another address, with the record of the old one gone
// only when the Service has the new one.
func testChange(t *testing.T, s *scene) {
	a := s.allocator(t)
	pool := s.pool(t, "198.18.0.0/28")
	claim(t, a, s.request("web", pool))
	r := s.request("web", pool)
	r.Addr = netip.MustParseAddr("198.18.0.9")
	if got := claim(t, a, r); got != "198.18.0.9" {
		t.Errorf("got %s", got)
	}
	wantClaims(t, s, map[string]string{"198.18.0.9": "web/ipv4"})
	// An address that cannot be had leaves everything as it is.
	r.Addr = netip.MustParseAddr("198.18.9.9")
	if _, err := a.Claim(t.Context(), r); !errors.As(err, new(*ipam.NotInPoolsError)) {
		t.Errorf("got %v", err)
	}
	wantClaims(t, s, map[string]string{"198.18.0.9": "web/ipv4"})
	if got := claim(t, a, s.request("web", pool)); got != "198.18.0.9" {
		t.Errorf("no longer asked for, got %s", got)
	}
}

// testChangeBrokenOff starts from each state that a crash can leave.
func testChangeBrokenOff(t *testing.T, s *scene) {
	pool := s.pool(t, "198.18.0.0/24")
	tests := []struct {
		name      string
		main      bool
		ask, want string
	}{
		{"new one recorded, still asked for", true, "198.18.0.20", "198.18.0.20"},
		{"new one recorded, no longer asked for", true, "", "198.18.0.10"},
		{"new one recorded, another one asked for", true, "198.18.0.30", "198.18.0.30"},
		{"old one deleted, still asked for", false, "198.18.0.20", "198.18.0.20"},
		{"old one deleted, no longer asked for", false, "", "198.18.0.20"},
		{"old one deleted, another one asked for", false, "198.18.0.30", "198.18.0.30"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.main {
				s.record(t, "198.18.0.10/32", "web/ipv4", s.ours("web"))
			}
			s.record(t, "198.18.0.20/32", "web/ipv4#next", s.ours("web"))
			r := s.request("web", pool)
			if tt.ask != "" {
				r.Addr = netip.MustParseAddr(tt.ask)
			}
			a := s.allocator(t)
			if got := claim(t, a, r); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			wantClaims(t, s, map[string]string{tt.want: "web/ipv4"})
			if err := a.Release(t.Context(), r.Key); err != nil {
				t.Fatal(err)
			}
			wantClaims(t, s, map[string]string{})
		})
	}
	t.Run("released in the middle", func(t *testing.T) {
		s.record(t, "198.18.0.10/32", "web/ipv4", s.ours("web"))
		s.record(t, "198.18.0.20/32", "web/ipv4#next", s.ours("web"))
		if err := s.allocator(t).Release(t.Context(), s.request("web", pool).Key); err != nil {
			t.Fatal(err)
		}
		wantClaims(t, s, map[string]string{})
	})
}

// testByHand is the way of an engineer who assigns addresses in NetBox: the claim
// field and nothing else. What else the record says stays as written.
func testByHand(t *testing.T, s *scene) {
	a := s.allocator(t)
	pool := s.pool(t, "198.18.0.0/28")
	claim(t, a, s.request("first", pool)) // the cache is full before the engineer comes
	s.record(t, "198.18.0.9/28", "web/ipv4", map[string]any{"k8s_cluster": s.target.Cluster})
	if got := claim(t, a, s.request("web", pool)); got != "198.18.0.9" {
		t.Errorf("got %s, want what the engineer wrote", got)
	}
	for _, rec := range s.addresses(t) {
		if strings.HasPrefix(rec.Address, "198.18.0.9/") &&
			(rec.Fields["k8s_service_uid"] != "uid-of-web" || rec.Fields["k8s_cluster_uid"] != clusterUID || rec.Description != "written by hand") {
			t.Errorf("owner or the engineer's description: %+v", rec)
		}
	}
}

// testByHandOutside refuses an address that no pool of the Service holds: NetBox alone
// cannot give a Service what the cluster's administrator has not allowed.
func testByHandOutside(t *testing.T, s *scene) {
	pool := s.pool(t, "198.18.0.0/28")
	s.record(t, "198.18.1.9/28", "web/ipv4", nil)
	_, err := s.allocator(t).Claim(t.Context(), s.request("web", pool))
	if !errors.As(err, new(*ipam.ConfigError)) || !strings.Contains(err.Error(), "lies in none of its pools") {
		t.Errorf("got %v", err)
	}
	wantClaims(t, s, map[string]string{"198.18.1.9": "web/ipv4"})
}

// testNewUID: a Service that was deleted and made again keeps its address, if it comes
// before the release.
func testNewUID(t *testing.T, s *scene) {
	pool := s.pool(t, "198.18.0.0/28")
	claim(t, s.allocator(t), s.request("web", pool))
	r := s.request("web", pool)
	r.Owner.UID = "uid-of-the-next-web"
	if got := claim(t, s.allocator(t), r); got != "198.18.0.1" {
		t.Errorf("got %s", got)
	}
	if got := s.addresses(t)[0].Fields["k8s_service_uid"]; got != "uid-of-the-next-web" {
		t.Errorf("NetBox has UID %v", got)
	}
}

// testTwoClusters: two clusters with one name have the same keys, and each would take
// the other's records for its own but for the UID.
func testTwoClusters(t *testing.T, s *scene) {
	pool := s.pool(t, "198.18.0.0/28")
	r := s.request("web", pool)
	claim(t, s.allocator(t), r)
	double := s.allocatorOf(t, "another-uid")
	var conflict *ipam.ConflictError
	if _, err := double.Claim(t.Context(), r); !errors.As(err, &conflict) || !strings.Contains(err.Error(), "another clusterName") {
		t.Errorf("Claim: %v", err)
	}
	if err := double.Release(t.Context(), r.Key); !errors.As(err, &conflict) {
		t.Errorf("Release: %v", err)
	}
	if found, err := double.Find(t.Context(), s.namespace, "web"); err != nil || len(found) != 0 {
		t.Errorf("Find: %v, %v", found, err)
	}
	wantClaims(t, s, map[string]string{"198.18.0.1": "web/ipv4"})
}

// testForeign (G4) releases nothing that belongs to somebody else by now.
func testForeign(t *testing.T, s *scene) {
	a := s.allocator(t)
	r := s.request("web", s.pool(t, "198.18.0.0/28"))
	claim(t, a, r)
	id := s.addresses(t)[0].ID
	s.change(t, id, map[string]any{"k8s_cluster": "somebody-else"})
	if err := a.Release(t.Context(), r.Key); !errors.As(err, new(*ipam.ConflictError)) {
		t.Errorf("a record of another cluster: %v", err)
	}
	s.change(t, id, map[string]any{"k8s_cluster": nil, "k8s_lb_claim": nil})
	if err := a.Release(t.Context(), r.Key); err != nil {
		t.Errorf("a record that is nobody's claim: %v", err)
	}
	wantClaims(t, s, map[string]string{"198.18.0.1": ""})
}

// testReleaseMany: NetBox refuses a list of deletions as a whole if one of them is
// gone (4.7), and the others must go all the same.
func testReleaseMany(t *testing.T, s *scene) {
	const n = 20
	a := s.allocator(t)
	pool := s.pool(t, "198.18.0.0/24")
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { claim(t, a, s.request(fmt.Sprintf("s%d", i), pool)) })
	}
	wg.Wait()
	s.remove(t, object{path: "ipam/ip-addresses/", id: s.addresses(t)[n/2].ID})
	for i := range n {
		wg.Go(func() {
			if err := a.Release(t.Context(), s.request(fmt.Sprintf("s%d", i), pool).Key); err != nil {
				t.Errorf("release %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	wantClaims(t, s, map[string]string{})
}

// testMissing wants sentences that name the pool and its field.
func testMissing(t *testing.T, s *scene) {
	a := s.allocator(t)
	pool := s.pool(t, "198.18.0.0/28")
	pool.Spec = *pool.Spec.DeepCopy()
	pool.Spec.NetBox.Prefixes[0].Prefix = "198.18.77.0/24"
	_, err := a.Claim(t.Context(), s.request("web", pool))
	want := fmt.Sprintf(`pool "public": NetBox has no prefix 198.18.77.0/24 in VRF %q: create it or correct spec.netbox.prefixes[0].prefix`, s.namespace)
	if !errors.As(err, new(*ipam.ConfigError)) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	pool.Spec.NetBox.Prefixes[0].VRF = "no-such-vrf"
	_, err = a.Claim(t.Context(), s.request("web", pool))
	want = `pool "public": NetBox has no VRF "no-such-vrf": create it or correct spec.netbox.prefixes[0].vrf`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// testUsage counts by family, records of others included.
func testUsage(t *testing.T, s *scene) {
	a := s.allocator(t)
	pool := s.pool(t, "198.18.0.0/28", "198.18.1.0/31", "2001:db8:c::/120")
	s.record(t, "198.18.0.9/28", "", nil)
	claim(t, a, s.request("web", pool))
	got, err := a.Usage(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	want := map[ipam.Family]ipam.Usage{
		ipam.IPv4: {Capacity: 16, Used: 2, Free: 14},
		ipam.IPv6: {Capacity: 255, Used: 0, Free: 255},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
