// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/bm-ccm/bm-ccm/pkg/netbox/netboxtest"
)

func TestPathsAndMethods(t *testing.T) {
	tests := []struct {
		name, version, method, path string
		status                      int
		location, text              string
	}{
		{name: "unknown path", method: "GET", path: "/api/nope/", status: 404},
		{name: "unknown path, two parts", method: "GET", path: "/api/ipam/nope/", status: 404},
		{name: "path of NetBox that is missing", method: "GET", path: "/api/ipam/vlans/", status: 501, text: "netboxtest does not implement"},
		{name: "and below it", method: "POST", path: "/api/users/tokens/provision/", status: 501, text: "netboxtest does not implement"},
		{name: "read without slash", method: "GET", path: "/api/status", status: 301, location: "/api/status/"},
		{name: "read without slash keeps the query", method: "GET", path: "/api/ipam/prefixes?q=x", status: 301, location: "/api/ipam/prefixes/?q=x"},
		{name: "unknown without slash", method: "GET", path: "/api/nope", status: 404},
		{name: "write without slash", method: "POST", path: "/api/ipam/prefixes", status: 404},
		{name: "write without slash on 4.4", version: "4.4", method: "POST", path: "/api/ipam/prefixes", status: 301, location: "/api/ipam/prefixes/"},
		{name: "no such object", method: "GET", path: "/api/ipam/prefixes/9/", status: 404, text: "No Prefix matches the given query."},
		{name: "no such parent", method: "POST", path: "/api/ipam/ip-ranges/9/available-ips/", status: 404, text: "No IPRange matches the given query."},
		{name: "write to status", method: "POST", path: "/api/status/", status: 405, text: `Method \"POST\" not allowed.`},
		{name: "POST to an object", method: "POST", path: "/api/ipam/prefixes/1/", status: 405, text: "not allowed"},
		{name: "authentication check", method: "GET", path: "/api/authentication-check/", status: 200, text: `"username":"admin"`},
		{name: "authentication check came with 4.5", version: "4.4", method: "GET", path: "/api/authentication-check/", status: 404},
		{name: "available prefixes", method: "GET", path: "/api/ipam/prefixes/1/available-prefixes/", status: 501},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := start(t, claimOpts(tt.version, "10.0.0.0/24"))
			r := a.want(tt.status, tt.method, tt.path, nil)
			if got := r.header.Get("Location"); got != tt.location {
				t.Errorf("Location %q, want %q", got, tt.location)
			}
			if !strings.Contains(r.text, tt.text) {
				t.Errorf("body %q, want %q in it", r.text, tt.text)
			}
		})
	}
}

func TestHeaders(t *testing.T) {
	a := start(t, netboxtest.Options{Version: "4.6"})
	r1, r2 := a.get("/api/status/"), a.get("/api/status/")
	if got := r1.header.Get("API-Version"); got != "4.6" {
		t.Errorf("API-Version %q, want 4.6", got)
	}
	if id := r1.header.Get("X-Request-ID"); len(id) != 36 || id == r2.header.Get("X-Request-ID") {
		t.Errorf("X-Request-ID %q and %q, want two UUIDs", id, r2.header.Get("X-Request-ID"))
	}
	if got := r1.obj()["netbox-version"]; got != "4.6.8" {
		t.Errorf("netbox-version %v, want 4.6.8", got)
	}
}

func TestBadBodies(t *testing.T) {
	a := start(t, claimOpts("", "10.0.0.0/24"))
	const path = "/api/ipam/ip-addresses/"
	if r := a.want(400, "POST", path, strings.NewReader("{")); !strings.Contains(r.text, "JSON parse error - ") {
		t.Errorf("broken JSON: %s", r.text)
	}
	a.want(415, "POST", path, strings.NewReader("a=b"), "Content-Type", "application/x-www-form-urlencoded")
	a.wantBody(a.want(400, "POST", path, nil), `{"address":["This field is required."]}`)
	a.wantBody(a.want(400, "POST", path, obj{"address": "1.2.3"}), `{"address":["Invalid IP address format: 1.2.3"]}`)
	a.wantBody(a.want(400, "POST", path, "text"), `{"__all__":["Invalid data. Expected a dictionary, but got str."]}`)
}

