// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest_test

import (
	"testing"
	"time"

	"github.com/bm-ccm/bm-ccm/pkg/netbox/netboxtest"
)

func TestAuthorization(t *testing.T) {
	const none = "Authentication credentials were not provided."
	tests := []struct {
		name, version, header string
		status                int
		detail                string
	}{
		{name: "none", header: "", status: 403, detail: none},
		{name: "unknown keyword", header: "Basic abc", status: 403, detail: none},
		{name: "v1", header: "Token " + netboxtest.DefaultToken, status: 200},
		{name: "v1 as Bearer", header: "bearer " + netboxtest.DefaultToken, status: 200},
		{name: "v1 as Bearer before 4.5", version: "4.4", header: "Bearer " + netboxtest.DefaultToken, status: 403, detail: none},
		{name: "v2", header: "Bearer nbt_key.secret", status: 200},
		{name: "v2 as Token", header: "Token nbt_key.secret", status: 200},
		{name: "bad v1", header: "Token x", status: 403, detail: "Invalid v1 token"},
		{name: "bad v2", header: "Bearer nbt_key.other", status: 403, detail: "Invalid v2 token"},
		{name: "bad before 4.5", version: "4.4", header: "Token x", status: 403, detail: "Invalid token"},
		{name: "v2 without key", header: "Bearer nbt_x", status: 403, detail: "Invalid authorization header: Could not parse key from v2 token. Did you mean to use 'Token' instead of 'Bearer'?"},
		{name: "three words", header: "Token a b", status: 403, detail: `Invalid authorization header: Must be in the form "Bearer <key>.<token>" or "Token <token>"`},
		{name: "disabled", header: "Token disabled", status: 403, detail: "Token disabled"},
		{name: "expired", header: "Token expired", status: 403, detail: "Token expired"},
		{name: "other source", header: "Token elsewhere", status: 403, detail: "Source IP 127.0.0.1 is not permitted to authenticate using this token."},
		{name: "right source", header: "Token here", status: 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := start(t, netboxtest.Options{Version: tt.version, Tokens: authTokens(tt.version)}).as(tt.header)
			r := a.want(tt.status, "GET", "/api/status/", nil)
			if got := r.obj()["detail"]; tt.detail != "" && got != tt.detail {
				t.Errorf("detail %q, want %q", got, tt.detail)
			}
		})
	}
}

func authTokens(version string) []netboxtest.Token {
	tokens := []netboxtest.Token{
		{Key: netboxtest.DefaultToken, Superuser: true},
		{Key: "disabled", Disabled: true},
		{Key: "expired", Expires: time.Now().Add(-time.Hour)},
		{Key: "elsewhere", AllowedIPs: []string{"10.0.0.0/8"}},
		{Key: "here", AllowedIPs: []string{"10.0.0.0/8", "127.0.0.0/8"}},
	}
	if version != "4.4" {
		tokens = append(tokens, netboxtest.Token{Key: "nbt_key.secret", Superuser: true})
	}
	return tokens
}

func TestV2TokensNeed45(t *testing.T) {
	o := netboxtest.Options{Version: "4.4", Tokens: []netboxtest.Token{{Key: "nbt_a.b"}}}
	if o.Validate() == nil {
		t.Error("a v2 token was accepted on 4.4")
	}
}

func TestReadOnlyToken(t *testing.T) {
	o := claimOpts("", "10.0.0.0/24")
	o.Seed.Tokens = []netboxtest.Token{{Key: "r", Superuser: true, ReadOnly: true}}
	a := start(t, o).as("Token r")
	a.get("/api/ipam/prefixes/1/")
	a.wantBody(a.want(403, "POST", claims, obj{}), `{"detail":"You do not have permission to perform this action."}`)
}

// A constraint on the cluster's custom field fences a token to its own
// records, as it was measured on 4.4, 4.6 and 4.7.
func TestFence(t *testing.T) {
	for _, version := range []string{"4.4", "4.6", "4.7"} {
		t.Run(version, func(t *testing.T) {
			o := claimOpts(version, "10.0.0.0/24")
			o.Seed.Tokens = []netboxtest.Token{
				{Key: "admin", Superuser: true},
				{User: "c1", Key: "c1", Permissions: netboxtest.FencedPermissions("c1")},
			}
			testFence(t, start(t, o).as("Token admin"))
		})
	}
}

