// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package bgp_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/bm-ccm/bm-ccm/pkg/announce/bgp"
	"github.com/bm-ccm/bm-ccm/pkg/announce/bgp/frrtest"
)

func TestMain(m *testing.M) { frrtest.Main(m) }

const ourASN = 64500

// Lines of an FRR configuration: a neighbor with both families, and sane
// graceful restart times.
var (
	neighbor4 = []string{
		"neighbor {4} remote-as 64500", "neighbor {4} timers 1 3", "bgp graceful-restart",
		"address-family ipv4 unicast", " neighbor {4} activate", "exit-address-family",
		"address-family ipv6 unicast", " neighbor {4} activate", "exit-address-family",
	}
	neighbor6 = []string{
		"neighbor {6} remote-as 64500", "neighbor {6} timers 1 3", "bgp graceful-restart",
		"neighbor {6} capability extended-nexthop",
		"address-family ipv4 unicast", " neighbor {6} activate", "exit-address-family",
		"address-family ipv6 unicast", " neighbor {6} activate", "exit-address-family",
	}
)

const upTimeout = 20 * time.Second

func newSpeaker(t testing.TB) *bgp.Speaker {
	t.Helper()
	s := openSpeaker(t)
	t.Cleanup(func() { closeSpeaker(t, s) })
	return s
}

