// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox/contracttest"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/netboxtest"
)

func poolFrom(avoidBuggy bool, source v1alpha1.NetBoxSource) ipam.Pool {
	return ipam.Pool{Name: "public", Spec: v1alpha1.AddressPoolSpec{AvoidBuggyIPs: avoidBuggy, NetBox: &source}}
}

var (
	reservedPool = poolFrom(false, v1alpha1.NetBoxSource{Reserved: &v1alpha1.NetBoxReserved{Tenant: "kube"}})
	pickedPool   = poolFrom(true, v1alpha1.NetBoxSource{Prefixes: []v1alpha1.NetBoxPrefix{{Prefix: "198.51.100.0/24"}}})
	rangePool    = poolFrom(false, v1alpha1.NetBoxSource{Ranges: []v1alpha1.NetBoxRange{{Range: "192.0.2.10-192.0.2.250"}}})
	foundPool    = poolFrom(false, v1alpha1.NetBoxSource{Selector: &v1alpha1.NetBoxSelector{Tag: "lb"}})
)

// startWithPools runs a NetBox that has something for each of these pools.
func startWithPools(t *testing.T, opts netboxtest.Options) (*netboxtest.Server, contracttest.Target) {
	t.Helper()
	opts.Seed = seed()
	opts.Seed.Tags = []string{"lb"}
	opts.Seed.Prefixes = append(opts.Seed.Prefixes,
		netboxtest.SeedPrefix{Prefix: "198.51.100.0/24", IsPool: true},
		netboxtest.SeedPrefix{Prefix: "203.0.114.0/24", Tags: []string{"lb"}})
	opts.Seed.Ranges = []netboxtest.SeedRange{{Start: "192.0.2.10/24", End: "192.0.2.250/24"}}
	for i := 1; i <= 50; i++ {
		opts.Seed.Addrs = append(opts.Seed.Addrs, netboxtest.SeedAddress{Address: fmt.Sprintf("10.9.0.%d/24", i), Status: "reserved", Tenant: "kube"})
	}
	srv, target := start(t, opts)
	target.TokenFile = writeToken(t, netboxtest.DefaultToken) // what a fenced one may do is in the contract
	return srv, target
}

func from(service string, p ipam.Pool) ipam.Request {
	r := request(service, "")
	r.Pools = []ipam.Pool{p}
	return r
}

// claimed returns the addresses with a claim.
func claimed(srv *netboxtest.Server) map[string]string {
	out := map[string]string{}
	for _, a := range srv.Addresses() {
		if claim, _ := a.CustomFields["k8s_lb_claim"].(string); claim != "" {
			host, _, _ := strings.Cut(a.Address, "/")
			out[host] = strings.TrimPrefix(claim, "lab/default/")
		}
	}
	return out
}

func wantClaimed(t *testing.T, srv *netboxtest.Server, want map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, claimed(srv)); diff != "" {
		t.Errorf("the claims in NetBox (-want +got):\n%s", diff)
	}
}

// TestCrashOfPools lets a process die at each request of a claim, and of a
// release, from each kind of pool.
func TestCrashOfPools(t *testing.T) {
	for name, tt := range map[string]struct {
		pool  ipam.Pool
		first string
	}{
		"reserved": {reservedPool, "10.9.0.1"}, "picked": {pickedPool, "198.51.100.1"},
		"range": {rangePool, "192.0.2.10"}, "found": {foundPool, "203.0.114.1"},
	} {
		for death, fault := range map[string]netboxtest.Fault{
			"before the request": {Reset: true}, "after the request": {LoseAnswerAfterCommit: true, Times: 1},
		} {
			t.Run(name+"/"+death, func(t *testing.T) {
				crashed := true
				for step := 0; crashed; step++ {
					srv, target := startWithPools(t, netboxtest.Options{})
					claimIt := func(a *netbox.Allocator) error { _, err := a.Claim(t.Context(), from("web", tt.pool)); return err }
					crashed = dieAt(srv, step, fault, func() error { return claimIt(newAllocator(t, target)) })
					eventually(t, func() error { return claimIt(newAllocator(t, target)) })
					wantClaimed(t, srv, map[string]string{tt.first: "web/ipv4"})
					before := len(srv.Addresses())
					release := func(a *netbox.Allocator) error { return a.Release(t.Context(), from("web", tt.pool).Key) }
					crashed = dieAt(srv, step, fault, func() error { return release(newAllocator(t, target)) }) || crashed
					eventually(t, func() error { return release(newAllocator(t, target)) })
					wantClaimed(t, srv, map[string]string{})
					if lost := before - len(srv.Addresses()); lost != map[bool]int{true: 0, false: 1}[name == "reserved"] {
						t.Errorf("step %d: the release deleted %d records", step, lost)
					}
					if step > 30 {
						t.Fatal("it never ends")
					}
				}
			})
		}
	}
}

