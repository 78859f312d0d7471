// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	ipamnetbox "github.com/bm-ccm/bm-ccm/pkg/ipam/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox/provision"
	"github.com/bm-ccm/bm-ccm/pkg/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/netboxtest"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/schema"
)

func TestInitInMemory(t *testing.T) {
	server := httptest.NewServer(netboxtest.New(netboxtest.Options{}))
	defer server.Close()
	checkInit(t, Target{URL: server.URL, Token: netboxtest.DefaultToken})
}

// checkInit sets up two clusters as an administrator does, twice, and looks at
// what their tokens may do; the same for the real NetBox and the one in memory.
func checkInit(t *testing.T, admin Target) {
	t.Helper()
	mustDo(t, admin, http.MethodPost, "/api/tenancy/tenants/", object{"name": "Stock", "slug": "stock"})
	one := schema.Access{Cluster: "one", ReservedTenants: []string{"stock"}}
	user := initTwice(t, admin, one)
	tokenOne, tokenTwo := tokenFor(t, admin, user), tokenFor(t, admin, initTwice(t, admin, schema.Access{Cluster: "two"}))
	scene := newScene(t, admin)

	lines := scene.inspect(t, "one", tokenOne)
	for _, l := range lines {
		if l.Result != provision.ResultOK {
			t.Errorf("after init: %s %s: %s", l.Result, l.What, l.Detail)
		}
	}
	wantLine(t, lines, provision.ResultOK, "foreign records", "of cluster two")
	wantLine(t, lines, provision.ResultOK, "own records", "198.18.1.1")
	wantLine(t, lines, provision.ResultOK, "pool stage", "ipv4: 254 addresses, 5 used, 249 free")

	lines = scene.inspect(t, "one", tokenTwo)
	wantLine(t, lines, provision.ResultFail, "fence", "it is not a token for cluster one")
	wantLine(t, lines, provision.ResultFail, "foreign records", "of cluster two: it is that cluster's token")
	wantLine(t, lines, provision.ResultFail, "own records", "it is another cluster's token")
	wantLine(t, scene.inspect(t, "one", admin.Token), provision.ResultFail, "foreign records", "or one for all")
	wantLine(t, scene.inspect(t, "one", "nbt_abcdefghijkl.0123456789012345678901234567890123456789"), provision.ResultFail, "token", "netbox.tokenFile")

	scene.checkStock(t, tokenOne)
}

