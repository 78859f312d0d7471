// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest_test

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/bm-ccm/bm-ccm/pkg/netbox/netboxtest"
)

func TestETags(t *testing.T) {
	a := start(t, netboxtest.Options{})
	r := a.want(201, "POST", addresses, obj{"address": "10.0.0.1/24"})
	path, first := addresses+itoa(r.id())+"/", r.header.Get("ETag")
	updated, _ := r.obj()["last_updated"].(string)
	if want := `W/"` + strings.Replace(updated, "Z", "+00:00", 1) + `"`; first != want {
		t.Errorf("ETag %s, want %s", first, want)
	}
	if got := a.get(path).header.Get("ETag"); got != first {
		t.Errorf("ETag of GET %s, of POST %s", got, first)
	}
	r = a.want(200, "PATCH", path, obj{"description": "x"}, "If-Match", first)
	second := r.header.Get("ETag")
	for _, method := range []string{"PATCH", "PUT", "DELETE"} {
		r = a.want(412, method, path, obj{"address": "10.0.0.1/24"}, "If-Match", first)
		if got := r.header.Get("ETag"); got != second {
			t.Errorf("%s: ETag %s with the 412, want the current %s", method, got, second)
		}
	}
	a.want(200, "PATCH", path, obj{}, "If-Match", `"other", `+second)
	a.want(200, "PATCH", path, obj{}, "If-Match", "*")
	if got := a.get(addresses).header.Get("ETag"); got != "" {
		t.Errorf("ETag on a list: %s", got)
	}
	a.want(412, "DELETE", path, nil, "If-Match", second)
}

// Before 4.6 a stale If-Match is not noticed: the delete goes through.
func TestNoETagsBefore46(t *testing.T) {
	a := start(t, netboxtest.Options{Version: "4.5"})
	r := a.want(201, "POST", addresses, obj{"address": "10.0.0.1/24"})
	if got := r.header.Get("ETag"); got != "" {
		t.Errorf("ETag %s", got)
	}
	a.want(204, "DELETE", addresses+"1/", nil, "If-Match", `W/"2020-01-01T00:00:00+00:00"`)
}

func TestCustomFieldDefinitions(t *testing.T) {
	a := start(t, netboxtest.Options{})
	const path = "/api/extras/custom-fields/"
	good := func(set obj) obj {
		b := obj{"object_types": []string{"ipam.ipaddress"}, "name": "f", "type": "text"}
		maps.Copy(b, set)
		return b
	}
	r := a.want(201, "POST", path, good(obj{"name": "k8s_lb_claim", "unique": true})).obj()
	if r["filter_logic"].(obj)["value"] != "loose" || r["type"].(obj)["value"] != "text" || r["unique"] != true {
		t.Errorf("made %v", r)
	}
	for name, tt := range map[string]struct {
		set    obj
		status int
		want   string
	}{
		"name taken":     {obj{"name": "k8s_lb_claim"}, 400, "already exists"},
		"bad name":       {obj{"name": "a-b"}, 400, "Only alphanumeric"},
		"double __":      {obj{"name": "a__b"}, 400, "Double underscores"},
		"long name":      {obj{"name": strings.Repeat("a", 51)}, 400, "no more than 50"},
		"unique boolean": {obj{"type": "boolean", "unique": true}, 400, "Uniqueness"},
		"bad type":       {obj{"type": "nope"}, 400, "not a valid choice"},
		"bad logic":      {obj{"filter_logic": "x"}, 400, "not a valid choice"},
		"bad object":     {obj{"object_types": []string{"ipam.nope"}}, 400, "Invalid content type"},
		"select":         {obj{"type": "select"}, 501, "does not implement"},
	} {
		if r := a.want(tt.status, "POST", path, good(tt.set)); !strings.Contains(r.text, tt.want) {
			t.Errorf("%s: %s, want %s", name, r.text, tt.want)
		}
	}
	if got := a.get(path + "?name=k8s_lb_claim").field("id"); got != "1" {
		t.Errorf("found by name: %s", got)
	}
	a.create(addresses, obj{"address": "10.0.0.1", "custom_fields": obj{"k8s_lb_claim": "k"}})
	a.want(204, "DELETE", path+"1/", nil)
	if cf := a.get(addresses + "1/").obj()["custom_fields"].(obj); len(cf) != 0 {
		t.Errorf("values stayed: %v", cf)
	}
	a.create(path, good(obj{"name": "k8s_lb_claim"}))
	if v := a.get(addresses + "1/").obj()["custom_fields"].(obj)["k8s_lb_claim"]; v != nil {
		t.Errorf("the new field has the old one's value %v", v)
	}
}