func testFence(t *testing.T, admin *api) {
	a := admin.as("Token c1")
	own := a.create(claims, claimOf("c1/ns/a/ipv4"))
	foreign := admin.create(claims, claimOf("c2/ns/a/ipv4"))
	path := func(id int64) string { return "/api/ipam/ip-addresses/" + itoa(id) + "/" }

	const denied = `{"detail":"You do not have permission to perform this action."}`
	a.get(path(foreign)) // seen
	a.wantBody(a.want(403, "POST", claims, claimOf("c2/ns/b/ipv4")), denied)
	a.wantBody(a.want(403, "POST", claims, []obj{claimOf("c1/ns/b/ipv4"), claimOf("c2/ns/b/ipv4")}), denied)
	a.wantBody(a.want(403, "POST", "/api/ipam/ip-addresses/", obj{"address": "10.0.0.99"}), denied)
	a.wantBody(a.want(403, "PATCH", path(own), obj{"custom_fields": obj{"k8s_cluster": "c2"}}), denied)
	a.wantBody(a.want(403, "POST", "/api/ipam/prefixes/", obj{"prefix": "10.9.0.0/24"}), denied)
	a.wantBody(a.want(403, "GET", "/api/users/tokens/", nil), denied)
	a.want(404, "PATCH", path(foreign), obj{"description": "mine"})
	a.want(404, "DELETE", path(foreign), nil)
	if n := len(admin.srv.Addresses()); n != 2 {
		t.Errorf("%d addresses, want 2: refused writes were not undone", n)
	}
	if got := admin.get(path(own)).obj()["custom_fields"].(obj)["k8s_cluster"]; got != "c1" {
		t.Errorf("own record now belongs to %v", got)
	}
	a.want(200, "PATCH", path(own), obj{"description": "ok"})
	a.want(204, "DELETE", path(own), nil)
}

func TestViewConstraint(t *testing.T) {
	o := claimOpts("", "10.0.0.0/24")
	o.Seed.Addrs = []netboxtest.SeedAddress{
		{Address: "10.0.0.1/24", Status: "reserved", Tags: []string{"k8s"}}, {Address: "10.0.0.2/24"}, {Address: "10.0.0.3/24"},
	}
	view := func(c any) netboxtest.Token {
		return netboxtest.Token{Key: "v", User: "v", Permissions: []netboxtest.Permission{
			{ObjectTypes: []string{"ipam.ipaddress"}, Actions: []string{"view"}, Constraints: c},
		}}
	}
	tests := []struct {
		name        string
		constraints any
		want        string
	}{
		{"none", nil, "1 2 3"},
		{"field", map[string]any{"status": "reserved"}, "1"},
		{"tag", map[string]any{"tags__slug": "k8s"}, "1"},
		{"list is an or", []any{map[string]any{"status": "reserved"}, map[string]any{"id__in": []any{3}}}, "1 3"},
		{"object is an and", map[string]any{"status": "active", "id": 2}, "2"},
		{"through a reference", map[string]any{"vrf__name": "blue"}, ""},
		{"null", map[string]any{"vrf__isnull": true}, "1 2 3"},
		{"no match", map[string]any{"custom_field_data__k8s_cluster": "c1"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := o
			o.Tokens = []netboxtest.Token{view(tt.constraints)}
			a := start(t, o).as("Token v")
			if got := a.get("/api/ipam/ip-addresses/?ordering=id").field("id"); got != tt.want {
				t.Errorf("sees %q, want %q", got, tt.want)
			}
		})
	}
	o.Tokens = []netboxtest.Token{view(map[string]any{"nope": 1})}
	if o.Validate() == nil {
		t.Error("a constraint on a field that is not there was accepted")
	}
}

func TestRevoke(t *testing.T) {
	o := claimOpts("", "10.0.0.0/24")
	o.Seed.Tokens = []netboxtest.Token{
		{Key: "c1", User: "c1", Permissions: netboxtest.FencedPermissions("c1")}, {Key: "other", User: "c1"},
	}
	a := start(t, o)
	a.as("Token c1").get("/api/ipam/prefixes/1/")
	a.srv.RevokeToken("c1")
	a.wantBody(a.as("Token c1").want(403, "GET", "/api/ipam/prefixes/1/", nil), `{"detail":"Invalid v1 token"}`)
	a.as("Token other").get("/api/ipam/prefixes/1/")
	a.srv.RevokePermissions("c1")
	a.as("Token other").want(403, "GET", "/api/ipam/prefixes/1/", nil)
	a.as("Token other").get("/api/status/")
}

// Users, tokens and permissions can be made over the API, as `netbox init`
// does.
func TestUsersOverAPI(t *testing.T) {
	a := start(t, claimOpts("", "10.0.0.0/24"))
	u := a.create("/api/users/users/", obj{"username": "c1", "password": "not-used"})
	for _, p := range netboxtest.FencedPermissions("c1") {
		a.create("/api/users/permissions/", obj{
			"name": p.Name, "object_types": p.ObjectTypes, "actions": p.Actions, "constraints": p.Constraints, "users": []int64{u},
		})
	}
	r := a.want(201, "POST", "/api/users/tokens/", obj{"user": u, "description": "bm-ccm"})
	key, _ := r.obj()["token"].(string)
	if _, has := a.get("/api/users/tokens/" + itoa(r.id()) + "/").obj()["token"]; has {
		t.Error("the token is shown again after its creation")
	}
	c := a.as("Bearer " + key)
	c.create(claims, claimOf("c1/ns/a/ipv4"))
	c.want(403, "POST", claims, claimOf("c2/ns/a/ipv4"))
	a.want(400, "POST", "/api/users/permissions/", obj{
		"name": "bad", "object_types": []string{"ipam.ipaddress"}, "actions": []string{"view"}, "constraints": obj{"nope": 1},
	})
	a.want(204, "DELETE", "/api/users/users/"+itoa(u)+"/", nil)
	c.want(403, "GET", "/api/status/", nil)
}