// dieAt lets nothing through from a step on; it reports whether that came.
func dieAt(srv *netboxtest.Server, step int, fault netboxtest.Fault, do func() error) bool {
	fault.Skip = step
	srv.Inject(fault)
	srv.Inject(netboxtest.Fault{Skip: step, Reset: true})
	defer srv.ClearFaults()
	return do() != nil
}

// TestRequestsOfPools: one call for a claim when all is known, and for many
// Services that come together one for many of them.
func TestRequestsOfPools(t *testing.T) {
	for name, tt := range map[string]struct {
		pool         ipam.Pool
		single, many int
	}{"range": {rangePool, 1, 10}, "found": {foundPool, 1, 10}, "reserved": {reservedPool, 1, 40}, "picked": {pickedPool, 3, 30}} {
		t.Run(name, func(t *testing.T) {
			srv, target := startWithPools(t, netboxtest.Options{})
			a := newAllocator(t, target)
			claim := func(service string) {
				if _, err := a.Claim(t.Context(), from(service, tt.pool)); err != nil {
					t.Error(err)
				}
			}
			claim("first")
			before := len(srv.Requests())
			claim("second")
			if n := len(srv.Requests()) - before; n != tt.single {
				t.Errorf("%d requests for a claim, want %d", n, tt.single)
			}
			srv.Inject(netboxtest.Fault{Method: http.MethodPost, Latency: netboxtest.Duration(20 * time.Millisecond)})
			before = len(srv.Requests())
			var wg sync.WaitGroup
			for i := range 40 {
				wg.Go(func() { claim(fmt.Sprintf("many%d", i)) })
			}
			wg.Wait()
			if n := len(srv.Requests()) - before; n > tt.many {
				t.Errorf("%d requests for 40 claims at a time, want %d at most", n, tt.many)
			}
			if n := len(claimed(srv)); n != 42 {
				t.Errorf("%d claims, want 42", n)
			}
		})
	}
}

func TestUsageTakesFewRequests(t *testing.T) {
	srv, target := startWithPools(t, netboxtest.Options{})
	all := poolFrom(false, v1alpha1.NetBoxSource{
		Prefixes: []v1alpha1.NetBoxPrefix{{Prefix: "203.0.113.0/24"}, {Prefix: "198.51.100.0/24"}},
		Ranges:   rangePool.Spec.NetBox.Ranges, Selector: foundPool.Spec.NetBox.Selector,
	})
	for name, tt := range map[string]struct {
		pool ipam.Pool
		want int
		v4   ipam.Usage
	}{
		"everything named": {all, 3, ipam.Usage{Capacity: 254 + 256 + 241 + 254, Free: 254 + 256 + 241 + 254}}, // two lists, one count
		"reserved":         {reservedPool, 1, ipam.Usage{Capacity: 50, Free: 50}},
	} {
		a := newAllocator(t, target)
		if _, err := a.Usage(t.Context(), tt.pool); err != nil {
			t.Fatal(err)
		}
		before := len(srv.Requests())
		usage, err := a.Usage(t.Context(), tt.pool)
		if err != nil || usage[ipam.IPv4] != tt.v4 {
			t.Errorf("%s: %+v, %v", name, usage, err)
		}
		if n := len(srv.Requests()) - before; n != tt.want {
			t.Errorf("%s: %d requests, want %d", name, n, tt.want)
		}
	}
}

