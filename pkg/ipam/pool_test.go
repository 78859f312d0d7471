// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"errors"
	"math"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go4.org/netipx"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
)

func rangesOf(texts ...string) []netipx.IPRange {
	var out []netipx.IPRange
	for _, s := range texts {
		r, err := ParseRange(s)
		if err != nil {
			panic(err)
		}
		out = append(out, r)
	}
	return out
}

func TestCount(t *testing.T) {
	tests := []struct {
		ranges                []string
		v4, v4NotBuggy, v6All int64
	}{
		{[]string{"192.0.2.0/24"}, 256, 254, 0},
		{[]string{"192.0.2.0/24", "192.0.2.128/25", "192.0.2.250-192.0.3.1"}, 258, 255, 0},
		{[]string{"192.0.2.1-192.0.2.254"}, 254, 254, 0},
		{[]string{"0.0.0.0/0"}, 1 << 32, 1<<32 - 1<<25, 0},
		{[]string{"0.0.0.0/32", "255.255.255.255/32"}, 2, 0, 0},
		{[]string{"2001:db8::/120", "2001:db8::ff/128"}, 0, 0, 256},
		{[]string{"2001:db8::/65", "2001:db8:1::/64"}, 0, 0, math.MaxInt64},
		{nil, 0, 0, 0},
	}
	for _, tt := range tests {
		r := rangesOf(tt.ranges...)
		got := []int64{Count(r, IPv4, false), Count(r, IPv4, true), Count(r, IPv6, false), Count(r, IPv6, true)}
		if diff := cmp.Diff([]int64{tt.v4, tt.v4NotBuggy, tt.v6All, tt.v6All}, got); diff != "" {
			t.Errorf("%v: %s", tt.ranges, diff)
		}
	}
}

// CountBuggy must agree with Buggy about every range of a few blocks.
func TestCountBuggyAgreesWithBuggy(t *testing.T) {
	first := netip.MustParseAddr("192.0.1.250")
	for from, i := first, 0; i < 270; from, i = from.Next(), i+1 {
		n := int64(0)
		for to, j := from, 0; j < 520; to, j = to.Next(), j+1 {
			if Buggy(to) {
				n++
			}
			if got := CountBuggy(netipx.IPRangeFrom(from, to)); got != n {
				t.Fatalf("%s-%s: %d, want %d", from, to, got, n)
			}
		}
	}
	if Buggy(netip.MustParseAddr("2001:db8::")) || !Buggy(netip.MustParseAddr("::ffff:192.0.2.255")) {
		t.Error("Buggy is about IPv4 addresses only, also mapped ones")
	}
}

func TestPoolRanges(t *testing.T) {
	away := &UnavailableError{Doing: "looking", Err: errors.New("away")}
	tag := &v1alpha1.NetBoxSelector{Tag: "lb"}
	both := v1alpha1.NetBoxSource{
		Prefixes: []v1alpha1.NetBoxPrefix{{Prefix: "192.0.2.0/30"}},
		Ranges:   []v1alpha1.NetBoxRange{{Range: "198.51.100.3-198.51.100.7"}}, Selector: tag,
	}
	tests := []struct {
		name    string
		source  v1alpha1.NetBoxSource
		found   []string
		problem error
		want    string
		err     string
	}{
		{"in their order", both, []string{"10.0.0.0/31"}, nil, "192.0.2.0-192.0.2.3 198.51.100.3-198.51.100.7 10.0.0.0-10.0.0.1", ""},
		{"what is named serves without what is found", both, nil, away, "192.0.2.0-192.0.2.3 198.51.100.3-198.51.100.7", ""},
		{"nothing but a problem", v1alpha1.NetBoxSource{Selector: tag}, nil, away, "", "looking: away"},
		{"not looked up", v1alpha1.NetBoxSource{Selector: tag}, nil, nil, "", `pool "p": spec.netbox.selector: NetBox has not been asked`},
		{"not looked up either", v1alpha1.NetBoxSource{Reserved: &v1alpha1.NetBoxReserved{Tenant: "k"}}, nil, nil, "", `pool "p": spec.netbox.reserved: NetBox has not been asked`},
		{"nothing", v1alpha1.NetBoxSource{}, nil, nil, "", `pool "p": spec.netbox: is empty`},
		{"no range", v1alpha1.NetBoxSource{Ranges: []v1alpha1.NetBoxRange{{Range: "192.0.2.0/24"}}}, nil, nil, "", `pool "p": spec.netbox.ranges[0].range`},
		{"backwards", v1alpha1.NetBoxSource{Ranges: []v1alpha1.NetBoxRange{{Range: "192.0.2.9-192.0.2.1"}}}, nil, nil, "", "swap them"},
	}
	for _, tt := range tests {
		p := Pool{Name: "p", Spec: v1alpha1.AddressPoolSpec{NetBox: &tt.source}, Found: rangesOf(tt.found...), Problem: tt.problem}
		ranges, err := p.Ranges()
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: got %v, want %q", tt.name, err, tt.err)
			}
			if p.Has(IPv4) || p.Contains(netip.MustParseAddr("192.0.2.1")) {
				t.Errorf("%s: a pool without addresses has some", tt.name)
			}
			continue
		}
		texts := make([]string, len(ranges))
		for i, r := range ranges {
			texts[i] = r.String()
		}
		if got := strings.Join(texts, " "); err != nil || got != tt.want {
			t.Errorf("%s: %s, %v", tt.name, got, err)
		}
		if !p.Has(IPv4) || p.Has(IPv6) || !p.Contains(netip.MustParseAddr("198.51.100.7")) {
			t.Errorf("%s: Has or Contains", tt.name)
		}
	}
}

func TestPoolDynamic(t *testing.T) {
	for want, source := range map[string]*v1alpha1.NetBoxSource{
		"inline": nil, "prefixes": {Prefixes: []v1alpha1.NetBoxPrefix{{}}},
		"dynamic by selector": {Selector: &v1alpha1.NetBoxSelector{}}, "dynamic by stock": {Reserved: &v1alpha1.NetBoxReserved{}},
	} {
		p := Pool{Spec: v1alpha1.AddressPoolSpec{NetBox: source}}
		if p.Dynamic() != strings.HasPrefix(want, "dynamic") {
			t.Errorf("%s: %v", want, p.Dynamic())
		}
	}
}
