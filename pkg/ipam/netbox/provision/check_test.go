// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package provision_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox/provision"
	client "github.com/bm-ccm/bm-ccm/pkg/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/netboxtest"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/schema"
)

// setup is a NetBox that was set up for cluster lab, and what Inspect says.
type setup struct {
	srv   *netboxtest.Server
	url   string
	token string
	want  provision.Wanted
}

// setUp runs Init in a NetBox that has a prefix, an address of cluster other
// and one of a device.
func setUp(t *testing.T, version string) *setup {
	t.Helper()
	srv, url := bare(t, version, &netboxtest.Seed{Tenants: []string{"stock"}, Tags: []string{"k8s"}, Prefixes: []netboxtest.SeedPrefix{{Prefix: "203.0.113.0/24"}}})
	user, _ := initialize(t, url, schema.Access{Cluster: "lab", ReservedTenants: []string{"stock"}})
	x := &setup{srv: srv, url: url, token: makeToken(t, url, user), want: provision.Wanted{Cluster: "lab", AddressPools: []ipam.Pool{poolOf("public", v1alpha1.NetBoxPrefix{Prefix: "203.0.113.0/24"})}}}
	x.add(t, "198.51.100.7/32", "", "")
	x.add(t, "198.51.100.8/32", "other", "")
	return x
}

// add puts an address into NetBox without asking it.
func (x *setup) add(t *testing.T, address, cluster, status string) {
	t.Helper()
	row := map[string]any{"address": address}
	if cluster != "" {
		row["custom_fields"] = map[string]any{"k8s_cluster": cluster, "k8s_lb_claim": cluster + "/a/" + address + "/ipv4"}
	}
	if status != "" {
		row["status"], row["tenant"] = status, map[string]any{"slug": "stock"}
	}
	if _, err := x.srv.WriteBehindBack(row); err != nil {
		t.Fatal(err)
	}
}

// check returns the findings, and wants NetBox to be as it was.
func (x *setup) check(t *testing.T) []provision.Finding {
	t.Helper()
	before := x.srv.Addresses()
	c := clientWith(t, x.url, x.token)
	lines := provision.Check(t.Context(), c, netbox.NewAllocator(c, "lab", "", netbox.Record{}), x.want)
	if diff := cmp.Diff(before, x.srv.Addresses()); diff != "" {
		t.Errorf("Check changed NetBox:\n%s", diff)
	}
	return lines
}

// wantFinding wants a line of this result, subject and text.
func wantFinding(t *testing.T, lines []provision.Finding, result provision.Result, what, text string) {
	t.Helper()
	if !slices.ContainsFunc(lines, func(l provision.Finding) bool {
		return l.Result == result && l.What == what && strings.Contains(l.Detail, text)
	}) {
		t.Errorf("no line %q %q %q in\n%s", result, what, text, asText(lines))
	}
}

func asText(lines []provision.Finding) string {
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%-4s %s: %s\n", l.Result, l.What, l.Detail)
	}
	return b.String()
}

// TestCheckAfterInit finds nothing wrong, in each version.
func TestCheckAfterInit(t *testing.T) {
	for _, version := range netboxtest.Versions {
		t.Run(version, func(t *testing.T) {
			x := setUp(t, version)
			x.add(t, "203.0.113.5/32", "lab", "")
			lines := x.check(t)
			for _, l := range lines {
				if l.Result != provision.ResultOK && (l.What != "fence" || version != "4.4.10") {
					t.Errorf("%s %s: %s", l.Result, l.What, l.Detail)
				}
			}
			wantFinding(t, lines, provision.ResultOK, "version", version)
			wantFinding(t, lines, provision.ResultOK, "foreign records", "(198.51.100.8) of cluster other, NetBox address 1 (198.51.100.7) of no cluster")
			wantFinding(t, lines, provision.ResultOK, "own records", "(203.0.113.5)")
			wantFinding(t, lines, provision.ResultOK, "pool public", "ipv4: 254 addresses, 1 used, 253 free")
			if version != "4.4.10" {
				wantFinding(t, lines, provision.ResultOK, "fence", `user bm-ccm-lab may add, change and delete addresses with {"custom_field_data__k8s_cluster":"lab"}`)
			}
		})
	}
}