// TestPoolsWhileNetBoxIsAway: a pool has what it had, and its usage is not known.
func TestPoolsWhileNetBoxIsAway(t *testing.T) {
	srv, target := startWithPools(t, netboxtest.Options{})
	for _, p := range []ipam.Pool{foundPool, reservedPool} {
		a := newAllocator(t, target)
		before, err := a.Resolve(t.Context(), p)
		if err != nil || len(before.Found) != 1 {
			t.Fatalf("%v, %v", before.Found, err)
		}
		remove := srv.Inject(netboxtest.Fault{Status: 503})
		if _, err := a.Usage(t.Context(), p); !errors.As(err, new(*ipam.UnavailableError)) {
			t.Errorf("Usage: %v", err)
		}
		after, err := a.Resolve(t.Context(), p)
		if diff := cmp.Diff(fmt.Sprint(before.Found), fmt.Sprint(after.Found)); err != nil || diff != "" {
			t.Errorf("%v: %s", err, diff)
		}
		unknown, err := newAllocator(t, target).Resolve(t.Context(), p)
		if !errors.As(err, new(*ipam.UnavailableError)) || unknown.Problem == nil || unknown.Has(ipam.IPv4) {
			t.Errorf("after a restart: %v, problem %v", err, unknown.Problem)
		}
		remove()
	}
}

// TestReservedTakenByOthers: what is known of the reserved addresses is old, and somebody has
// changed its first records since.
func TestReservedTakenByOthers(t *testing.T) {
	srv, target := startWithPools(t, netboxtest.Options{})
	a := newAllocator(t, target)
	if _, err := a.Resolve(t.Context(), reservedPool); err != nil {
		t.Fatal(err)
	}
	for i, change := range []map[string]any{
		{"status": "active"}, {"custom_fields": map[string]any{"k8s_lb_claim": "lab/default/other/ipv4"}},
		{"custom_fields": map[string]any{"k8s_cluster": "another"}}, {"description": "still free"},
	} {
		change["id"], change["address"] = srv.Addresses()[i].ID, srv.Addresses()[i].Address
		if _, err := srv.WriteBehindBack(change); err != nil {
			t.Fatal(err)
		}
	}
	c, err := a.Claim(t.Context(), from("web", reservedPool))
	if err != nil || c.Addr.String() != "10.9.0.4" {
		t.Errorf("got %v, %v", c.Addr, err)
	}
	wantClaimed(t, srv, map[string]string{"10.9.0.2": "other/ipv4", "10.9.0.4": "web/ipv4"})
}

// TestReservedLostAnswer: the process goes on and finds what NetBox did.
func TestReservedLostAnswer(t *testing.T) {
	srv, target := startWithPools(t, netboxtest.Options{})
	a := newAllocator(t, target)
	srv.Inject(netboxtest.Fault{Method: http.MethodPatch, Times: 1, LoseAnswerAfterCommit: true})
	if c, err := a.Claim(t.Context(), from("web", reservedPool)); err != nil || c.Addr.String() != "10.9.0.1" {
		t.Errorf("got %v, %v", c.Addr, err)
	}
	srv.Inject(netboxtest.Fault{Method: http.MethodPatch, Times: 1, Reset: true})
	eventually(t, func() error { _, err := a.Claim(t.Context(), from("next", reservedPool)); return err })
	wantClaimed(t, srv, map[string]string{"10.9.0.1": "web/ipv4", "10.9.0.2": "next/ipv4"})
}

// TestPickedTakenByOthers: between the look at what is free and the claim
// somebody else takes it.
func TestPickedTakenByOthers(t *testing.T) {
	srv, target := startWithPools(t, netboxtest.Options{})
	a := newAllocator(t, target)
	taken := 0
	srv.Inject(netboxtest.Fault{Match: func(r *http.Request) bool {
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/ip-addresses/") && taken < 3 {
			taken++
			if _, err := srv.WriteBehindBack(map[string]any{"address": fmt.Sprintf("198.51.100.%d/24", taken), "status": "active"}); err != nil {
				t.Error(err)
			}
		}
		return false
	}})
	c, err := a.Claim(t.Context(), from("web", pickedPool))
	if err != nil || c.Addr.String() != "198.51.100.4" {
		t.Errorf("got %v, %v", c.Addr, err)
	}
	wantClaimed(t, srv, map[string]string{"198.51.100.4": "web/ipv4"})
}

