// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"net/netip"
	"strings"
	"testing"

	"go4.org/netipx"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

func TestPrefixSource(t *testing.T) {
	for text, want := range map[string][2]int64{ // not a pool, a pool
		"203.0.113.0/24": {254, 256}, "203.0.113.0/30": {2, 4}, "203.0.113.0/31": {2, 2}, "203.0.113.0/32": {1, 1},
		"2001:db8::/120": {255, 256}, "2001:db8::/127": {2, 2}, "2001:db8::/128": {1, 1}, "2001:db8::/64": {1<<63 - 1, 1<<63 - 1},
	} {
		p := netip.MustParsePrefix(text)
		for i, isPool := range []bool{false, true} {
			src := newPrefixSource(1, p, isPool)
			if got := ipam.Count(usableRanges([]source{src}), src.family(), false); got != want[i] {
				t.Errorf("%s, pool %v: got %v, want %v", text, isPool, got, want[i])
			}
			if src.String() != text || src.all != netipx.RangeOfPrefix(p) {
				t.Errorf("%s: %s of %s", text, src, src.all)
			}
		}
	}
}

// The slow way is only for sources that have addresses to leave out.
func TestAvoidZeroAnd255(t *testing.T) {
	rng := func(s string) source { return newRangeSource(1, netipx.MustParseIPRange(s)) }
	tests := []struct {
		src  source
		want bool
	}{
		{newPrefixSource(1, netip.MustParsePrefix("203.0.113.0/24"), false), false},
		{newPrefixSource(1, netip.MustParsePrefix("203.0.113.0/24"), true), true},
		{newPrefixSource(1, netip.MustParsePrefix("203.0.112.0/23"), false), true},
		{newPrefixSource(1, netip.MustParsePrefix("203.0.113.128/25"), false), false},
		{newPrefixSource(1, netip.MustParsePrefix("203.0.113.0/32"), false), true},
		{newPrefixSource(1, netip.MustParsePrefix("2001:db8::/64"), true), false},
		{rng("203.0.113.10-203.0.113.254"), false},
		{rng("203.0.113.10-203.0.113.255"), true},
	}
	for _, tt := range tests {
		if got := tt.src.avoiding(true).avoidZeroAnd255; got != tt.want {
			t.Errorf("%s: %v", tt.src, got)
		}
		if tt.src.avoiding(false).avoidZeroAnd255 {
			t.Errorf("%s: leaves some out though nothing is to be avoided", tt.src)
		}
	}
}

func TestSharedAcrossVRFs(t *testing.T) {
	src := func(vrf int64, r string) source {
		s := newRangeSource(1, netipx.MustParseIPRange(r))
		s.vrf = vrf
		return s
	}
	tests := []struct {
		name    string
		sources []source
		want    bool
	}{
		{"none", nil, false},
		{"overlap in one VRF", []source{src(1, "10.0.0.1-10.0.0.9"), src(1, "10.0.0.5-10.0.0.6")}, false},
		{"apart", []source{src(1, "10.0.0.1-10.0.0.9"), src(2, "10.0.0.10-10.0.0.20")}, false},
		{"overlap across", []source{src(1, "10.0.0.1-10.0.0.9"), src(2, "10.0.0.9-10.0.0.20")}, true},
		{"nested, with one between", []source{src(1, "10.0.0.1-10.0.0.99"), src(1, "10.0.0.2-10.0.0.3"), src(2, "10.0.0.50-10.0.0.50")}, true},
		{"global table and VRF", []source{src(3, "2001:db8::-2001:db8::9"), src(0, "2001:db8::9-2001:db8::9")}, true},
	}
	for _, tt := range tests {
		x, y, got := sharedAcrossVRFs(tt.sources)
		if got != tt.want || got && (x.vrf == y.vrf || !x.all.Overlaps(y.all)) {
			t.Errorf("%s: %v, %s and %s", tt.name, got, x, y)
		}
	}
}

func netboxPrefix(t *testing.T, text string) source {
	t.Helper()
	p, err := netip.ParsePrefix(text)
	if err != nil {
		t.Fatal(err)
	}
	return newPrefixSource(1, p, false)
}

func TestFullSentence(t *testing.T) {
	var sources []source
	for _, text := range []string{"192.0.2.0/30", "192.0.2.4/30", "192.0.2.8/30", "192.0.2.12/30", "192.0.2.16/30", "192.0.2.20/30"} {
		p := netboxPrefix(t, text)
		sources = append(sources, p)
	}
	p := ipam.Pool{Name: "p", Spec: v1alpha1.AddressPoolSpec{NetBox: &v1alpha1.NetBoxSource{}}}
	want := `pool "p": 0 of 12 addresses free in 192.0.2.0/30, 192.0.2.4/30, 192.0.2.8/30, 192.0.2.12/30 and 2 more`
	if got := fullSentence(p, sources); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := fullSentence(p, nil); !strings.Contains(got, "no addresses of this IP family") {
		t.Error(got)
	}
}
