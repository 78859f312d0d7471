// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/bm-ccm/bm-ccm/pkg/netbox/netboxtest"
)

func TestPaging(t *testing.T) {
	a := start(t, claimOpts("", "10.0.0.0/20"))
	for range 2 {
		items := make([]obj, 600)
		for i := range items {
			items[i] = obj{}
		}
		a.want(201, "POST", claims, items)
	}
	tests := []struct {
		query          string
		rows           int
		next, previous string
	}{
		{"", 50, "?limit=50&offset=50", ""},
		{"?limit=0", 1000, "?limit=1000&offset=1000", ""},
		{"?limit=9999", 1000, "?limit=1000&offset=1000", ""},
		{"?limit=x", 50, "?limit=50&offset=50", ""},
		{"?limit=500&offset=1000", 200, "", "?limit=500&offset=500"},
		{"?limit=100&offset=100", 100, "?limit=100&offset=200", "?limit=100"},
		{"?offset=5000", 0, "", "?limit=50&offset=4950"},
	}
	for _, tt := range tests {
		r := a.get(addresses + tt.query).obj()
		if r["count"] != 1200.0 || len(r["results"].([]any)) != tt.rows {
			t.Errorf("%q: count %v with %d rows, want 1200 with %d", tt.query, r["count"], len(r["results"].([]any)), tt.rows)
		}
		for key, want := range map[string]string{"next": tt.next, "previous": tt.previous} {
			got, _ := r[key].(string)
			got = strings.TrimPrefix(got, a.url+addresses)
			if strings.ReplaceAll(got, "limit=x&", "") != want {
				t.Errorf("%q: %s %q, want %q", tt.query, key, got, want)
			}
		}
	}
}

func TestCursor(t *testing.T) {
	a := start(t, claimOpts("", "10.0.0.0/24"))
	a.want(201, "POST", claims, []obj{{}, {}, {}, {}, {}})
	a.want(204, "DELETE", addresses+"3/", nil)
	r := a.get(addresses + "?start=2&limit=2")
	if r.field("id") != "2 4" || r.obj()["count"] != nil || r.obj()["next"] != a.url+addresses+"?limit=2&start=5" {
		t.Errorf("page %v", r.obj())
	}
	r = a.get(addresses + "?start=5&limit=2")
	if r.field("id") != "5" || r.obj()["next"] != nil {
		t.Errorf("last page %v", r.obj())
	}
	for _, q := range []string{"?start=1&offset=0", "?start=1&ordering=id", "?start=-1", "?start=x"} {
		a.want(400, "GET", addresses+q, nil)
	}
	old := start(t, claimOpts("4.5", "10.0.0.0/24"))
	old.want(201, "POST", claims, []obj{{}, {}, {}})
	if got := old.get(addresses + "?start=2").obj()["count"]; got != 3.0 {
		t.Errorf("4.5: count %v: start is not known there", got)
	}
}

func TestOrdering(t *testing.T) {
	a := start(t, netboxtest.Options{})
	for _, addr := range []string{"2001:db8::1/64", "10.0.0.20/24", "10.0.0.3/24", "9.0.0.1/8"} {
		a.create(addresses, obj{"address": addr, "description": addr[:1]})
	}
	for query, want := range map[string]string{
		"":                          "4 3 2 1", // family and host, not text
		"?ordering=id":              "1 2 3 4",
		"?ordering=-id":             "4 3 2 1",
		"?ordering=description":     "2 3 1 4",
		"?ordering=description,-id": "3 2 1 4",
		"?ordering=nope":            "4 3 2 1",
		"?ordering=-created":        "4 3 2 1",
	} {
		if got := a.get(addresses + query).field("id"); got != want {
			t.Errorf("%q: %s, want %s", query, got, want)
		}
	}
}

func TestFieldSelection(t *testing.T) {
	a := start(t, claimOpts("", "10.0.0.0/24"))
	a.create(claims, claimOf("c/n/a/ipv4"))
	keys := func(a *api, query string) string {
		row := a.get(addresses + query).list()[0].(obj)
		var out []string
		for k := range strings.FieldsSeq("id url display family address status tags custom_fields description owner") {
			if _, has := row[k]; has {
				out = append(out, k)
			}
		}
		return strings.Join(out, " ")
	}
	for query, want := range map[string]string{
		"?fields=id,address,custom_fields": "id address custom_fields",
		"?fields=id,nope":                  "id",
		"?omit=tags,custom_fields,owner":   "id url display family address status description",
		"?brief=true":                      "id url display family address description",
		"?fields=id&omit=id":               "id",
	} {
		if got := keys(a, query); got != want {
			t.Errorf("%q: %s, want %s", query, got, want)
		}
	}
	if got := len(a.get(addresses + "1/?fields=id").obj()); got != 1 {
		t.Errorf("fields=id on one object gives %d fields", got)
	}
	old := start(t, claimOpts("4.4", "10.0.0.0/24"))
	old.create(claims, claimOf("c/n/a/ipv4"))
	if got := keys(old, "?omit=tags"); got != "id url display family address status tags custom_fields description" {
		t.Errorf("4.4: %s: omit and owner are not known there", got)
	}
}