func TestCustomFieldValues(t *testing.T) {
	a := start(t, netboxtest.Options{Seed: &netboxtest.Seed{ClaimFields: true, CustomFields: []netboxtest.CustomField{
		{Name: "n", Type: "integer"}, {Name: "b", Type: "boolean"}, {Name: "d", Type: "date"}, {Name: "un", Type: "integer", Unique: true},
	}}})
	post := func(cf any) *reply { return a.do("POST", addresses, obj{"address": "10.0.0.1", "custom_fields": cf}) }
	for name, cf := range map[string]any{
		"text": obj{"k8s_cluster": 5}, "integer": obj{"n": "5"}, "boolean": obj{"b": 1}, "date": obj{"d": "tomorrow"},
		"unknown": obj{"nope": "x"}, "no object": "x",
	} {
		if r := post(cf); r.status != 400 {
			t.Errorf("%s: status %d: %s", name, r.status, r.text)
		}
	}
	r := post(obj{"n": 5, "b": true, "d": "2026-01-02", "k8s_lb_claim": "", "un": 7})
	if r.status != 201 {
		t.Fatalf("good values: %s", r.text)
	}
	a.want(201, "POST", addresses, obj{"address": "10.0.0.2", "custom_fields": obj{"k8s_lb_claim": ""}}) // empty ones may repeat
	a.want(400, "POST", addresses, obj{"address": "10.0.0.3", "custom_fields": obj{"un": 7}})
}

// Unknown custom fields on write are dropped silently up to 4.5.7.
func TestUnknownCustomField(t *testing.T) {
	for version, status := range map[string]int{"4.4": 201, "4.5.7": 201, "4.5.8": 400, "4.6": 400, "4.7": 400} {
		a := start(t, netboxtest.Options{Version: version})
		a.want(status, "POST", addresses, obj{"address": "10.0.0.1", "custom_fields": obj{"k8s_lb_claim": "x"}})
	}
}

func TestTags(t *testing.T) {
	o := netboxtest.Options{Seed: &netboxtest.Seed{Tags: []string{"a", "b", "c"}}}
	a := start(t, o)
	slugs := func(r *reply) string {
		var out []string
		for _, e := range r.obj()["tags"].([]any) {
			out = append(out, e.(obj)["slug"].(string))
		}
		return strings.Join(out, " ")
	}
	r := a.want(201, "POST", addresses, obj{"address": "10.0.0.1", "tags": []any{obj{"slug": "a"}, 2, obj{"name": "b"}}})
	if got := slugs(r); got != "a b" {
		t.Errorf("tags %s, want a b", got)
	}
	for _, tt := range []struct {
		body obj
		want string
	}{
		{obj{"description": "x"}, "a b"},
		{obj{"add_tags": []obj{{"slug": "c"}}}, "a b c"},
		{obj{"remove_tags": []obj{{"slug": "a"}}}, "b c"},
		{obj{"tags": []obj{{"slug": "a"}}}, "a"},
		{obj{"tags": []obj{}}, ""},
	} {
		if got := slugs(a.want(200, "PATCH", addresses+"1/", tt.body)); got != tt.want {
			t.Errorf("%v: tags %q, want %q", tt.body, got, tt.want)
		}
	}
	a.want(400, "PATCH", addresses+"1/", obj{"tags": []int{1}, "add_tags": []int{2}})
	a.wantBody(a.want(400, "PATCH", addresses+"1/", obj{"tags": []obj{{"slug": "nope"}}}),
		`{"tags":["Related object not found using the provided attributes: {'slug': 'nope'}"]}`)
	a.want(200, "PATCH", addresses+"1/", obj{"tags": []int{1}})
	if got := a.get("/api/extras/tags/1/").obj()["tagged_items"]; got != 1.0 {
		t.Errorf("tagged_items %v", got)
	}
	a.want(204, "DELETE", "/api/extras/tags/1/", nil)
	if got := slugs(a.get(addresses + "1/")); got != "" {
		t.Errorf("the deleted tag stayed: %s", got)
	}
	o.Version = "4.5"
	old := start(t, o)
	old.create(addresses, obj{"address": "10.0.0.1", "tags": []int{1}})
	if got := slugs(old.want(200, "PATCH", addresses+"1/", obj{"add_tags": []int{2}})); got != "a" {
		t.Errorf("4.5: tags %s: add_tags is not known there", got)
	}
}

