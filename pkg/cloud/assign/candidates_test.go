// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package assign

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/service"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

func TestCandidates(t *testing.T) {
	no := false
	gold := &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "gold"}}
	odd := &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "tier", Operator: "Sounds"}}}
	pools := map[string]ipam.Pool{
		"a":    {Spec: v1alpha1.AddressPoolSpec{Addresses: []string{"192.0.2.0/28"}}},
		"b":    {Spec: v1alpha1.AddressPoolSpec{Addresses: []string{"192.0.2.32-192.0.2.40", "2001:db8::/120"}}},
		"gold": {Spec: v1alpha1.AddressPoolSpec{Addresses: []string{"198.51.100.0/28"}, NamespaceSelector: gold}},
		"hand": {Spec: v1alpha1.AddressPoolSpec{NetBox: &v1alpha1.NetBoxSource{Prefixes: []v1alpha1.NetBoxPrefix{{Prefix: "203.0.113.0/28"}}}, AutoAssign: &no}},
		"bad":  {Spec: v1alpha1.AddressPoolSpec{Addresses: []string{"192.0.2.0/28", "192.0.2.0"}}},
		"nb":   {Spec: v1alpha1.AddressPoolSpec{NetBox: &v1alpha1.NetBoxSource{Prefixes: []v1alpha1.NetBoxPrefix{{Prefix: "x"}}}}},
		"away": {Spec: v1alpha1.AddressPoolSpec{NetBox: &v1alpha1.NetBoxSource{Prefixes: []v1alpha1.NetBoxPrefix{{Prefix: "203.0.113.64/28"}}}}, Problem: fmt.Errorf("resolving: %w", &ipam.UnavailableError{Doing: "listing prefixes", Err: errors.New("refused")})},
		"odd":  {Spec: v1alpha1.AddressPoolSpec{Addresses: []string{"192.0.2.0/28"}, NamespaceSelector: odd}},
	}
	for name, p := range pools {
		p.Name = name
		pools[name] = p
	}
	class := func(selector *metav1.LabelSelector, names ...string) *v1alpha1.LoadBalancerClass {
		return &v1alpha1.LoadBalancerClass{ObjectMeta: metav1.ObjectMeta{Name: "public"}, Spec: v1alpha1.LoadBalancerClassSpec{Pools: names, NamespaceSelector: selector}}
	}
	addr := func(s string) map[ipam.Family]netip.Addr {
		a := netip.MustParseAddr(s)
		return map[ipam.Family]netip.Addr{ipam.FamilyOf(a): a}
	}
	all := []string{"b", "a", "gold", "hand"}
	config, noPool, outside, away := new(*ipam.ConfigError), new(*ipam.NoPoolError), new(*ipam.NotInPoolsError), new(*ipam.UnavailableError)
	tests := []struct {
		name    string
		ask     service.Ask
		class   *v1alpha1.LoadBalancerClass
		labels  map[string]string
		family  ipam.Family
		want    []string
		kind    any
		problem string
	}{
		{"in the order of the class", service.Ask{}, class(nil, all...), nil, ipam.IPv4, []string{"b", "a"}, nil, ""},
		{"by family", service.Ask{}, class(nil, all...), nil, ipam.IPv6, []string{"b"}, nil, ""},
		{"by namespace", service.Ask{}, class(nil, all...), map[string]string{"tier": "gold"}, ipam.IPv4, []string{"b", "a", "gold"}, nil, ""},
		{"by annotation, though not assigned by itself", service.Ask{Pool: "hand"}, class(nil, all...), nil, ipam.IPv4, []string{"hand"}, nil, ""},
		{"by address, though not assigned by itself", service.Ask{Addrs: addr("203.0.113.3")}, class(nil, all...), nil, ipam.IPv4, []string{"hand"}, nil, ""},
		{"by address", service.Ask{Addrs: addr("192.0.2.3")}, class(nil, all...), nil, ipam.IPv4, []string{"a"}, nil, ""},
		{"an address of the other family does not matter", service.Ask{Addrs: addr("2001:db8::9")}, class(nil, all...), nil, ipam.IPv4, []string{"b", "a"}, nil, ""},
		{"address of no pool", service.Ask{Addrs: addr("10.0.0.1")}, class(nil, all...), nil, ipam.IPv4, nil, outside, "address 10.0.0.1 is in none of the pools this Service may use (b, a, hand)"},
		{"address of a closed pool", service.Ask{Addrs: addr("198.51.100.1")}, class(nil, all...), nil, ipam.IPv4, nil, outside, "198.51.100.1 is in none of the pools"},
		{"address of another pool than the annotation's", service.Ask{Pool: "a", Addrs: addr("192.0.2.33")}, class(nil, all...), nil, ipam.IPv4, nil, outside, "(a)"},
		{"pool of another class", service.Ask{Pool: "gold"}, class(nil, "a", "b"), nil, ipam.IPv4, nil, config, "name one of a, b"},
		{"closed class", service.Ask{}, class(gold, all...), nil, ipam.IPv4, nil, config, `LoadBalancerClass "public" is not for this namespace`},
		{"class with an odd selector", service.Ask{}, class(odd, all...), nil, ipam.IPv4, nil, config, `LoadBalancerClass "public": spec.namespaceSelector`},
		{"closed pool", service.Ask{}, class(nil, "gold"), nil, ipam.IPv4, nil, noPool, `pool "gold" is not for this namespace`},
		{"missing pool", service.Ask{}, class(nil, "nope"), nil, ipam.IPv4, nil, noPool, `there is no AddressPool "nope"`},
		{"a missing and an invalid pool leave the others", service.Ask{}, class(nil, "nope", "bad", "odd", "a"), nil, ipam.IPv4, []string{"a"}, nil, ""},
		{"invalid pool", service.Ask{}, class(nil, "bad"), nil, ipam.IPv4, nil, noPool, `pool "bad": spec.addresses[1]: "192.0.2.0" is neither`},
		{"invalid prefix", service.Ask{}, class(nil, "nb"), nil, ipam.IPv4, nil, noPool, `pool "nb": spec.netbox.prefixes[0].prefix`},
		{"pool with an odd selector", service.Ask{}, class(nil, "odd"), nil, ipam.IPv4, nil, noPool, `pool "odd": spec.namespaceSelector`},
		{"addresses not known, but others are", service.Ask{}, class(nil, "away", "a"), nil, ipam.IPv4, []string{"away", "a"}, nil, ""},
		{"addresses not known, none of the family elsewhere", service.Ask{}, class(nil, "a", "away"), nil, ipam.IPv6, nil, away, "listing prefixes: refused"},
		{"address perhaps in a pool that is not known", service.Ask{Addrs: addr("10.0.0.1")}, class(nil, "a", "away"), nil, ipam.IPv4, nil, away, "listing prefixes: refused"},
		{"family missing", service.Ask{}, class(nil, "a"), nil, ipam.IPv6, nil, noPool, `pool "a" has no ipv6 addresses`},
		{"only by hand", service.Ask{}, class(nil, "hand"), nil, ipam.IPv4, nil, noPool, "autoAssign: false"},
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
			var names []string
			for _, p := range got {
				names = append(names, p.Name)
			}
			if diff := cmp.Diff(tt.want, names); diff != "" {
				t.Error(diff)
			}
		})
	}
}
