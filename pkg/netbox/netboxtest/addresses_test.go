// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest_test

import (
	"strings"
	"testing"

	"github.com/bm-ccm/bm-ccm/pkg/netbox/netboxtest"
)

const addresses = "/api/ipam/ip-addresses/"

func TestAddressRules(t *testing.T) {
	tests := []struct {
		name    string
		opts    netboxtest.Options
		before  []obj
		body    obj
		status  int
		address string
		err     string
	}{
		{name: "host alone", body: obj{"address": "10.0.0.1"}, status: 201, address: "10.0.0.1/32"},
		{name: "IPv6 host alone", body: obj{"address": "2001:DB8::1"}, status: 201, address: "2001:db8::1/128"},
		{name: "mask and host bits stay", body: obj{"address": "10.0.0.1/24"}, status: 201, address: "10.0.0.1/24"},
		{name: "no address", body: obj{}, status: 400, err: `{"address":["This field is required."]}`},
		{name: "/0", body: obj{"address": "10.0.0.1/0"}, status: 400, err: `{"address":["Cannot create IP address with /0 mask."]}`},
		{
			name: "duplicate of the host, whatever the mask", before: []obj{{"address": "10.0.0.1/32"}}, body: obj{"address": "10.0.0.1/24"},
			status: 400, err: `{"address":["Duplicate IP address found in global table: 10.0.0.1/32"]}`,
		},
		{name: "same host in a VRF", before: []obj{{"address": "10.0.0.1/32"}}, body: obj{"address": "10.0.0.1/32", "vrf": 1}, status: 201},
		{
			name: "duplicate in a VRF", before: []obj{{"address": "10.0.0.1/32", "vrf": 1}}, body: obj{"address": "10.0.0.1/32", "vrf": obj{"name": "blue"}},
			status: 400, err: `{"address":["Duplicate IP address found in VRF blue (65000:1): 10.0.0.1/32"]}`,
		},
		{name: "VRF that does not enforce", before: []obj{{"address": "10.0.0.1/32", "vrf": 2}}, body: obj{"address": "10.0.0.1/32", "vrf": 2}, status: 201},
		{
			name: "global table that does not enforce", opts: netboxtest.Options{AllowGlobalDuplicates: true},
			before: []obj{{"address": "10.0.0.1/32"}}, body: obj{"address": "10.0.0.1/32"}, status: 201,
		},
		{
			name: "both with role vip", before: []obj{{"address": "10.0.0.1/32", "role": "vip"}},
			body: obj{"address": "10.0.0.1/32", "role": "anycast"}, status: 201,
		},
		{
			name: "only the new one with role vip", before: []obj{{"address": "10.0.0.1/32"}}, body: obj{"address": "10.0.0.1/32", "role": "vip"},
			status: 400, err: `{"address":["Duplicate IP address found in global table: 10.0.0.1/32"]}`,
		},
		{
			name: "role loopback is not exempt", before: []obj{{"address": "10.0.0.1/32", "role": "loopback"}},
			body: obj{"address": "10.0.0.1/32", "role": "loopback"}, status: 400,
		},
		{name: "bad status", body: obj{"address": "10.0.0.1", "status": "k8s"}, status: 400, err: `{"status":["k8s is not a valid choice."]}`},
		{name: "status of the site", opts: netboxtest.Options{AddressStatuses: []string{"k8s=Kubernetes"}}, body: obj{"address": "10.0.0.1", "status": "k8s"}, status: 201},
		{name: "status as an object", body: obj{"address": "10.0.0.1", "status": obj{"value": "active"}}, status: 400},
		{name: "SLAAC is for IPv6", body: obj{"address": "10.0.0.1", "status": "slaac"}, status: 400},
		{name: "bad DNS name", body: obj{"address": "10.0.0.1", "dns_name": "a b"}, status: 400, err: `{"dns_name":["Only alphanumeric characters, asterisks, hyphens, periods, and underscores are allowed in DNS names"]}`},
		{
			name: "long description", body: obj{"address": "10.0.0.1", "description": strings.Repeat("x", 201)}, status: 400,
			err: `{"description":["Ensure this field has no more than 200 characters."]}`,
		},
		{name: "null description", body: obj{"address": "10.0.0.1", "description": nil}, status: 400, err: `{"description":["This field may not be null."]}`},
		{
			name: "unknown VRF", body: obj{"address": "10.0.0.1", "vrf": 99}, status: 400,
			err: `{"vrf":["Related object not found using the provided numeric ID: 99"]}`,
		},
		{name: "unknown keys are ignored", body: obj{"address": "10.0.0.1", "nope": 1, "id": 77}, status: 201, address: "10.0.0.1/32"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.opts.Seed = &netboxtest.Seed{VRFs: []netboxtest.SeedVRF{{Name: "blue", RD: "65000:1"}, {Name: "shared", AllowDuplicates: true}}}
			a := start(t, tt.opts)
			for _, b := range tt.before {
				a.create(addresses, b)
			}
			r := a.want(tt.status, "POST", addresses, tt.body)
			if tt.address != "" && r.obj()["address"] != tt.address {
				t.Errorf("address %v, want %s", r.obj()["address"], tt.address)
			}
			if tt.err != "" {
				a.wantBody(r, tt.err)
			}
		})
	}
}

