// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

func TestFindings(t *testing.T) {
	rec := func(id int64, addr string, change func(*record)) record {
		r := record{id: id, addr: netip.MustParseAddr(addr), claim: "c/n/s" + addr + "/ipv4", cluster: "c", clusterUID: "u", serviceUID: "s"}
		change(&r)
		return r
	}
	fine := func(*record) {}
	claim := func(text string) func(*record) { return func(r *record) { r.claim = text } }
	foreign := func(r *record) { *r = record{id: r.id, addr: r.addr, vrf: r.vrf} }
	tests := []struct {
		name          string
		named, others []record
		want          []string // kind, address, a word of the text
	}{
		{name: "nothing wrong", named: []record{rec(1, "192.0.2.1", fine)}, others: []record{rec(1, "192.0.2.1", fine), rec(2, "192.0.2.2", foreign)}},
		{name: "the next address of a change", named: []record{rec(1, "192.0.2.1", claim("c/n/s/ipv4")), rec(2, "192.0.2.2", claim("c/n/s/ipv4#next"))}},
		{name: "a shared address", named: []record{rec(1, "192.0.2.1", claim("c/n/+edge/ipv4"))}},
		{name: "written by hand", named: []record{rec(1, "192.0.2.1", func(r *record) { r.cluster, r.serviceUID, r.clusterUID = "", "", "" })}},
		{name: "one claim twice", named: []record{rec(1, "192.0.2.1", claim("c/n/s/ipv4")), rec(7, "192.0.2.2", claim("c/n/s/ipv4"))},
			want: []string{"duplicate-claim 192.0.2.1 NetBox address 7 (192.0.2.2)"}},
		{name: "one address twice", named: []record{rec(1, "192.0.2.1", fine)}, others: []record{rec(9, "192.0.2.1", foreign)},
			want: []string{"duplicate-address 192.0.2.1 NetBox address 9"}},
		{name: "one address twice in two VRFs", named: []record{rec(1, "192.0.2.1", fine)},
			others: []record{rec(9, "192.0.2.1", func(r *record) { r.vrf = 3; r.claim = "" })}},
		{name: "others' duplicates", others: []record{rec(8, "192.0.2.1", foreign), rec(9, "192.0.2.1", foreign)}},
		{name: "a claim of ours with another cluster", named: []record{rec(1, "192.0.2.1", func(r *record) { r.cluster = "x" })},
			want: []string{"foreign-owner 192.0.2.1 belongs to cluster x"}},
		{name: "another cluster of our name", named: []record{rec(1, "192.0.2.1", func(r *record) { r.clusterUID = "other" })},
			want: []string{"same-cluster-name 192.0.2.1 another clusterName"}},
		{name: "a claim of nobody", named: []record{rec(1, "192.0.2.1", claim(""))}, want: []string{"bad-claim 192.0.2.1 lost its claim"}},
		{name: "a claim that cannot be read", named: []record{rec(1, "192.0.2.1", claim("c/web"))}, want: []string{"bad-claim 192.0.2.1 write c/<namespace>"}},
		{name: "a claim of the other family", named: []record{rec(1, "192.0.2.1", claim("c/n/s/ipv6"))}, want: []string{"bad-claim 192.0.2.1 other IP family"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for i, f := range findings("c", "u", tt.named, tt.others) {
				text := string(f.Kind) + " " + f.Addr.String()
				if i < len(tt.want) {
					if word := strings.TrimPrefix(tt.want[i], text+" "); strings.Contains(f.Text, word) {
						text += " " + word
					}
				}
				got = append(got, text)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Of several records of one key that of the address in use counts.
func TestPreferring(t *testing.T) {
	low, high := record{id: 1, addr: netip.MustParseAddr("192.0.2.1"), claim: "k"}, record{id: 2, addr: netip.MustParseAddr("192.0.2.2"), claim: "k"}
	have := byClaimKey([]record{low, high})["k"]
	for held, want := range map[string]int64{"192.0.2.1": 1, "192.0.2.2": 2, "192.0.2.3": 1} {
		if got := have.preferring(netip.MustParseAddr(held)).main.id; got != want {
			t.Errorf("with %s in use record %d counts, want %d", held, got, want)
		}
	}
	if got := have.preferring(netip.Addr{}).main.id; got != 1 {
		t.Errorf("with none in use record %d counts", got)
	}
}

func TestParseKeyOfGroup(t *testing.T) {
	key := ipam.GroupKey("c", "n", "edge", ipam.IPv4)
	back, err := ipam.ParseKey(key.String())
	if group, ok := back.Group(); err != nil || back != key || !ok || group != "edge" {
		t.Errorf("%v, %v, %v", back, group, err)
	}
}