// TestPickedInNetBoxWithoutUniqueness: NetBox lets two controllers record the
// same address; one of them must give way.
func TestPickedInNetBoxWithoutUniqueness(t *testing.T) {
	srv, target := startWithPools(t, netboxtest.Options{AllowGlobalDuplicates: true})
	srv.Inject(netboxtest.Fault{Method: http.MethodGet, Path: "available-ips", Latency: netboxtest.Duration(2 * time.Millisecond)})
	one, two := newAllocator(t, target), newAllocator(t, target)
	var wg sync.WaitGroup
	for i := range 20 {
		for _, a := range []*netbox.Allocator{one, two} {
			wg.Go(func() {
				eventually(t, func() error {
					_, err := a.Claim(t.Context(), from(fmt.Sprintf("s%d-%p", i, a), pickedPool))
					return err
				})
			})
		}
	}
	wg.Wait()
	if n := len(claimed(srv)); n != 40 {
		t.Errorf("%d addresses for 40 Services", n)
	}
	if n := len(srv.Addresses()); n != 40+50 {
		t.Errorf("%d records are left, want 40 and the reserved ones", n)
	}
}

// TestPickedPastManyAvoided: addresses that end in .0 and .255 add up at the
// front of a prefix that is nearly full.
func TestPickedPastManyAvoided(t *testing.T) {
	s := seed()
	s.Prefixes = append(s.Prefixes, netboxtest.SeedPrefix{Prefix: "10.8.0.0/20", IsPool: true})
	srv, target := start(t, netboxtest.Options{Seed: s})
	taken := 0
	for addr := netip.MustParseAddr("10.8.0.0"); addr.Less(netip.MustParseAddr("10.8.8.3")); addr = addr.Next() {
		if ipam.Buggy(addr) {
			continue
		}
		if _, err := srv.WriteBehindBack(map[string]any{"address": addr.String() + "/32", "status": "active"}); err != nil {
			t.Fatal(err)
		}
		taken++
	}
	p := poolFrom(true, v1alpha1.NetBoxSource{Prefixes: []v1alpha1.NetBoxPrefix{{Prefix: "10.8.0.0/20"}}})
	a := newAllocator(t, target)
	c, err := a.Claim(t.Context(), from("web", p))
	if err != nil || c.Addr.String() != "10.8.8.3" {
		t.Errorf("got %v, %v", c.Addr, err)
	}
	usage, err := a.Usage(t.Context(), p)
	want := ipam.Usage{Capacity: 16 * 254, Used: int64(taken) + 1, Free: 16*254 - int64(taken) - 1}
	if err != nil || usage[ipam.IPv4] != want {
		t.Errorf("%+v, %v; want %+v", usage, err, want)
	}
}

// TestSourceGoneFromNetBox: a prefix that is deleted while it is known gives a
// sentence, and the next source serves.
func TestSourceGoneFromNetBox(t *testing.T) {
	srv, target := startWithPools(t, netboxtest.Options{})
	p := poolFrom(false, v1alpha1.NetBoxSource{Prefixes: pickedPool.Spec.NetBox.Prefixes, Ranges: rangePool.Spec.NetBox.Ranges})
	a := newAllocator(t, target)
	if _, err := a.Claim(t.Context(), from("first", p)); err != nil {
		t.Fatal(err)
	}
	admin(t, http.MethodDelete, target.URL+"/api/ipam/prefixes/2/", target)
	alone := poolFrom(false, v1alpha1.NetBoxSource{Prefixes: p.Spec.NetBox.Prefixes})
	_, err := a.Claim(t.Context(), from("web", alone))
	if want := "prefix 198.51.100.0/24 is gone from NetBox, or the token may not see it: restore it or correct spec.netbox.prefixes[0] of the pool"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if c, err := a.Claim(t.Context(), from("web", p)); err != nil || c.Addr.String() != "192.0.2.10" {
		t.Errorf("got %v, %v", c.Addr, err)
	}
	wantClaimed(t, srv, map[string]string{"198.51.100.0": "first/ipv4", "192.0.2.10": "web/ipv4"})
}