func TestAddressUpdate(t *testing.T) {
	a := start(t, claimOpts("", "10.0.0.0/24"))
	id := a.create(addresses, obj{"address": "10.0.0.1/24", "description": "old", "custom_fields": obj{"k8s_cluster": "c1", "k8s_service_uid": "u"}})
	path := addresses + itoa(id) + "/"

	r := a.want(200, "PATCH", path, obj{"custom_fields": obj{"k8s_lb_claim": "k", "k8s_service_uid": nil}, "role": "loopback"}).obj()
	if cf := r["custom_fields"].(obj); cf["k8s_cluster"] != "c1" || cf["k8s_lb_claim"] != "k" || cf["k8s_service_uid"] != nil {
		t.Errorf("custom fields %v: they were not merged", cf)
	}
	if r["description"] != "old" || r["created"] == r["last_updated"] {
		t.Errorf("description %v, created %v, last_updated %v", r["description"], r["created"], r["last_updated"])
	}
	a.wantBody(a.want(400, "PUT", path, obj{"description": "new"}), `{"address":["This field is required."]}`)
	r = a.want(200, "PUT", path, obj{"address": "10.0.0.2/24", "role": nil}).obj()
	if r["description"] != "old" || r["role"] != nil || r["address"] != "10.0.0.2/24" {
		t.Errorf("PUT made it %v", r)
	}
	a.want(201, "POST", addresses, obj{"address": "10.0.0.1/24"})
	a.want(400, "PATCH", path, obj{"address": "10.0.0.1/24"})
	a.want(204, "DELETE", path, nil)
	a.wantBody(a.want(404, "DELETE", path, nil), `{"detail":"No IPAddress matches the given query."}`)
	if next := a.create(addresses, obj{"address": "10.0.0.9/24"}); next <= id+1 {
		t.Errorf("id %d was given again", next)
	}
}