func TestCheckNamesWhatIsWrong(t *testing.T) {
	grant := func(x *setup, t *testing.T, permissions ...netboxtest.Permission) {
		t.Helper()
		x.token = fencedToken
		if err := x.srv.AddToken(netboxtest.Token{User: "u", Key: fencedToken, Permissions: permissions}); err != nil {
			t.Fatal(err)
		}
	}
	all := []string{"add", "change", "delete"}
	inlinePool := ipam.Pool{Name: "inline", Spec: v1alpha1.AddressPoolSpec{Addresses: []string{"203.0.113.200-203.0.113.210"}}}
	tests := []struct {
		name   string
		spoil  func(*setup, *testing.T)
		result provision.Result
		what   string
		text   string
	}{
		{"wrong token", func(x *setup, _ *testing.T) { x.token = "nbt_abc.def" }, provision.ResultFail, "token", "put a valid one into netbox.tokenFile"},
		{"no NetBox", func(x *setup, _ *testing.T) { x.url = "http://127.0.0.1:1" }, provision.ResultFail, "NetBox", "nothing listens there"},
		{"unknown host", func(x *setup, _ *testing.T) { x.url = "http://netbox.invalid" }, provision.ResultFail, "NetBox", "host netbox.invalid"},
		{"no TLS there", func(x *setup, _ *testing.T) { x.url = strings.Replace(x.url, "http:", "https:", 1) }, provision.ResultFail, "NetBox", "speaks no TLS there"},
		{"another cluster's token", func(x *setup, t *testing.T) {
			user, _ := initialize(t, x.url, schema.Access{Cluster: "other"})
			x.token = makeToken(t, x.url, user)
		}, provision.ResultFail, "fence", "user bm-ccm-other may add only addresses with"},
		{"another cluster's token, by its records", func(x *setup, t *testing.T) {
			grant(x, t, netboxtest.FencedPermissions("other")...)
		}, provision.ResultFail, "foreign records", "of cluster other: it is that cluster's token, or one for all"},
		{"another cluster's token, by the records of one of many", func(x *setup, t *testing.T) {
			x.add(t, "198.51.100.9/32", "third", "")
			grant(x, t, netboxtest.FencedPermissions("third")...)
		}, provision.ResultFail, "foreign records", "of cluster third: it is that cluster's token"},
		{"no fence but for clusters", func(x *setup, t *testing.T) {
			p := netboxtest.FencedPermissions("lab")
			p[1].Constraints = []any{p[1].Constraints, map[string]any{"custom_field_data__k8s_cluster__isnull": true}}
			grant(x, t, p...)
		}, provision.ResultFail, "foreign records", "(198.51.100.7), which is not this cluster's"},
		{"a token that does not reach our records", func(x *setup, t *testing.T) {
			x.add(t, "203.0.113.5/32", "lab", "")
			grant(x, t, netboxtest.FencedPermissions("third")...)
		}, provision.ResultFail, "own records", "it is another cluster's token"},
		{"no fence", func(x *setup, t *testing.T) {
			p := netboxtest.FencedPermissions("lab")
			p[1].Constraints = nil
			p[0].ObjectTypes = append(p[0].ObjectTypes, "users.objectpermission")
			grant(x, t, p...)
		}, provision.ResultFail, "fence", "user u may add every address"},
		{"superuser", func(x *setup, _ *testing.T) { x.token = netboxtest.DefaultToken }, provision.ResultWarn, "fence", "as a superuser"},
		{"superuser, by the records", func(x *setup, _ *testing.T) { x.token = netboxtest.DefaultToken }, provision.ResultFail, "foreign records", "or one for all"},
		{"own permissions cannot be seen", func(x *setup, t *testing.T) {
			grant(x, t, netboxtest.FencedPermissions("lab")...)
		}, provision.ResultSkip, "fence", "may not view its own permissions"},
		{"read only", func(x *setup, t *testing.T) {
			x.token = fencedToken
			if err := x.srv.AddToken(netboxtest.Token{User: "u", Key: fencedToken, ReadOnly: true, Permissions: netboxtest.FencedPermissions("lab")}); err != nil {
				t.Fatal(err)
			}
		}, provision.ResultFail, "write rights", "may not add, change, delete addresses"},
		{"no delete", func(x *setup, t *testing.T) {
			p := netboxtest.FencedPermissions("lab")
			p[1].Actions = all[:2]
			grant(x, t, p...)
		}, provision.ResultFail, "write rights", "may not delete addresses"},
		{"no view of VRFs", func(x *setup, t *testing.T) {
			p := netboxtest.FencedPermissions("lab")
			p[0].ObjectTypes = slices.DeleteFunc(p[0].ObjectTypes, func(s string) bool { return s == "ipam.vrf" })
			grant(x, t, p...)
		}, provision.ResultFail, "view rights", "may not view ipam.vrf: grant view on it"},
		{"no view of racks", func(x *setup, t *testing.T) {
			p := netboxtest.FencedPermissions("lab")
			p[0].ObjectTypes = slices.DeleteFunc(p[0].ObjectTypes, func(s string) bool { return s == "dcim.rack" })
			grant(x, t, p...)
		}, provision.ResultWarn, "view rights", "may not view dcim.rack"},
		{"no tenant", func(x *setup, _ *testing.T) { x.want.Tenant = "nope" }, provision.ResultFail, "netbox.record.tenant", `no tenant with slug "nope"`},
		{"no tag", func(x *setup, _ *testing.T) { x.want.Tags = []string{"k8s", "nope"} }, provision.ResultFail, "netbox.record.tags[1]", `no tag with slug "nope"`},
		{"no field", func(x *setup, _ *testing.T) { x.want.CustomFields = []string{"owner"} }, provision.ResultFail, "netbox.record.customFields.owner", "no custom field owner"},
		{"no prefix", func(x *setup, _ *testing.T) {
			x.want.AddressPools = []ipam.Pool{poolOf("away", v1alpha1.NetBoxPrefix{Prefix: "192.0.2.0/24"})}
		}, provision.ResultFail, "pool away", "192.0.2.0/24"},
		{"no VRF", func(x *setup, _ *testing.T) {
			x.want.AddressPools = []ipam.Pool{poolOf("away", v1alpha1.NetBoxPrefix{Prefix: "203.0.113.0/24", VRF: "blue"})}
		}, provision.ResultFail, "pool away", "blue"},
		{"overlap in NetBox", func(x *setup, _ *testing.T) {
			x.want.AddressPools = append(x.want.AddressPools, poolOf("again", v1alpha1.NetBoxPrefix{Prefix: "203.0.113.0/24"}))
		}, provision.ResultWarn, "pools public and again", "both hold 203.0.113.0-203.0.113.255"},
		{"overlap in another VRF", func(x *setup, t *testing.T) {
			if err := x.srv.Apply(&netboxtest.Seed{VRFs: []netboxtest.SeedVRF{{Name: "blue"}}, Prefixes: []netboxtest.SeedPrefix{{Prefix: "203.0.113.64/26", VRF: "blue"}}}); err != nil {
				t.Fatal(err)
			}
			x.want.AddressPools = append(x.want.AddressPools, poolOf("blue", v1alpha1.NetBoxPrefix{Prefix: "203.0.113.64/26", VRF: "blue"}))
		}, provision.ResultFail, "pools public and blue", "both hold 203.0.113.64-203.0.113.127, in different VRFs"},
		{"prefix not in use", func(x *setup, t *testing.T) {
			if err := x.srv.Apply(&netboxtest.Seed{Prefixes: []netboxtest.SeedPrefix{{Prefix: "192.0.2.0/24", Status: "deprecated"}}}); err != nil {
				t.Fatal(err)
			}
			x.want.AddressPools = []ipam.Pool{poolOf("old", v1alpha1.NetBoxPrefix{Prefix: "192.0.2.0/24"})}
		}, provision.ResultFail, "pool old", "deprecated"},
		{"selector without a match", func(x *setup, _ *testing.T) {
			x.want.AddressPools = []ipam.Pool{{Name: "found", Spec: v1alpha1.AddressPoolSpec{NetBox: &v1alpha1.NetBoxSource{Selector: &v1alpha1.NetBoxSelector{Tag: "k8s"}}}}}
		}, provision.ResultFail, "pool found", "k8s"},
		{"stock", func(x *setup, t *testing.T) {
			x.add(t, "198.51.100.30/32", "", "reserved")
			x.want.AddressPools = []ipam.Pool{tenantPool}
		}, provision.ResultOK, "pool stock, right to take", "(198.51.100.30) of tenant stock"},
		{"stock that is used up", func(x *setup, t *testing.T) {
			x.add(t, "198.51.100.30/32", "other", "reserved")
			x.want.AddressPools = []ipam.Pool{tenantPool}
		}, provision.ResultSkip, "pool stock, right to take", "has no reserved address without a cluster"},
		{"stock of others", func(x *setup, t *testing.T) {
			x.add(t, "198.51.100.30/32", "", "reserved")
			x.want.AddressPools = []ipam.Pool{tenantPool}
			grant(x, t, netboxtest.FencedPermissions("lab")...)
		}, provision.ResultFail, "pool stock, right to take", "run bm-ccm netbox init --reserved-tenant stock"},
		{"overlap with a list", func(x *setup, _ *testing.T) { x.want.AddressPools = append(x.want.AddressPools, inlinePool) },
			provision.ResultFail, "pools public and inline", "both hold 203.0.113.200-203.0.113.210, and only one of them is in NetBox"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := setUp(t, "")
			tt.spoil(x, t)
			wantFinding(t, x.check(t), tt.result, tt.what, tt.text)
		})
	}
}