// filterSeed gives the addresses 1 to 6.
func filterSeed() *netboxtest.Seed {
	return &netboxtest.Seed{
		ClaimFields: true,
		CustomFields: []netboxtest.CustomField{
			{Name: "loose"}, {Name: "off", FilterLogic: "disabled"}, {Name: "n", Type: "integer"},
		},
		Tags: []string{"a", "b"}, Tenants: []string{"Team"}, VRFs: []netboxtest.SeedVRF{{Name: "blue", RD: "65000:1"}},
		Addrs: []netboxtest.SeedAddress{
			{Address: "10.0.0.1/24", Tags: []string{"a", "b"}, CustomFields: map[string]any{"k8s_cluster": "c1", "loose": "Some Text", "n": 5}},
			{Address: "10.0.0.2/32", Tags: []string{"a"}, Status: "reserved", Tenant: "Team", CustomFields: map[string]any{"k8s_cluster": "c1x"}},
			{Address: "10.0.0.2/24", VRF: "blue", DNSName: "www.example.org"},
			{Address: "10.1.0.1/24", Role: "vip", Description: "Hello World"},
			{Address: "2001:db8::1/64"},
			{Address: "2001:db8::2/128", Status: "deprecated"},
		},
	}
}

func TestAddressFilters(t *testing.T) {
	a := start(t, netboxtest.Options{Seed: filterSeed()})
	const all = "1 2 3 4 5 6"
	tests := map[string]string{
		"nope=1":                                all,
		"id=2&id=4":                             "2 4",
		"id__gte=5":                             "5 6",
		"address=10.0.0.2":                      "2 3",
		"address=10.0.0.2/24":                   "3",
		"address=10.0.0.1&address=10.1.0.1":     "1 4",
		"address=x":                             "",
		"address=10.0.0.2&vrf_id=null":          "2",
		"vrf_id=1":                              "3",
		"vrf=65000:1":                           "3",
		"vrf_id__n=1":                           "1 2 4 5 6",
		"parent=10.0.0.0/24":                    "1 2 3",
		"parent=10.0.0.0/16&parent=10.1.0.0/16": "1 2 3 4",
		"parent=2001:db8::/32":                  "5 6",
		"family=6":                              "5 6",
		"mask_length=24":                        "1 3 4",
		"mask_length__gte=64":                   "5 6",
		"status=reserved":                       "2",
		"status=reserved&status=deprecated":     "2 6",
		"status__n=active":                      "2 6",
		"role=vip":                              "4",
		"tenant=team":                           "2",
		"tenant_id=1":                           "2",
		"tenant_id=null":                        "1 3 4 5 6",
		"tag=a":                                 "1 2",
		"tag=a&tag=b":                           "1", // AND
		"tag__n=b":                              "2 3 4 5 6",
		"tag__any=a&tag__any=b":                 "1 2",
		"tag_id=2":                              "1",
		"dns_name=www.example.org":              "3",
		"dns_name__ic=EXAMPLE":                  "3",
		"dns_name__empty=false":                 "3",
		"description=hello world":               "",
		"description__ie=hello world":           "4",
		"description__isw=hello":                "4",
		"description__n=Hello World":            "1 2 3 5 6",
		"description__nope=x":                   all,
		"q=hello":                               "4",
		"q=10.1.":                               "4",
		"q=www":                                 "3",
		"cf_k8s_cluster=c1":                     "1", // exact
		"cf_k8s_cluster=c1&cf_k8s_cluster=c1x":  "1 2",
		"cf_k8s_cluster__ic=C1":                 "1 2",
		"cf_k8s_cluster__empty=true":            "3 4 5 6",
		"cf_k8s_cluster__n=c1":                  "2 3 4 5 6",
		"cf_loose=text":                         "1", // icontains
		"cf_n=5":                                "1",
		"cf_off=x":                              all, // disabled is no filter
		"cf_unknown=x":                          all,
		"last_updated__gte=2100-01-01":          "",
		"created__gte=2020-01-01T00:00:00Z":     all,
		"assigned_to_interface=true":            "",
	}
	for query, want := range tests {
		t.Run(query, func(t *testing.T) {
			r := a.get(addresses + "?ordering=id&" + strings.ReplaceAll(query, " ", "%20"))
			if got := r.field("id"); got != want {
				t.Errorf("ids %q, want %q", got, want)
			}
		})
	}
}

