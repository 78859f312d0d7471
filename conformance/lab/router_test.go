// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"net/netip"
	"slices"
	"testing"
)

func TestParseRoutes(t *testing.T) {
	// As iproute2 6.1 prints them: a host route with one next hop, a network
	// with two, an IPv4 route by an IPv6 next hop.
	const raw = `[
{"dst":"203.0.113.1","gateway":"10.30.0.11","dev":"eth0","protocol":"bgp","metric":20,"flags":[]},
{"dst":"203.0.113.64/26","protocol":"bgp","metric":20,"flags":[],"nexthops":[
  {"gateway":"10.30.0.11","dev":"eth0","weight":1,"flags":[]},{"gateway":"10.30.0.12","dev":"eth0","weight":1,"flags":[]}]},
{"dst":"203.0.113.2","via":{"family":"inet6","host":"fd00:30::b"},"dev":"eth0","flags":[]}]`
	got, err := parseRoutes([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddr
	want := []Route{
		{netip.MustParsePrefix("203.0.113.1/32"), []netip.Addr{addr("10.30.0.11")}},
		{netip.MustParsePrefix("203.0.113.64/26"), []netip.Addr{addr("10.30.0.11"), addr("10.30.0.12")}},
		{netip.MustParsePrefix("203.0.113.2/32"), []netip.Addr{addr("fd00:30::b")}},
	}
	if !slices.EqualFunc(got, want, func(a, b Route) bool { return a.Prefix == b.Prefix && slices.Equal(a.NextHops, b.NextHops) }) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, bad := range []string{"not JSON", `[{"dst":"default-ish","gateway":"10.30.0.11"}]`, `[{"dst":"10.0.0.0/8","gateway":"nobody"}]`} {
		if got, err := parseRoutes([]byte(bad)); err == nil {
			t.Errorf("%s: no error, %v", bad, got)
		}
	}
	if got, err := parseRoutes([]byte("\n")); err != nil || got != nil {
		t.Errorf("no routes: %v, %v", got, err)
	}
}

func TestHostAddr(t *testing.T) {
	for _, c := range []struct {
		prefix string
		n      int
		want   string
	}{
		{"10.30.0.0/24", 11, "10.30.0.11"},
		{"10.96.0.0/16", 300, "10.96.1.44"},
		{"fd00:30::/64", 11, "fd00:30::b"},
	} {
		if got := hostAddr(netip.MustParsePrefix(c.prefix), c.n); got.String() != c.want {
			t.Errorf("hostAddr(%s, %d) = %s, want %s", c.prefix, c.n, got, c.want)
		}
	}
}