// initTwice wants the second time to change nothing.
func initTwice(t *testing.T, admin Target, access schema.Access) int64 {
	t.Helper()
	var user int64
	for turn := range 2 {
		var err error
		user, err = provision.Init(t.Context(), productClient(t, admin, admin.Token), access.Plan(), func(s provision.Step) {
			if s.Outcome == provision.StepWrong || turn > 0 && s.Outcome != provision.StepExists {
				t.Errorf("turn %d: %s %s: %s", turn+1, s.Outcome, s.What, s.Detail)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return user
}

func productClient(t *testing.T, at Target, token string) *netbox.Client {
	t.Helper()
	o := netbox.Options{URL: at.URL, Token: token}
	if at.Client != nil {
		o.Transport = at.Client.Transport
	}
	c, err := netbox.NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// tokenFor makes a token and wants NetBox to know it afterwards, and no other.
func tokenFor(t *testing.T, admin Target, user int64) string {
	t.Helper()
	c := productClient(t, admin, admin.Token)
	token, err := provision.NewToken(t.Context(), c, user)
	if err != nil {
		t.Fatal(err)
	}
	for which, want := range map[string]bool{token: true, "": true, admin.Token: false} {
		if has, err := provision.HasToken(t.Context(), c, user, which); has != want || err != nil {
			t.Errorf("HasToken is %t (%v), want %t", has, err, want)
		}
	}
	return token
}

// scene is a prefix with addresses of two clusters and of a stock.
type scene struct {
	admin Target
	ids   map[string]int64
}

func newScene(t *testing.T, admin Target) *scene {
	t.Helper()
	s := &scene{admin: admin, ids: map[string]int64{}}
	mustDo(t, admin, http.MethodPost, "/api/ipam/prefixes/", object{"prefix": "198.18.1.0/24"})
	for host, fields := range map[int]object{
		1: {"custom_fields": object{"k8s_cluster": "one", "k8s_lb_claim": "one/a/b/ipv4"}},
		2: {"custom_fields": object{"k8s_cluster": "two", "k8s_lb_claim": "two/a/b/ipv4"}},
		3: {"description": "a router"},
		4: {"status": "reserved", "tenant": object{"slug": "stock"}},
		5: {"status": "reserved", "tenant": object{"slug": "stock"}, "custom_fields": object{"k8s_cluster": "two"}},
	} {
		address := fmt.Sprintf("198.18.1.%d/32", host)
		fields["address"] = address
		s.ids[address] = mustDo(t, admin, http.MethodPost, "/api/ipam/ip-addresses/", fields).id()
	}
	return s
}

func mustDo(t *testing.T, at Target, method, path string, body any) object {
	t.Helper()
	var out object
	if err := at.Do(t.Context(), method, path, body, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// inspect looks at NetBox with a token, and wants it to be untouched.
func (s *scene) inspect(t *testing.T, cluster, token string) []provision.Finding {
	t.Helper()
	const list = "/api/ipam/ip-addresses/?limit=1000&ordering=id&fields=id,address,status,custom_fields,last_updated"
	before := fmt.Sprint(mustDo(t, s.admin, http.MethodGet, list, nil))
	pools := []ipam.Pool{{Name: "stage", Spec: v1alpha1.AddressPoolSpec{
		NetBox: &v1alpha1.NetBoxSource{Prefixes: []v1alpha1.NetBoxPrefix{{Prefix: "198.18.1.0/24"}}},
	}}}
	c := productClient(t, s.admin, token)
	lines := provision.Check(t.Context(), c, ipamnetbox.NewAllocator(c, cluster, "", ipamnetbox.Record{}), provision.Wanted{Cluster: cluster, AddressPools: pools})
	if after := fmt.Sprint(mustDo(t, s.admin, http.MethodGet, list, nil)); after != before {
		t.Errorf("Check changed the addresses from\n%s\nto\n%s", before, after)
	}
	return lines
}

func wantLine(t *testing.T, lines []provision.Finding, result provision.Result, what, text string) {
	t.Helper()
	for _, l := range lines {
		if l.Result == result && l.What == what && strings.Contains(l.Detail, text) {
			return
		}
	}
	t.Errorf("no line %q %q %q in %v", result, what, text, lines)
}

// checkStock takes an address of the stock and gives it back. What another
// cluster has of the stock, and what is not of it, cannot be had.
func (s *scene) checkStock(t *testing.T, token string) {
	t.Helper()
	fenced := s.admin
	fenced.Token = token
	change := func(address string, cluster any, status string) error {
		body := object{"status": status, "custom_fields": object{"k8s_cluster": cluster}}
		return fenced.Do(t.Context(), http.MethodPatch, pathOf("ipam/ip-addresses", s.ids[address]), body, nil)
	}
	for range 2 { // NetBox has no value at first, and a null afterwards
		if err := change("198.18.1.4/32", "one", "active"); err != nil {
			t.Errorf("taking an address of the stock: %v", err)
		}
		if err := change("198.18.1.4/32", nil, "reserved"); err != nil {
			t.Errorf("giving it back: %v", err)
		}
	}
	wantCode(t, "taking another cluster's address of the stock", change("198.18.1.5/32", "one", "active"), http.StatusNotFound)
	wantCode(t, "taking an address that is not of the stock", change("198.18.1.3/32", "one", "active"), http.StatusNotFound)
	wantCode(t, "giving one's own to another cluster", change("198.18.1.1/32", "two", "active"), http.StatusForbidden)
}