func TestBadFilters(t *testing.T) {
	a := start(t, netboxtest.Options{Seed: filterSeed()})
	for query, value := range map[string]string{
		"status=nope": "nope", "tag=nope": "nope", "tenant=nope": "nope", "tenant_id=99": "99", "vrf_id=99": "99", "role=x": "x",
		"family=5": "5", "device=nope": "nope",
	} {
		key, _, _ := strings.Cut(query, "=")
		a.wantBody(a.want(400, "GET", addresses+"?"+query, nil),
			fmt.Sprintf(`{"%s":["Select a valid choice. %s is not one of the available choices."]}`, key, value))
	}
	a.want(400, "GET", addresses+"?id=x", nil)
	if r := a.want(501, "GET", addresses+"?present_in_vrf_id=1", nil); !strings.Contains(r.text, "present_in_vrf_id") {
		t.Errorf("body %s", r.text)
	}
	a.want(501, "GET", "/api/dcim/devices/?region=europe", nil)
}

func TestOtherFilters(t *testing.T) {
	a := start(t, netboxtest.Options{Seed: &netboxtest.Seed{
		VRFs:  []netboxtest.SeedVRF{{Name: "blue"}},
		Sites: []netboxtest.SeedSite{{Name: "dc1", Region: "europe"}, {Name: "dc2"}},
		Prefixes: []netboxtest.SeedPrefix{
			{Prefix: "10.0.0.0/8", Status: "container"}, {Prefix: "10.1.0.0/16", Site: "dc1"}, {Prefix: "10.1.1.0/24", Tags: []string{"k8s"}},
			{Prefix: "10.1.1.0/24", VRF: "blue", IsPool: true}, {Prefix: "2001:db8::/64"},
		},
		Ranges: []netboxtest.SeedRange{{Start: "10.1.1.10/24", End: "10.1.1.20/24"}, {Start: "10.2.0.1/16", End: "10.2.0.9/16"}},
		Devices: []netboxtest.SeedDevice{
			{Name: "Node1", Site: "dc1", Primary4: "192.0.2.1/24"}, {Name: "node2", Site: "dc2", Status: "offline", Type: "r640"},
			{Name: "vm1", VirtualMachine: true, Primary4: "192.0.2.2/24"},
		},
	}})
	tests := []struct{ path, query, want string }{
		{"ipam/prefixes", "prefix=10.1.1.0/24", "3 4"},
		{"ipam/prefixes", "prefix=10.1.1.0/24&vrf_id=null", "3"},
		{"ipam/prefixes", "within=10.1.0.0/16", "3 4"},
		{"ipam/prefixes", "within_include=10.1.0.0/16", "2 3 4"},
		{"ipam/prefixes", "contains=10.1.1.5", "1 2 3 4"},
		{"ipam/prefixes", "contains=10.1.0.0/16", "1 2"},
		{"ipam/prefixes", "status=container", "1"},
		{"ipam/prefixes", "tag=k8s", "3"},
		{"ipam/prefixes", "family=6", "5"},
		{"ipam/prefixes", "is_pool=true", "4"},
		{"ipam/prefixes", "site=dc1", "2"},
		{"ipam/prefixes", "mask_length=24", "3 4"},
		{"ipam/ip-ranges", "contains=10.1.1.15", "1"},
		{"ipam/ip-ranges", "parent=10.1.0.0/16", "1"},
		{"ipam/ip-ranges", "start_address=10.2.0.1", "2"},
		{"ipam/ip-ranges", "end_address=10.2.0.9/24", ""},
		{"dcim/devices", "name=node1", "1"}, // without regard to case
		{"dcim/devices", "name__ie=NODE2", "2"},
		{"dcim/devices", "site=dc2", "2"},
		{"dcim/devices", "site_id=1", "1"},
		{"dcim/devices", "status=offline", "2"},
		{"dcim/devices", "has_primary_ip=false", "2"},
		{"dcim/devices", "device_type=r640", "2"},
		{"virtualization/virtual-machines", "name=VM1", "1"},
		{"ipam/ip-addresses", "device=Node1", "1"},
		{"ipam/ip-addresses", "virtual_machine=vm1", "2"},
		{"ipam/ip-addresses", "device_id=2", ""},
		{"dcim/interfaces", "device_id=1", "1"},
		{"dcim/sites", "region=europe", "1"},
		{"ipam/vrfs", "name=blue", "1"},
		{"extras/tags", "slug=k8s", "1"},
	}
	for _, tt := range tests {
		t.Run(tt.path+"?"+tt.query, func(t *testing.T) {
			r := a.get("/api/" + tt.path + "/?ordering=id&" + tt.query)
			if got := r.field("id"); got != tt.want {
				t.Errorf("ids %q, want %q", got, tt.want)
			}
		})
	}
}