var tenantPool = ipam.Pool{Name: "stock", Spec: v1alpha1.AddressPoolSpec{NetBox: &v1alpha1.NetBoxSource{Reserved: &v1alpha1.NetBoxReserved{Tenant: "stock"}}}}

func poolOf(name string, prefixes ...v1alpha1.NetBoxPrefix) ipam.Pool {
	return ipam.Pool{Name: name, Spec: v1alpha1.AddressPoolSpec{NetBox: &v1alpha1.NetBoxSource{Prefixes: prefixes}}}
}

// TestReservedStock: addresses of the tenant can be taken and given back, and
// not taken from another cluster.
func TestReservedStock(t *testing.T) {
	x := setUp(t, "")
	x.add(t, "203.0.113.20/32", "", "reserved")
	x.add(t, "203.0.113.21/32", "other", "reserved")
	c := clientWith(t, x.url, x.token)
	patch := func(id int64, cluster any, status string) error {
		return c.Do(t.Context(), client.Request{
			Doing: "changing an address", Method: http.MethodPatch, Path: client.PathOf("ipam/ip-addresses/", id),
			Body: map[string]any{"status": status, "custom_fields": map[string]any{"k8s_cluster": cluster}},
		}, nil)
	}
	ids := map[string]int64{}
	for _, a := range x.srv.Addresses() {
		ids[a.Address] = a.ID
	}
	if err := patch(ids["203.0.113.20/32"], "lab", "active"); err != nil {
		t.Errorf("taking one: %v", err)
	}
	if err := patch(ids["203.0.113.20/32"], nil, "reserved"); err != nil {
		t.Errorf("giving it back: %v", err)
	}
	for _, address := range []string{"203.0.113.21/32", "198.51.100.7/32"} {
		if err := patch(ids[address], "lab", "active"); err == nil {
			t.Errorf("took %s, which is not of the stock or another cluster's", address)
		}
	}
}