func TestListCreate(t *testing.T) {
	a := start(t, claimOpts("", "10.0.0.0/24"))
	r := a.want(201, "POST", addresses, []obj{{"address": "10.0.0.1"}, {"address": "10.0.0.2"}})
	if got := r.field("id"); got != "1 2" {
		t.Errorf("ids %s", got)
	}
	bad := []obj{{"address": "10.0.0.3"}, {"address": "10.0.0.2"}, {"address": "10.0.0.3"}}
	a.wantBody(a.want(400, "POST", addresses, bad), `{"detail":"2 of 3 objects could not be created.","errors":[
		{"index":1,"errors":{"address":["Duplicate IP address found in global table: 10.0.0.2/32"]}},
		{"index":2,"errors":{"address":["Duplicate IP address found in global table: 10.0.0.3/32"]}}]}`)
	if n := len(a.srv.Addresses()); n != 2 {
		t.Errorf("%d addresses, want 2", n)
	}
	old := start(t, claimOpts("4.6", "10.0.0.0/24"))
	old.wantBody(old.want(400, "POST", addresses, []obj{{"address": "10.0.0.1"}, {"address": "x"}}),
		`[{},{"address":["Invalid IP address format: x"]}]`)
}

func TestBulkDelete(t *testing.T) {
	for version, status := range map[string]int{"4.4": 204, "4.6": 204, "4.7": 400} {
		a := start(t, claimOpts(version, "10.0.0.0/24"))
		a.want(201, "POST", claims, []obj{{}, {}, {}})
		a.want(204, "DELETE", addresses, []obj{{"id": 1}, {"id": 2}})
		r := a.want(status, "DELETE", addresses, []obj{{"id": 3}, {"id": 1}})
		left := 1
		if status == 204 {
			left = 0
		} else {
			a.wantBody(r, `{"detail":"1 of 2 objects could not be found.","errors":[{"id":1,"errors":{"id":["Object with ID 1 could not be found"]}}]}`)
		}
		if n := len(a.srv.Addresses()); n != left {
			t.Errorf("%s: %d addresses left, want %d", version, n, left)
		}
	}
	a := start(t, claimOpts("", "10.0.0.0/24"))
	a.wantBody(a.want(400, "DELETE", addresses, nil), `{"detail":"Expected a list of objects, but no data was submitted."}`)
	a.want(400, "DELETE", addresses, obj{"id": 1})
	a.want(400, "DELETE", addresses, []obj{{}})
}

func TestBulkPatch(t *testing.T) {
	a := start(t, claimOpts("", "10.0.0.0/24"))
	a.want(201, "POST", claims, []obj{{}, {}})
	r := a.want(200, "PATCH", addresses, []obj{{"id": 1, "description": "one"}, {"id": 2, "description": "two"}})
	if got := r.field("description"); got != "one two" {
		t.Errorf("descriptions %s", got)
	}
	a.want(400, "PATCH", addresses, []obj{{"id": 1, "description": "x"}, {"id": 2, "status": "x"}})
	a.want(400, "PATCH", addresses, []obj{{"id": 1, "description": "x"}, {"id": 99}})
	a.want(400, "PATCH", addresses, []obj{{"id": 1, "description": "x"}, {"id": 1, "description": "y"}})
	if got := a.get(addresses + "1/").obj()["description"]; got != "one" {
		t.Errorf("description %v: part of a bad list was stored", got)
	}
}

// The list URL takes no lock between validation and commit: two bulk changes
// at a time can give two records one unique value.
func TestBulkPatchRace(t *testing.T) {
	a := start(t, claimOpts("", "10.0.0.0/24"))
	a.want(201, "POST", claims, []obj{{}, {}})
	a.srv.Inject(netboxtest.Fault{Method: "PATCH", GapLatency: netboxtest.Duration(200 * time.Millisecond)})
	status := race(a, 2, func(i int) (string, string, any) {
		return "PATCH", addresses, []obj{{"id": i + 1, "custom_fields": obj{"k8s_lb_claim": "same"}}}
	})
	if status[200] != 2 || len(a.get(addresses+"?cf_k8s_lb_claim=same").list()) != 2 {
		t.Errorf("status %v, want two 200 and two records", status)
	}
	a.srv.ClearFaults()
	a.want(201, "POST", claims, []obj{{}, {}})
	status = race(a, 2, func(i int) (string, string, any) {
		return "PATCH", addresses + itoa(int64(i)+3) + "/", obj{"custom_fields": obj{"k8s_lb_claim": "single"}}
	})
	if status[200] != 1 || status[400] != 1 {
		t.Errorf("single changes: %v, want one 200 and one 400", status)
	}
}

func TestDeleteInUse(t *testing.T) {
	a := start(t, netboxtest.Options{Seed: fullSeed()})
	r := a.want(http.StatusConflict, "DELETE", "/api/ipam/vrfs/1/", nil)
	if !strings.Contains(r.text, "Unable to delete object. 2 dependent objects were found: 10.0.0.0/24 (1)") {
		t.Errorf("body %s", r.text)
	}
	a.want(http.StatusConflict, "DELETE", "/api/dcim/sites/1/", nil)
	a.want(204, "DELETE", "/api/dcim/devices/1/", nil) // its interface and addresses go along
	if got := len(a.get(addresses + "?parent=192.0.2.0/24").list()); got != 1 {
		t.Errorf("%d addresses of the machines left, want the one of the virtual machine", got)
	}
	if got := len(a.get("/api/dcim/interfaces/").list()); got != 0 {
		t.Errorf("%d interfaces left", got)
	}
}

