// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package assign

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// sharer is a Service of class public with a TCP port; age orders by creation,
// the higher the older.
func sharer(name string, age int, port int32, edit ...func(*Sharer)) Sharer {
	s := Sharer{Name: name, Created: time.Unix(1e9, 0).Add(-time.Duration(age) * time.Second), Class: "public", Ports: []SharedPort{{"TCP", port}}}
	for _, e := range edit {
		e(&s)
	}
	return s
}

func one(addr string) map[ipam.Family]netip.Addr {
	a := netip.MustParseAddr(addr)
	return map[ipam.Family]netip.Addr{ipam.FamilyOf(a): a}
}

func holds(addr string) func(*Sharer)  { return func(s *Sharer) { s.Held = one(addr) } }
func asking(addr string) func(*Sharer) { return func(s *Sharer) { s.Asked = one(addr) } }
func changed(s *Sharer)                { s.Changed = true }

func local(selector ...string) func(*Sharer) {
	return func(s *Sharer) {
		s.Local, s.Selector = true, map[string]string{}
		for _, k := range selector {
			s.Selector[k] = "x"
		}
	}
}

func TestAdmit(t *testing.T) {
	tests := []struct {
		name    string
		sharers []Sharer
		// refused is "service: part of the sentence".
		refused []string
	}{
		{"alone", []Sharer{sharer("a", 1, 80)}, nil},
		{"disjoint ports", []Sharer{sharer("a", 1, 80), sharer("b", 2, 443), sharer("c", 3, 8080)}, nil},
		{"one port, other protocol", []Sharer{sharer("a", 1, 53), sharer("b", 2, 53, func(s *Sharer) { s.Ports[0].Protocol = "UDP" })}, nil},
		{"same port: the older one", []Sharer{sharer("a", 1, 80), sharer("b", 2, 80)}, []string{`a: cannot share "key" with Service "b": both have port TCP/80: give one of them another port or another key`}},
		{"same port, same age: by name", []Sharer{sharer("b", 1, 80), sharer("a", 1, 80)}, []string{`b: cannot share "key" with Service "a"`}},
		{"who has it wins over the older one", []Sharer{sharer("a", 1, 80, holds("192.0.2.1")), sharer("b", 9, 80)}, []string{`b: cannot share "key" with Service "a"`}},
		{"who changed loses against who did not", []Sharer{sharer("a", 1, 80, holds("192.0.2.1")), sharer("b", 9, 80, holds("192.0.2.1"), changed)}, []string{`b: cannot share "key" with Service "a"`}},
		{"who changed wins over who wants to join", []Sharer{sharer("a", 9, 80), sharer("b", 1, 80, holds("192.0.2.1"), changed)}, []string{`a: cannot share "key" with Service "b"`}},
		{"the refused one is in nobody's way", []Sharer{sharer("a", 3, 80), sharer("b", 2, 80, func(s *Sharer) { s.Ports = append(s.Ports, SharedPort{"TCP", 443}) }), sharer("c", 1, 443)}, []string{"b:"}},
		{"Cluster and Local", []Sharer{sharer("a", 2, 80), sharer("b", 1, 443, local("app"))}, []string{"b: cannot share \"key\" with Service \"a\": its spec.externalTrafficPolicy is Cluster, this one's is Local"}},
		{"both Local, same selector", []Sharer{sharer("a", 2, 80, local("app")), sharer("b", 1, 443, local("app"))}, nil},
		{"both Local, other selector", []Sharer{sharer("a", 2, 80, local("app")), sharer("b", 1, 443, local("db"))}, []string{"b: cannot share \"key\" with Service \"a\": with spec.externalTrafficPolicy Local both need the same spec.selector"}},
		{"both Local, no selector", []Sharer{sharer("a", 2, 80, local()), sharer("b", 1, 443, local())}, []string{"b: cannot share"}},
		{"other class", []Sharer{sharer("a", 2, 80), sharer("b", 1, 443, func(s *Sharer) { s.Class = "lab" })}, []string{`b: cannot share "key" with Service "a": its LoadBalancerClass is "public", this one's is "lab"`}},
		{"both ask for one address", []Sharer{sharer("a", 2, 80, asking("192.0.2.1")), sharer("b", 1, 443, asking("192.0.2.1"))}, nil},
		{"they ask for two addresses", []Sharer{sharer("a", 2, 80, asking("192.0.2.1")), sharer("b", 1, 443, asking("192.0.2.2"))}, []string{"b: cannot share \"key\" with Service \"a\": it has or asks for 192.0.2.1, this one 192.0.2.2"}},
		{"they ask for two families", []Sharer{sharer("a", 2, 80, asking("192.0.2.1")), sharer("b", 1, 443, asking("2001:db8::1"))}, nil},
		{"one asks for another than the other one has", []Sharer{sharer("a", 1, 80, holds("192.0.2.1")), sharer("b", 2, 443, holds("192.0.2.1"), asking("192.0.2.2"))}, []string{"b: cannot share \"key\" with Service \"a\": it has or asks for 192.0.2.1, this one 192.0.2.2"}},
		{"all ask for another than they have", []Sharer{sharer("a", 1, 80, holds("192.0.2.1"), asking("192.0.2.2")), sharer("b", 2, 443, holds("192.0.2.1"), asking("192.0.2.2"))}, nil},
		{"who asks for nothing joins", []Sharer{sharer("a", 2, 80, holds("192.0.2.1"), asking("192.0.2.1")), sharer("b", 1, 443)}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Admit("key", tt.sharers)
			if len(got) != len(tt.refused) {
				t.Errorf("refused: %v, want %q", got, tt.refused)
			}
			for _, want := range tt.refused {
				name, part, _ := strings.Cut(want, ":")
				err := got[name]
				if err == nil || !strings.Contains(err.Error(), strings.TrimSpace(part)) {
					t.Errorf("%s is told %v, want %q", name, err, part)
				} else if err.Ports != strings.Contains(err.Problem, "both have port") {
					t.Errorf("Ports is %v for %v", err.Ports, err)
				}
			}
			for range 10 {
				rand.Shuffle(len(tt.sharers), func(i, j int) { tt.sharers[i], tt.sharers[j] = tt.sharers[j], tt.sharers[i] })
				again := Admit("key", tt.sharers)
				if diff := cmp.Diff(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(again))); diff != "" {
					t.Error("depends on the order:", diff)
				}
			}
		})
	}
}