func openSpeaker(t testing.TB) *bgp.Speaker {
	t.Helper()
	s, err := bgp.New(context.Background(), bgp.Config{RouterID: netip.MustParseAddr("10.255.255.1"), Log: logr.Discard()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeSpeaker(t testing.TB, s *bgp.Speaker) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func peer(name string, addr netip.Addr) bgp.Peer {
	return bgp.Peer{Name: name, Address: addr, Port: 179, PeerASN: frrtest.ASN, LocalASN: ourASN, HoldTime: 9 * time.Second}
}

func prefix(s string) netip.Prefix {
	a := netip.MustParseAddr(s)
	return netip.PrefixFrom(a, a.BitLen())
}

func setPeers(t testing.TB, s *bgp.Speaker, nodeAddresses []netip.Addr, peers ...bgp.Peer) {
	t.Helper()
	if err := s.SetPeers(context.Background(), nodeAddresses, peers); err != nil {
		t.Fatal(err)
	}
}

func setRoutes(t testing.TB, s *bgp.Speaker, routes ...bgp.Route) {
	t.Helper()
	if err := s.SetRoutes(context.Background(), routes); err != nil {
		t.Fatal(err)
	}
}

// session waits until the one session of a peer is as wanted.
func session(t testing.TB, s *bgp.Speaker, name string, timeout time.Duration, ok func(bgp.Session) bool) bgp.Session {
	t.Helper()
	deadline := time.Now().Add(timeout)
	for {
		var got bgp.Session
		for _, x := range s.Sessions() {
			if x.Peer == name {
				got = x
			}
		}
		if ok(got) {
			return got
		}
		if time.Now().After(deadline) {
			t.Fatalf("session with %s after %s: %+v", name, timeout, got)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func up(s bgp.Session) bool { return s.Up() }

// waitRoutes waits until the router has exactly these routes, with these next
// hops.
func waitRoutes(t testing.TB, r *frrtest.Router, want map[string]netip.Addr) {
	t.Helper()
	r.Eventually(upTimeout, fmt.Sprint("routes ", want), func() bool {
		got := map[string]netip.Addr{}
		for p, route := range r.Routes() {
			got[p.Addr().String()] = route.NextHops[0]
		}
		return cmp.Equal(got, want, cmpopts.EquateComparable(netip.Addr{}))
	})
}

func TestAnnounceAndWithdraw(t *testing.T) {
	r := frrtest.New(t, 1, neighbor4...)
	s := newSpeaker(t)
	setRoutes(t, s, bgp.Route{Prefix: prefix("192.0.2.1"), Communities: []uint32{64500<<16 | 120}})
	setPeers(t, s, []netip.Addr{r.Local4}, peer("tor", r.Addr4))
	waitRoutes(t, r, map[string]netip.Addr{"192.0.2.1": r.Local4})
	if c, large := r.Communities(prefix("192.0.2.1")); c != "64500:120" || large != "" {
		t.Errorf("communities %q, large %q; want 64500:120 and none", c, large)
	}
	setRoutes(t, s, bgp.Route{Prefix: prefix("192.0.2.2")}, bgp.Route{Prefix: prefix("192.0.2.3")})
	waitRoutes(t, r, map[string]netip.Addr{"192.0.2.2": r.Local4, "192.0.2.3": r.Local4})
	got := session(t, s, "tor", upTimeout, up)
	if got.Announced != 2 || got.Message != "" {
		t.Errorf("session %+v, want 2 announced and no message", got)
	}
	setRoutes(t, s)
	waitRoutes(t, r, map[string]netip.Addr{})
}

func TestBothFamiliesOverIPv4Session(t *testing.T) {
	r := frrtest.New(t, 1, neighbor4...)
	s := newSpeaker(t)
	setRoutes(t, s, bgp.Route{Prefix: prefix("192.0.2.1")}, bgp.Route{Prefix: prefix("2001:db8::1")})
	setPeers(t, s, []netip.Addr{r.Local4}, peer("tor", r.Addr4))
	waitRoutes(t, r, map[string]netip.Addr{"192.0.2.1": r.Local4})
	got := session(t, s, "tor", upTimeout, up)
	if !strings.Contains(got.Message, "no IPv6 InternalIP") || got.Announced != 1 {
		t.Errorf("session %+v, want one route and advice about the missing IPv6 address", got)
	}
	// The node gets its IPv6 address: the route follows by itself.
	setPeers(t, s, []netip.Addr{r.Local4, r.Local6}, peer("tor", r.Addr4))
	waitRoutes(t, r, map[string]netip.Addr{"192.0.2.1": r.Local4, "2001:db8::1": r.Local6})
}

func TestBothFamiliesOverIPv6Session(t *testing.T) {
	r := frrtest.New(t, 1, neighbor6...)
	s := newSpeaker(t)
	setRoutes(t, s, bgp.Route{Prefix: prefix("192.0.2.1")}, bgp.Route{Prefix: prefix("2001:db8::1")})
	setPeers(t, s, []netip.Addr{r.Local6}, peer("tor", r.Addr6))
	// RFC 8950: IPv4 routes with an IPv6 next hop.
	r.Eventually(upTimeout, "IPv4 route with an IPv6 next hop", func() bool {
		v4, v6 := r.Routes()[prefix("192.0.2.1")], r.Routes()[prefix("2001:db8::1")]
		return len(v4.NextHops) == 1 && v4.NextHops[0].Is6() && len(v6.NextHops) == 1
	})
}

func TestIPv4OverIPv6SessionWithoutExtendedNextHop(t *testing.T) {
	lines := slices.DeleteFunc(slices.Clone(neighbor6), func(l string) bool { return strings.Contains(l, "extended-nexthop") })
	r := frrtest.New(t, 1, lines...)
	s := newSpeaker(t)
	setRoutes(t, s, bgp.Route{Prefix: prefix("192.0.2.1")}, bgp.Route{Prefix: prefix("2001:db8::1")})
	setPeers(t, s, []netip.Addr{r.Local6}, peer("tor", r.Addr6))
	waitOnly(t, r, "2001:db8::1")
	got := session(t, s, "tor", upTimeout, func(s bgp.Session) bool { return s.Up() && s.Message != "" })
	if !strings.Contains(got.Message, "RFC 8950") {
		t.Errorf("message %q does not name RFC 8950", got.Message)
	}
	setPeers(t, s, []netip.Addr{r.Local6, r.Local4}, peer("tor", r.Addr6))
	r.Eventually(upTimeout, "IPv4 route", func() bool {
		v4 := r.Routes()[prefix("192.0.2.1")]
		return len(v4.NextHops) == 1 && v4.NextHops[0] == r.Local4
	})
}

// waitOnly waits until the router has one route only, to addr.
func waitOnly(t *testing.T, r *frrtest.Router, addr string) {
	t.Helper()
	r.Eventually(upTimeout, "route to "+addr+" alone", func() bool {
		got := r.Routes()
		_, ok := got[prefix(addr)]
		return ok && len(got) == 1
	})
}

func TestRoutesForSomePeers(t *testing.T) {
	r1, r2 := frrtest.New(t, 1, neighbor4...), frrtest.New(t, 2, neighbor4...)
	s := newSpeaker(t)
	setRoutes(t, s,
		bgp.Route{Prefix: prefix("192.0.2.1")},
		bgp.Route{Prefix: prefix("192.0.2.2"), Peers: []string{"one"}, Communities: []uint32{7}},
		bgp.Route{Prefix: prefix("192.0.2.3"), Peers: []string{"two"}},
		bgp.Route{Prefix: prefix("192.0.2.4"), Peers: []string{"two", "one"}},
		bgp.Route{Prefix: prefix("192.0.2.5"), Peers: []string{"elsewhere"}},
		bgp.Route{Prefix: prefix("192.0.2.6"), Peers: []string{}},
	)
	setPeers(t, s, nil, peer("one", r1.Addr4))
	waitRoutes(t, r1, map[string]netip.Addr{"192.0.2.1": r1.Local4, "192.0.2.2": r1.Local4, "192.0.2.4": r1.Local4})
	// A peer that comes later gets its share, and the marks stay inside.
	setPeers(t, s, nil, peer("one", r1.Addr4), peer("two", r2.Addr4))
	waitRoutes(t, r2, map[string]netip.Addr{"192.0.2.1": r2.Local4, "192.0.2.3": r2.Local4, "192.0.2.4": r2.Local4})
	for _, p := range []string{"192.0.2.2", "192.0.2.4"} {
		if c, large := r1.Communities(prefix(p)); large != "" {
			t.Errorf("%s left with communities %q and large communities %q", p, c, large)
		}
	}
	// Routes change sides.
	setRoutes(t, s,
		bgp.Route{Prefix: prefix("192.0.2.1"), Peers: []string{"two"}},
		bgp.Route{Prefix: prefix("192.0.2.2"), Peers: []string{"two"}},
		bgp.Route{Prefix: prefix("192.0.2.3")},
		bgp.Route{Prefix: prefix("192.0.2.4"), Peers: []string{"one"}},
	)
	waitRoutes(t, r1, map[string]netip.Addr{"192.0.2.3": r1.Local4, "192.0.2.4": r1.Local4})
	waitRoutes(t, r2, map[string]netip.Addr{"192.0.2.1": r2.Local4, "192.0.2.2": r2.Local4, "192.0.2.3": r2.Local4})
	for name, want := range map[string]int{"one": 2, "two": 3} {
		if got := session(t, s, name, upTimeout, up).Announced; got != want {
			t.Errorf("peer %s: %d announced, want %d", name, got, want)
		}
	}
}

func TestReadBack(t *testing.T) {
	s := newSpeaker(t)
	want := []bgp.Route{
		{Prefix: prefix("192.0.2.1"), Communities: []uint32{1, 2}},
		{Prefix: prefix("192.0.2.2"), Peers: []string{"a", "b"}},
		{Prefix: prefix("192.0.2.3"), Peers: []string{}},
		{Prefix: prefix("2001:db8::1")},
	}
	setRoutes(t, s,
		bgp.Route{Prefix: prefix("2001:db8::1")},
		bgp.Route{Prefix: prefix("192.0.2.2"), Peers: []string{"b", "a", "b"}},
		bgp.Route{Prefix: prefix("192.0.2.1"), Communities: []uint32{2, 1, 2}},
		bgp.Route{Prefix: prefix("192.0.2.3"), Peers: []string{}},
	)
	got, err := s.Routes(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{})); d != "" {
		t.Errorf("routes read back (-want +got):\n%s", d)
	}
}

func TestRestartChangesNoRoute(t *testing.T) {
	r := frrtest.New(t, 1, neighbor4...)
	routes := []bgp.Route{{Prefix: prefix("192.0.2.1")}, {Prefix: prefix("2001:db8::1")}}
	addrs := []netip.Addr{r.Local4, r.Local6}
	first := openSpeaker(t)
	setRoutes(t, first, routes...)
	setPeers(t, first, addrs, peer("tor", r.Addr4))
	waitRoutes(t, r, map[string]netip.Addr{"192.0.2.1": r.Local4, "2001:db8::1": r.Local6})
	monitor := watchKernel(t, r)
	closeSpeaker(t, first)
	time.Sleep(time.Second) // an agent takes a moment to come back
	second := newSpeaker(t)
	setRoutes(t, second, routes...)
	setPeers(t, second, addrs, peer("tor", r.Addr4))
	session(t, second, "tor", upTimeout, up)
	time.Sleep(3 * time.Second) // end-of-RIB and what FRR makes of it
	if got := monitor(); got != "" {
		t.Errorf("the router's kernel routes changed during the restart:\n%s", got)
	}
	waitRoutes(t, r, map[string]netip.Addr{"192.0.2.1": r.Local4, "2001:db8::1": r.Local6})
}

func TestSecondRestartOfTheRouter(t *testing.T) {
	r := frrtest.New(t, 1, neighbor4...)
	s := newSpeaker(t)
	setRoutes(t, s, bgp.Route{Prefix: prefix("192.0.2.1")})
	setPeers(t, s, nil, peer("tor", r.Addr4))
	waitRoutes(t, r, map[string]netip.Addr{"192.0.2.1": r.Local4})
	for range 2 {
		r.StopBGP()
		session(t, s, "tor", upTimeout, func(s bgp.Session) bool { return !s.Up() })
		r.StartBGP()
		session(t, s, "tor", 40*time.Second, up)
		waitRoutes(t, r, map[string]netip.Addr{"192.0.2.1": r.Local4})
	}
}