// The inventory can be made over the API, with the calls that a real NetBox
// takes too.
func TestInventoryOverAPI(t *testing.T) {
	a := start(t, netboxtest.Options{})
	named := func(path, name string, more obj) int64 {
		b := obj{"name": name, "slug": name}
		maps.Copy(b, more)
		return a.create("/api/"+path+"/", b)
	}
	region := named("dcim/regions", "europe", nil)
	site := named("dcim/sites", "dc1", obj{"region": region})
	maker := named("dcim/manufacturers", "dell", nil)
	typ := named("dcim/device-types", "r640", obj{"manufacturer": maker, "model": "R640"})
	role := named("dcim/device-roles", "worker", obj{"color": "ff0000"})
	loc := named("dcim/locations", "hall1", obj{"site": site})
	rack := a.create("/api/dcim/racks/", obj{"name": "r1", "site": site, "location": loc})
	dev := a.create("/api/dcim/devices/", obj{
		"name": "node1", "device_type": obj{"slug": "r640"}, "role": role, "site": obj{"slug": "dc1"}, "location": loc, "rack": rack, "serial": "S1",
	})
	_ = typ
	port := a.create("/api/dcim/interfaces/", obj{"device": dev, "name": "eth0", "type": "1000base-t"})
	ip := a.create(addresses, obj{"address": "192.0.2.11/24", "assigned_object_type": "dcim.interface", "assigned_object_id": port})
	other := a.create(addresses, obj{"address": "192.0.2.12/24"})
	path := "/api/dcim/devices/" + itoa(dev) + "/"

	a.wantBody(a.want(400, "PATCH", path, obj{"primary_ip4": other}), `{"primary_ip4":["The specified IP address (192.0.2.12/24) is not assigned to this device."]}`)
	a.want(400, "PATCH", path, obj{"primary_ip6": ip})
	r := a.want(200, "PATCH", path, obj{"primary_ip4": ip}).obj()
	if r["primary_ip4"].(obj)["address"] != "192.0.2.11/24" || r["primary_ip"].(obj)["id"] != float64(ip) {
		t.Errorf("primary_ip4 %v, primary_ip %v", r["primary_ip4"], r["primary_ip"])
	}
	if _, has := r["primary_ip4"].(obj)["nat_outside"]; !has {
		t.Error("the nested primary address has no nat_outside")
	}
	if _, has := r["site"].(obj)["region"]; has {
		t.Error("the nested site has a region, which NetBox leaves out")
	}
	if got := a.get("/api/dcim/sites/" + itoa(site) + "/").obj()["region"].(obj)["slug"]; got != "europe" {
		t.Errorf("region %v", got)
	}
	a.want(400, "PATCH", addresses+itoa(ip)+"/", obj{"assigned_object_type": nil, "assigned_object_id": nil})
	a.want(400, "POST", "/api/dcim/devices/", obj{"name": "NODE1", "device_type": typ, "role": role, "site": site})
	a.want(400, "POST", addresses, obj{"address": "192.0.2.0/24", "assigned_object_type": "dcim.interface", "assigned_object_id": port})
	a.want(400, "POST", addresses, obj{"address": "192.0.2.255/24", "assigned_object_type": "dcim.interface", "assigned_object_id": port})
	a.want(201, "POST", "/api/dcim/devices/", obj{"device_type": typ, "role": role, "site": site}) // without a name
}

func TestChangeLog(t *testing.T) {
	a := start(t, claimOpts("", "10.0.0.0/24"))
	r := a.want(201, "POST", claims, claimOf("c/n/a/ipv4"))
	request, path := r.header.Get("X-Request-ID"), addresses+itoa(r.id())+"/"
	if got := a.get(addresses + "?created_by_request=" + request).field("id"); got != itoa(r.id()) {
		t.Errorf("created by the request: %q", got)
	}
	a.want(200, "PATCH", path, obj{"description": "x"})
	a.want(204, "DELETE", path, nil)
	l := a.get("/api/core/object-changes/?changed_object_type=ipam.ipaddress&changed_object_id=" + itoa(r.id()))
	var got []string
	for _, e := range l.list() {
		got = append(got, fmt.Sprint(e.(obj)["action"].(obj)["value"], " by ", e.(obj)["user_name"]))
	}
	if strings.Join(got, ", ") != "delete by admin, update by admin, create by admin" {
		t.Errorf("changes %v", got)
	}
	a.want(501, "GET", "/api/core/object-changes/?time_after=x", nil)
}