func TestPrefixAndRangeRules(t *testing.T) {
	tests := []struct {
		name, path string
		body       obj
		status     int
		want       string
	}{
		{"host bits are cleared", "prefixes", obj{"prefix": "10.2.0.9/24"}, 201, `"prefix":"10.2.0.0/24"`},
		{"duplicate", "prefixes", obj{"prefix": "10.0.0.0/24"}, 400, `{"prefix":["Duplicate prefix found in global table: 10.0.0.0/24"]}`},
		{"same in a VRF", "prefixes", obj{"prefix": "10.0.0.0/24", "vrf": 1}, 201, `"name":"blue"`},
		{"/0", "prefixes", obj{"prefix": "0.0.0.0/0"}, 400, "Cannot create prefix with /0 mask."},
		{"bad status", "prefixes", obj{"prefix": "10.3.0.0/24", "status": "x"}, 400, "x is not a valid choice."},
		{"families differ", "ip-ranges", obj{"start_address": "10.5.0.1/24", "end_address": "::1/64"}, 400, "versions must match"},
		{"masks differ", "ip-ranges", obj{"start_address": "10.5.0.1/24", "end_address": "10.5.0.2/25"}, 400, "masks must match"},
		{"end before start", "ip-ranges", obj{"start_address": "10.5.0.2/24", "end_address": "10.5.0.1/24"}, 400, "greater than or equal"},
		{"one address", "ip-ranges", obj{"start_address": "10.5.0.1/24", "end_address": "10.5.0.1/24"}, 201, `"size":1`},
		{"overlap at the start", "ip-ranges", obj{"start_address": "10.0.0.5/24", "end_address": "10.0.0.15/24"}, 400, "Defined addresses overlap with range 10.0.0.10-10.0.0.20/24 in VRF None"},
		{"overlap around", "ip-ranges", obj{"start_address": "10.0.0.5/24", "end_address": "10.0.0.25/24"}, 400, "overlap"},
		{"beside it", "ip-ranges", obj{"start_address": "10.0.0.21/24", "end_address": "10.0.0.25/24"}, 201, `"display":"10.0.0.21-10.0.0.25/24"`},
		{"too large", "ip-ranges", obj{"start_address": "2001:db8::/64", "end_address": "2001:db8::1:0:0:0/64"}, 400, "maximum supported size"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := start(t, netboxtest.Options{Seed: &netboxtest.Seed{
				VRFs:     []netboxtest.SeedVRF{{Name: "blue"}},
				Prefixes: []netboxtest.SeedPrefix{{Prefix: "10.0.0.0/24"}},
				Ranges:   []netboxtest.SeedRange{{Start: "10.0.0.10/24", End: "10.0.0.20/24"}},
			}})
			r := a.want(tt.status, "POST", "/api/ipam/"+tt.path+"/", tt.body)
			if !strings.Contains(r.text, tt.want) {
				t.Errorf("body %s, want %s in it", r.text, tt.want)
			}
		})
	}
}

func TestPrefixTree(t *testing.T) {
	a := start(t, netboxtest.Options{})
	for _, p := range []string{"10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "192.0.2.0/24"} {
		a.create("/api/ipam/prefixes/", obj{"prefix": p})
	}
	r := a.get("/api/ipam/prefixes/")
	if got := r.field("children"); got != "2 1 0 0" {
		t.Errorf("children %s", got)
	}
	if got := r.field("_depth"); got != "0 1 2 0" {
		t.Errorf("_depth %s", got)
	}
}

func TestNATOutside(t *testing.T) {
	a := start(t, netboxtest.Options{})
	in := a.create(addresses, obj{"address": "10.0.0.1/24"})
	out := a.create(addresses, obj{"address": "203.0.113.1/32", "nat_inside": in})
	l := a.get(addresses + itoa(in) + "/").obj()["nat_outside"].([]any)
	if len(l) != 1 || l[0].(obj)["address"] != "203.0.113.1/32" {
		t.Errorf("nat_outside %v", l)
	}
	a.want(204, "DELETE", addresses+itoa(in)+"/", nil)
	if got := a.get(addresses + itoa(out) + "/").obj()["nat_inside"]; got != nil {
		t.Errorf("nat_inside %v after the inside address is gone", got)
	}
}

func TestBehindTheBack(t *testing.T) {
	a := start(t, claimOpts("", "10.0.0.0/24"))
	a.create(claims, claimOf("c/n/a/ipv4"))
	dup := obj{"address": "10.0.0.1/32", "custom_fields": obj{"k8s_lb_claim": "c/n/a/ipv4"}}
	a.want(400, "POST", addresses, dup)
	id, err := a.srv.WriteBehindBack(dup)
	if err != nil {
		t.Fatal(err)
	}
	r := a.get(addresses + "?address=10.0.0.1&cf_k8s_lb_claim=c/n/a/ipv4&ordering=id")
	if got := r.field("id"); got != "1 "+itoa(id) {
		t.Errorf("records %s, want 1 and %d", got, id)
	}
	if _, err := a.srv.WriteBehindBack(obj{"id": id, "description": "changed", "custom_fields": obj{"k8s_cluster": "thief"}}); err != nil {
		t.Fatal(err)
	}
	if got := a.get(addresses + itoa(id) + "/").obj()["custom_fields"].(obj)["k8s_cluster"]; got != "thief" {
		t.Errorf("k8s_cluster %v", got)
	}
	for _, bad := range []obj{{}, {"address": "x"}, {"id": 99, "description": "x"}, {"address": "10.0.0.9", "custom_fields": obj{"nope": 1}}} {
		if _, err := a.srv.WriteBehindBack(bad); err == nil {
			t.Errorf("%v was accepted", bad)
		}
	}
}
