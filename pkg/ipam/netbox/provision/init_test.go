// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package provision_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox/contracttest"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox/provision"
	"github.com/bm-ccm/bm-ccm/pkg/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/netboxtest"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/schema"
)

// bare runs a NetBox in memory with nothing in it but the seed.
func bare(t *testing.T, version string, seed *netboxtest.Seed) (*netboxtest.Server, string) {
	t.Helper()
	srv := netboxtest.New(netboxtest.Options{Version: version, Seed: seed})
	hs := httptest.NewServer(srv)
	t.Cleanup(func() {
		hs.Close()
		for _, v := range srv.Violations() {
			t.Errorf("a request that NetBox would not stand: %s", v)
		}
	})
	return srv, hs.URL
}

func clientWith(t *testing.T, url, token string) *netbox.Client {
	t.Helper()
	c, err := netbox.NewClient(netbox.Options{URL: url, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// initialize runs Init and returns the user and the steps as text.
func initialize(t *testing.T, url string, access schema.Access) (int64, []string) {
	t.Helper()
	var steps []string
	user, err := provision.Init(t.Context(), clientWith(t, url, netboxtest.DefaultToken), access.Plan(), func(s provision.Step) {
		steps = append(steps, strings.TrimSuffix(s.Outcome+" "+s.What+": "+s.Detail, ": "))
	})
	if err != nil {
		t.Fatal(err)
	}
	return user, steps
}

// fencedToken is a token of which a test says what it may do.
const fencedToken = "fenced0123456789abcdef0123456789abcdef01"

func writeToken(t *testing.T, token string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func wantAll(t *testing.T, steps []string, outcome string) {
	t.Helper()
	for _, s := range steps {
		if !strings.HasPrefix(s, outcome+" ") {
			t.Errorf("%q, want %q", s, outcome)
		}
	}
}

// TestInit makes everything in an empty NetBox of each version, then nothing
// more, and the token does for the whole contract.
func TestInit(t *testing.T) {
	for _, version := range netboxtest.Versions {
		t.Run(version, func(t *testing.T) {
			_, url := bare(t, version, &netboxtest.Seed{Tenants: []string{"stock"}})
			access := schema.Access{Cluster: "lab"}
			user, steps := initialize(t, url, access)
			wantAll(t, steps, provision.StepCreated)
			if n := len(schema.Fields()) + 1 + 3; len(steps) != n {
				t.Errorf("%d steps, want %d: %q", len(steps), n, steps)
			}
			again, steps := initialize(t, url, access)
			wantAll(t, steps, provision.StepExists)
			if again != user {
				t.Errorf("user %d, then %d", user, again)
			}
			token := makeToken(t, url, user)
			if v2 := strings.HasPrefix(token, "nbt_"); v2 == strings.HasPrefix(version, "4.4") {
				t.Errorf("token %q for NetBox %s", token, version)
			}
			contracttest.Run(t, contracttest.Target{URL: url, TokenFile: writeToken(t, token), AdminToken: netboxtest.DefaultToken, Cluster: "lab"})
		})
	}
}

// makeToken makes a token and wants it to be known afterwards.
func makeToken(t *testing.T, url string, user int64) string {
	t.Helper()
	c := clientWith(t, url, netboxtest.DefaultToken)
	has := func(token string) bool {
		got, err := provision.HasToken(t.Context(), c, user, token)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if has("") {
		t.Error("a token before there is one")
	}
	token, err := provision.NewToken(t.Context(), c, user)
	if err != nil {
		t.Fatal(err)
	}
	if !has("") || !has(token) || has(netboxtest.DefaultToken) {
		t.Errorf("any token: %t, this one: %t, the administrator's: %t", has(""), has(token), has(netboxtest.DefaultToken))
	}
	return token
}

// TestInitRepairs changes only what can do no harm.
func TestInitRepairs(t *testing.T) {
	field := func(name, kind, logic string, unique bool, types ...string) netboxtest.CustomField {
		return netboxtest.CustomField{Name: name, Type: kind, FilterLogic: logic, Unique: unique, ObjectTypes: types}
	}
	tests := []struct {
		name  string
		field netboxtest.CustomField
		addrs []netboxtest.SeedAddress
		want  string
	}{
		{"loose", field("k8s_cluster", "text", "loose", false), nil,
			"changed custom field k8s_cluster: filter logic is exact, was loose"},
		{"not unique", field("k8s_lb_claim", "text", "exact", false), nil,
			"changed custom field k8s_lb_claim: is unique"},
		{"unique would not be true", field("k8s_lb_claim", "text", "loose", false), []netboxtest.SeedAddress{
			{Address: "192.0.2.1/32", CustomFields: map[string]any{"k8s_lb_claim": "a"}},
			{Address: "192.0.2.2/32", CustomFields: map[string]any{"k8s_lb_claim": "a"}},
		}, `WRONG custom field k8s_lb_claim: it is not unique, and cannot become so while NetBox addresses 1 (192.0.2.1/32) and 2 (192.0.2.2/32) both hold "a": clear it on all but one, then run this again`},
		{"for devices", field("k8s_cluster", "text", "exact", false, "dcim.device"), nil,
			"changed custom field k8s_cluster: is for ipam.ipaddress too"},
		{"another type", field("k8s_cluster", "integer", "loose", false), nil,
			"WRONG custom field k8s_cluster: NetBox custom field k8s_cluster has type integer: it must be text; NetBox changes no type, so rename or delete that field and create it anew"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, url := bare(t, "", &netboxtest.Seed{CustomFields: []netboxtest.CustomField{tt.field}, Addrs: tt.addrs})
			_, steps := initialize(t, url, schema.Access{Cluster: "lab"})
			if text := strings.Join(steps, "\n"); !strings.Contains(text, tt.want+"\n") {
				t.Errorf("got\n%s\nwant a line\n%s", text, tt.want)
			}
			_, steps = initialize(t, url, schema.Access{Cluster: "lab"})
			if text := strings.Join(steps, "\n"); strings.Contains(text, "changed") || strings.Contains(text, "WRONG") != strings.HasPrefix(tt.want, "WRONG") {
				t.Errorf("the second time:\n%s", text)
			}
		})
	}
}

// TestInitAndPermissionsThatExist adds what is missing, and takes nothing away.
func TestInitAndPermissionsThatExist(t *testing.T) {
	tests := []struct {
		name        string
		permissions []netboxtest.Permission
		access      schema.Access
		want        string
	}{
		{"fewer types", []netboxtest.Permission{{Name: "bm-ccm-lab view", ObjectTypes: []string{"ipam.prefix", "ipam.vlan"}[:1], Actions: []string{"view"}}},
			schema.Access{}, `changed permission "bm-ccm-lab view": is for ipam.iprange, `},
		{"fewer actions", []netboxtest.Permission{{Name: "bm-ccm-lab addresses", ObjectTypes: []string{"ipam.ipaddress"}, Actions: []string{"add", "view"}, Constraints: map[string]any{"custom_field_data__k8s_cluster": "lab"}}},
			schema.Access{}, `changed permission "bm-ccm-lab addresses": allows change, delete too`},
		{"no fence", []netboxtest.Permission{{Name: "bm-ccm-lab addresses", ObjectTypes: []string{"ipam.ipaddress"}, Actions: []string{"add", "change", "delete"}}},
			schema.Access{}, `WRONG permission "bm-ccm-lab addresses": its constraints are null: make them [{"custom_field_data__k8s_cluster":"lab"}]`},
		{"another fence", []netboxtest.Permission{{Name: "bm-ccm-lab addresses", ObjectTypes: []string{"ipam.ipaddress"}, Actions: []string{"add"}, Constraints: map[string]any{"custom_field_data__k8s_cluster": "other"}}},
			schema.Access{}, `WRONG permission "bm-ccm-lab addresses": its constraints are {"custom_field_data__k8s_cluster":"other"}`},
		{"a view of less", []netboxtest.Permission{{Name: "bm-ccm-lab view", ObjectTypes: []string{"ipam.prefix"}, Actions: []string{"view"}, Constraints: map[string]any{"status": "active"}}},
			schema.Access{}, `WRONG permission "bm-ccm-lab view": its constraints are {"status":"active"}: make them null`},
		{"another tenant", []netboxtest.Permission{{Name: "bm-ccm-lab reserved", ObjectTypes: []string{"ipam.ipaddress"}, Actions: []string{"change"}, Constraints: []any{map[string]any{"status": "reserved", "tenant__slug": "old"}}}},
			schema.Access{ReservedTenants: []string{"stock"}}, `changed permission "bm-ccm-lab reserved": also for {"custom_field_data__k8s_cluster":null,"status":"reserved","tenant__slug":"stock"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			srv, url := bare(t, "", nil)
			if err := srv.AddToken(netboxtest.Token{User: "bm-ccm-lab", Key: fencedToken, Permissions: tt.permissions}); err != nil {
				t.Fatal(err)
			}
			tt.access.Cluster = "lab"
			_, steps := initialize(t, url, tt.access)
			if text := strings.Join(steps, "\n"); !strings.Contains(text, tt.want) {
				t.Errorf("got\n%s\nwant\n%s", text, tt.want)
			}
			_, steps = initialize(t, url, tt.access)
			if text := strings.Join(steps, "\n"); strings.Contains(text, "changed") {
				t.Errorf("the second time:\n%s", text)
			}
		})
	}
}

// TestTokenWithoutPeppers: a NetBox that is not set up for version 2 gets
// version 1.
func TestTokenWithoutPeppers(t *testing.T) {
	srv, url := bare(t, "", nil)
	user, _ := initialize(t, url, schema.Access{Cluster: "lab"})
	srv.Inject(netboxtest.Fault{
		Method: "POST", Path: "tokens", Times: 1, Status: 400, Body: `{"__all__":["Unable to save v2 tokens: API_TOKEN_PEPPERS is not defined."]}`,
	})
	if token := makeToken(t, url, user); strings.HasPrefix(token, "nbt_") || len(token) != 40 {
		t.Errorf("token %q", token)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (r roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return r(req) }

// TestSmallPages: a NetBox whose MAX_PAGE_SIZE is small gives less than what
// was asked for, and says nothing.
func TestSmallPages(t *testing.T) {
	var addrs []netboxtest.SeedAddress
	for _, last := range []string{"1", "2", "3", "4", "5"} {
		addrs = append(addrs, netboxtest.SeedAddress{Address: "192.0.2." + last + "/32", CustomFields: map[string]any{"k8s_lb_claim": "claim" + last}})
	}
	addrs[4].CustomFields["k8s_lb_claim"] = "claim1"
	_, base := bare(t, "", &netboxtest.Seed{Addrs: addrs, CustomFields: []netboxtest.CustomField{{Name: "k8s_lb_claim"}}})
	small := roundTrip(func(req *http.Request) (*http.Response, error) {
		req = req.Clone(req.Context())
		query := req.URL.Query()
		if query.Has("limit") {
			query.Set("limit", "2")
		}
		req.URL.RawQuery = query.Encode()
		return http.DefaultTransport.RoundTrip(req)
	})
	c, err := netbox.NewClient(netbox.Options{URL: base, Token: netboxtest.DefaultToken, Transport: small})
	if err != nil {
		t.Fatal(err)
	}
	var wrong []string
	for range 2 { // the second time through existing permissions, of which there are three
		wrong = nil
		if _, err := provision.Init(t.Context(), c, schema.Access{Cluster: "lab"}.Plan(), func(s provision.Step) {
			if s.Outcome == provision.StepWrong {
				wrong = append(wrong, s.Detail)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	if len(wrong) != 1 || !strings.Contains(wrong[0], `1 (192.0.2.1/32) and 5 (192.0.2.5/32) both hold "claim1"`) {
		t.Errorf("wrong: %q", wrong)
	}
}
