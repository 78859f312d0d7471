// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
)

func TestKey(t *testing.T) {
	k := Key{Cluster: "lab.example", Namespace: "default", Service: "web", Family: IPv6}
	back, err := ParseKey(k.String())
	if err != nil || back != k {
		t.Errorf("%v became %v, %v", k, back, err)
	}
	for _, s := range []string{"", "a/b/c", "a/b/c/ipv5", "a//c/ipv4", "a/b/c/ipv4/d", "a/b/c/ipv4#next"} {
		if k, err := ParseKey(s); err == nil {
			t.Errorf("%q is taken for %v", s, k)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add("lab/default/web/ipv4")
	f.Fuzz(func(t *testing.T, s string) {
		if k, err := ParseKey(s); err == nil && k.String() != s {
			t.Errorf("%q became %q", s, k)
		}
	})
}

func TestParseRange(t *testing.T) {
	for s, want := range map[string]string{
		"192.0.2.0/30": "192.0.2.0-192.0.2.3", "192.0.2.9/30": "192.0.2.8-192.0.2.11", "192.0.2.1-192.0.2.5": "192.0.2.1-192.0.2.5",
		"2001:db8::/127": "2001:db8::-2001:db8::1", "192.0.2.1-192.0.2.1": "192.0.2.1-192.0.2.1",
		"192.0.2.1": "", "": "", "-": "", "a-b": "", "192.0.2.5-192.0.2.1": "swap", "192.0.2.1-2001:db8::1": "one IP family",
		"fe80::1%eth0-fe80::2%eth0": "zone", "::ffff:192.0.2.0/120": "IPv4-mapped",
	} {
		r, err := ParseRange(s)
		if err != nil && (strings.Contains(want, ".") && !strings.Contains(want, " ") || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", s, err, want)
		}
		if err == nil && r.String() != want {
			t.Errorf("%q: %s, want %q", s, r, want)
		}
	}
}

func FuzzParseRange(f *testing.F) {
	f.Add("192.0.2.0/28")
	f.Add("192.0.2.10-192.0.2.20")
	f.Fuzz(func(t *testing.T, s string) {
		if r, err := ParseRange(s); err == nil && !r.IsValid() {
			t.Errorf("%q became %v", s, r)
		}
	})
}

func TestParseAsk(t *testing.T) {
	tests := []struct {
		annotation, ip string
		want           []string
		problem        string
	}{
		{"", "", nil, ""},
		{" ", "", nil, ""},
		{"", "192.0.2.1", []string{"192.0.2.1"}, ""},
		{"192.0.2.2, 2001:db8::1", "192.0.2.1", []string{"192.0.2.2", "2001:db8::1"}, ""},
		{"::ffff:192.0.2.2", "", []string{"192.0.2.2"}, ""},
		{"192.0.2.2,192.0.2.3", "", nil, "annotation bm-ccm.io/addresses: 192.0.2.2 and 192.0.2.3 are both ipv4"},
		{"web", "", nil, `annotation bm-ccm.io/addresses: "web" is not an IP address`},
		{"192.0.2.1,", "", nil, `annotation bm-ccm.io/addresses: "" is not an IP address`},
		{"", "fe80::1%eth0", nil, "spec.loadBalancerIP"},
		{"", "127.0.0.1", nil, "spec.loadBalancerIP: 127.0.0.1 cannot be"},
	}
	for _, tt := range tests {
		ask, err := ParseAsk(map[string]string{v1alpha1.AnnotationAddresses: tt.annotation}, tt.ip)
		if tt.problem != "" {
			if !errors.As(err, new(*ConfigError)) || !strings.Contains(err.Error(), tt.problem) {
				t.Errorf("%+v: %v", tt, err)
			}
			continue
		}
		if err != nil || len(ask.Addrs) != len(tt.want) {
			t.Errorf("%+v: %v, %v", tt, ask, err)
		}
		for _, a := range tt.want {
			addr := netip.MustParseAddr(a)
			if ask.Addrs[FamilyOf(addr)] != addr {
				t.Errorf("%+v: got %v", tt, ask.Addrs)
			}
		}
	}
}

func TestParseAskAnnotations(t *testing.T) {
	long := strings.Repeat("a", 64)
	tests := []struct {
		annotation, value string
		want              Ask
		problem           string
	}{
		{v1alpha1.AnnotationSharingKey, "web.1_A-b", Ask{SharingKey: "web.1_A-b"}, ""},
		{v1alpha1.AnnotationSharingKey, "", Ask{}, ""},
		{v1alpha1.AnnotationSharingKey, "a/b", Ask{}, `annotation bm-ccm.io/sharing-key: "a/b" is not a sharing key: write 1 to 63 letters`},
		{v1alpha1.AnnotationSharingKey, "+a", Ask{}, "write 1 to 63 letters"},
		{v1alpha1.AnnotationSharingKey, long, Ask{}, "write 1 to 63 letters"},
		{v1alpha1.AnnotationSharingKey, long[1:], Ask{SharingKey: long[1:]}, ""},
		{v1alpha1.AnnotationRetain, "true", Ask{Retain: true}, ""},
		{v1alpha1.AnnotationRetain, "false", Ask{}, ""},
		{v1alpha1.AnnotationRetain, "yes", Ask{}, `annotation bm-ccm.io/retain: "yes" is neither "true" nor "false"`},
		{v1alpha1.AnnotationHostname, "WWW.example.org.", Ask{Hostname: "www.example.org."}, ""},
		{v1alpha1.AnnotationHostname, "*.example.org", Ask{Hostname: "*.example.org"}, ""},
		{v1alpha1.AnnotationHostname, "www..org", Ask{}, `annotation bm-ccm.io/hostname: "www..org" is not a DNS name`},
		{v1alpha1.AnnotationHostname, "a b", Ask{}, "is not a DNS name"},
		{v1alpha1.AnnotationHostname, strings.Repeat("a.", 128), Ask{}, "255 characters at most"},
	}
	for _, tt := range tests {
		got, err := ParseAsk(map[string]string{tt.annotation: tt.value}, "")
		if tt.problem != "" {
			if !errors.As(err, new(*ConfigError)) || !strings.Contains(err.Error(), tt.problem) {
				t.Errorf("%s=%q: %v", tt.annotation, tt.value, err)
			}
			continue
		}
		if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
			t.Errorf("%s=%q: %v %s", tt.annotation, tt.value, err, diff)
		}
	}
}

func TestCandidates(t *testing.T) {
	no := false
	gold := &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "gold"}}
	odd := &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "tier", Operator: "Sounds"}}}
	pools := map[string]Pool{
		"a":    {Spec: v1alpha1.AddressPoolSpec{Addresses: []string{"192.0.2.0/28"}}},
		"b":    {Spec: v1alpha1.AddressPoolSpec{Addresses: []string{"192.0.2.32-192.0.2.40", "2001:db8::/120"}}},
		"gold": {Spec: v1alpha1.AddressPoolSpec{Addresses: []string{"198.51.100.0/28"}, NamespaceSelector: gold}},
		"hand": {Spec: v1alpha1.AddressPoolSpec{NetBox: &v1alpha1.NetBoxSource{Prefixes: []v1alpha1.NetBoxPrefix{{Prefix: "203.0.113.0/28"}}}, AutoAssign: &no}},
		"bad":  {Spec: v1alpha1.AddressPoolSpec{Addresses: []string{"192.0.2.0/28", "192.0.2.0"}}},
		"nb":   {Spec: v1alpha1.AddressPoolSpec{NetBox: &v1alpha1.NetBoxSource{Prefixes: []v1alpha1.NetBoxPrefix{{Prefix: "x"}}}}},
		"away": {Spec: v1alpha1.AddressPoolSpec{NetBox: &v1alpha1.NetBoxSource{Prefixes: []v1alpha1.NetBoxPrefix{{Prefix: "203.0.113.64/28"}}}}, Problem: fmt.Errorf("resolving: %w", &UnavailableError{Doing: "listing prefixes", Err: errors.New("refused")})},
		"odd":  {Spec: v1alpha1.AddressPoolSpec{Addresses: []string{"192.0.2.0/28"}, NamespaceSelector: odd}},
	}
	for name, p := range pools {
		p.Name = name
		pools[name] = p
	}
	class := func(selector *metav1.LabelSelector, names ...string) *v1alpha1.LoadBalancerClass {
		return &v1alpha1.LoadBalancerClass{ObjectMeta: metav1.ObjectMeta{Name: "public"}, Spec: v1alpha1.LoadBalancerClassSpec{Pools: names, NamespaceSelector: selector}}
	}
	addr := func(s string) map[Family]netip.Addr {
		a := netip.MustParseAddr(s)
		return map[Family]netip.Addr{FamilyOf(a): a}
	}
	all := []string{"b", "a", "gold", "hand"}
	config, noPool, outside, away := new(*ConfigError), new(*NoPoolError), new(*NotInPoolsError), new(*UnavailableError)
	tests := []struct {
		name    string
		ask     Ask
		class   *v1alpha1.LoadBalancerClass
		labels  map[string]string
		family  Family
		want    []string
		kind    any
		problem string
	}{
		{"in the order of the class", Ask{}, class(nil, all...), nil, IPv4, []string{"b", "a"}, nil, ""},
		{"by family", Ask{}, class(nil, all...), nil, IPv6, []string{"b"}, nil, ""},
		{"by namespace", Ask{}, class(nil, all...), map[string]string{"tier": "gold"}, IPv4, []string{"b", "a", "gold"}, nil, ""},
		{"by annotation, though not assigned by itself", Ask{Pool: "hand"}, class(nil, all...), nil, IPv4, []string{"hand"}, nil, ""},
		{"by address, though not assigned by itself", Ask{Addrs: addr("203.0.113.3")}, class(nil, all...), nil, IPv4, []string{"hand"}, nil, ""},
		{"by address", Ask{Addrs: addr("192.0.2.3")}, class(nil, all...), nil, IPv4, []string{"a"}, nil, ""},
		{"an address of the other family does not matter", Ask{Addrs: addr("2001:db8::9")}, class(nil, all...), nil, IPv4, []string{"b", "a"}, nil, ""},
		{"address of no pool", Ask{Addrs: addr("10.0.0.1")}, class(nil, all...), nil, IPv4, nil, outside, "address 10.0.0.1 is in none of the pools this Service may use (b, a, hand)"},
		{"address of a closed pool", Ask{Addrs: addr("198.51.100.1")}, class(nil, all...), nil, IPv4, nil, outside, "198.51.100.1 is in none of the pools"},
		{"address of another pool than the annotation's", Ask{Pool: "a", Addrs: addr("192.0.2.33")}, class(nil, all...), nil, IPv4, nil, outside, "(a)"},
		{"pool of another class", Ask{Pool: "gold"}, class(nil, "a", "b"), nil, IPv4, nil, config, "name one of a, b"},
		{"closed class", Ask{}, class(gold, all...), nil, IPv4, nil, config, `LoadBalancerClass "public" is not for this namespace`},
		{"class with an odd selector", Ask{}, class(odd, all...), nil, IPv4, nil, config, `LoadBalancerClass "public": spec.namespaceSelector`},
		{"closed pool", Ask{}, class(nil, "gold"), nil, IPv4, nil, noPool, `pool "gold" is not for this namespace`},
		{"missing pool", Ask{}, class(nil, "nope"), nil, IPv4, nil, noPool, `there is no AddressPool "nope"`},
		{"a missing and an invalid pool leave the others", Ask{}, class(nil, "nope", "bad", "odd", "a"), nil, IPv4, []string{"a"}, nil, ""},
		{"invalid pool", Ask{}, class(nil, "bad"), nil, IPv4, nil, noPool, `pool "bad": spec.addresses[1]: "192.0.2.0" is neither`},
		{"invalid prefix", Ask{}, class(nil, "nb"), nil, IPv4, nil, noPool, `pool "nb": spec.netbox.prefixes[0].prefix`},
		{"pool with an odd selector", Ask{}, class(nil, "odd"), nil, IPv4, nil, noPool, `pool "odd": spec.namespaceSelector`},
		{"addresses not known, but others are", Ask{}, class(nil, "away", "a"), nil, IPv4, []string{"away", "a"}, nil, ""},
		{"addresses not known, none of the family elsewhere", Ask{}, class(nil, "a", "away"), nil, IPv6, nil, away, "listing prefixes: refused"},
		{"address perhaps in a pool that is not known", Ask{Addrs: addr("10.0.0.1")}, class(nil, "a", "away"), nil, IPv4, nil, away, "listing prefixes: refused"},
		{"family missing", Ask{}, class(nil, "a"), nil, IPv6, nil, noPool, `pool "a" has no ipv6 addresses`},
		{"only by hand", Ask{}, class(nil, "hand"), nil, IPv4, nil, noPool, "autoAssign: false"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Candidates(tt.ask, tt.class, pools, tt.labels, tt.family)
			if tt.kind != nil {
				if !errors.As(err, tt.kind) || !strings.Contains(err.Error(), tt.problem) {
					t.Errorf("got %v, %T %v; want a %T with %q", got, err, err, tt.kind, tt.problem)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, names(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