// A body without Content-Length reads as empty, so that a PATCH answers 200
// and changes nothing; as with a NetBox behind bare gunicorn.
func TestChunkedBodies(t *testing.T) {
	for _, buffered := range []bool{false, true} {
		a := start(t, netboxtest.Options{BufferedBodies: buffered})
		id := a.create("/api/ipam/ip-addresses/", obj{"address": "10.0.0.1"})
		if id != 1 {
			t.Fatalf("id %d", id)
		}
		body := io.NopCloser(strings.NewReader(`{"description":"changed"}`)) // hides the length
		r := a.want(http.StatusOK, "PATCH", "/api/ipam/ip-addresses/1/", io.Reader(body))
		want := ""
		if buffered {
			want = "changed"
		}
		if got := r.obj()["description"]; got != want {
			t.Errorf("buffered %v: description %q, want %q", buffered, got, want)
		}
		if n := len(a.srv.Violations()); n != 1 {
			t.Errorf("buffered %v: %d violations noted, want 1", buffered, n)
		}
	}
}

func TestVersions(t *testing.T) {
	for _, v := range []string{"4.3", "4.8", "4", "x", "4.4.9", "4.7.x", "5.0.0"} {
		if err := (netboxtest.Options{Version: v}).Validate(); err == nil {
			t.Errorf("version %q was accepted", v)
		}
	}
	for v, want := range map[string]string{"": "4.7.3", "4.4": "4.4.10", "4.7": "4.7.3", "4.6.2": "4.6.2"} {
		if got := netboxtest.New(netboxtest.Options{Version: v}).Version(); got != want {
			t.Errorf("version %q gives %s, want %s", v, got, want)
		}
	}
}

// Decoders that were generated from NetBox's schema refuse objects that lack
// a required property, or have an empty display.
func TestRequiredProperties(t *testing.T) {
	a := start(t, netboxtest.Options{Seed: fullSeed()})
	tests := map[string]string{
		"ipam/ip-addresses":               "id url display family address nat_outside",
		"ipam/prefixes":                   "id url display family prefix children _depth",
		"ipam/ip-ranges":                  "id url display family start_address end_address size",
		"ipam/vrfs":                       "id url display name",
		"tenancy/tenants":                 "id url display name slug",
		"extras/tags":                     "id url display name slug",
		"extras/custom-fields":            "id url display object_types type data_type name",
		"dcim/sites":                      "id url display name slug",
		"dcim/regions":                    "id url display name slug _depth",
		"dcim/locations":                  "id url display name slug site _depth",
		"dcim/racks":                      "id url display name site",
		"dcim/device-types":               "id url display manufacturer model slug interface_template_count",
		"dcim/devices":                    "id url display device_type role site console_port_count inventory_item_count",
		"dcim/interfaces":                 "id url display device name type link_peers count_ipaddresses count_fhrp_groups _occupied",
		"virtualization/virtual-machines": "id url display name virtual_disk_count",
		"virtualization/interfaces":       "id url display virtual_machine name count_ipaddresses",
		"users/tokens":                    "id url display user",
		"users/permissions":               "id url display name object_types actions",
		"users/users":                     "id url display username",
	}
	for path, fields := range tests {
		rows := a.get("/api/" + path + "/").list()
		if len(rows) == 0 {
			t.Errorf("%s: no rows to look at", path)
			continue
		}
		row := rows[0].(obj)
		for f := range strings.FieldsSeq(fields) {
			if v, has := row[f]; !has || v == "" {
				t.Errorf("%s: %s is missing or empty", path, f)
			}
		}
	}
}

// fullSeed has one of everything.
func fullSeed() *netboxtest.Seed {
	return &netboxtest.Seed{
		ClaimFields: true,
		Tokens: []netboxtest.Token{
			{Key: netboxtest.DefaultToken, Superuser: true},
			{User: "c1", Key: "nbt_c1.secret", Permissions: netboxtest.FencedPermissions("c1")},
		},
		Tags: []string{"k8s"}, Tenants: []string{"Team A"}, Regions: []string{"asia"},
		Sites:    []netboxtest.SeedSite{{Name: "DC 1", Region: "europe"}},
		VRFs:     []netboxtest.SeedVRF{{Name: "blue", RD: "65000:1"}},
		Prefixes: []netboxtest.SeedPrefix{{Prefix: "10.0.0.0/24", VRF: "blue", Tenant: "Team A", Site: "DC 1", Tags: []string{"k8s"}}},
		Ranges:   []netboxtest.SeedRange{{Start: "10.1.0.10/24", End: "10.1.0.20/24"}},
		Devices: []netboxtest.SeedDevice{
			{Name: "node1", Site: "DC 1", Type: "r640", Role: "worker", Location: "hall 1", Rack: "r1", Primary4: "192.0.2.11/24", Primary6: "2001:db8::11/64"},
			{Name: "vm1", VirtualMachine: true, Primary4: "192.0.2.12/24"},
		},
		Addrs: []netboxtest.SeedAddress{{Address: "10.0.0.1/24", VRF: "blue", Description: "gateway", CustomFields: map[string]any{"k8s_cluster": "c1"}}},
	}
}
