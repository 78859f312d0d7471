// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox/schema"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/netboxtest"
)

// inspected is a NetBox that was set up for cluster lab, and what Inspect says.
type inspected struct {
	srv    *netboxtest.Server
	url    string
	token  string
	record netbox.Record
	pools  []ipam.Pool
}

// setUp runs Init in a NetBox that has a prefix, an address of cluster other
// and one of a device.
func setUp(t *testing.T, version string) *inspected {
	t.Helper()
	srv, url := bare(t, version, &netboxtest.Seed{Tenants: []string{"stock"}, Tags: []string{"k8s"}, Prefixes: []netboxtest.SeedPrefix{{Prefix: "203.0.113.0/24"}}})
	user, _ := initialize(t, url, schema.Access{Cluster: "lab", ReservedTenants: []string{"stock"}})
	x := &inspected{srv: srv, url: url, token: makeToken(t, url, user), pools: []ipam.Pool{pool}}
	x.add(t, "198.51.100.7/32", "", "")
	x.add(t, "198.51.100.8/32", "other", "")
	return x
}

// add puts an address into NetBox without asking it.
func (x *inspected) add(t *testing.T, address, cluster, status string) {
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

// inspect returns the lines, and wants NetBox to be as it was.
func (x *inspected) inspect(t *testing.T) []netbox.Line {
	t.Helper()
	before := x.srv.Addresses()
	lines := netbox.NewAllocator(clientWith(t, x.url, x.token), "lab", "", x.record).Inspect(t.Context(), x.pools)
	if diff := cmp.Diff(before, x.srv.Addresses()); diff != "" {
		t.Errorf("Inspect changed NetBox:\n%s", diff)
	}
	return lines
}

// wantLine wants a line of this result, subject and text.
func wantLine(t *testing.T, lines []netbox.Line, result netbox.Result, what, text string) {
	t.Helper()
	if !slices.ContainsFunc(lines, func(l netbox.Line) bool {
		return l.Result == result && l.What == what && strings.Contains(l.Detail, text)
	}) {
		t.Errorf("no line %q %q %q in\n%s", result, what, text, asText(lines))
	}
}

func asText(lines []netbox.Line) string {
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%-4s %s: %s\n", l.Result, l.What, l.Detail)
	}
	return b.String()
}

// TestInspectAfterInit finds nothing wrong, in each version.
func TestInspectAfterInit(t *testing.T) {
	for _, version := range netboxtest.Versions {
		t.Run(version, func(t *testing.T) {
			x := setUp(t, version)
			x.add(t, "203.0.113.5/32", "lab", "")
			lines := x.inspect(t)
			for _, l := range lines {
				if l.Result != netbox.ResultOK && (l.What != "fence" || version != "4.4.10") {
					t.Errorf("%s %s: %s", l.Result, l.What, l.Detail)
				}
			}
			wantLine(t, lines, netbox.ResultOK, "version", version)
			wantLine(t, lines, netbox.ResultOK, "foreign records", "(198.51.100.8) of cluster other, NetBox address 1 (198.51.100.7) of no cluster")
			wantLine(t, lines, netbox.ResultOK, "own records", "(203.0.113.5)")
			wantLine(t, lines, netbox.ResultOK, "pool public", "ipv4: 254 addresses, 1 used, 253 free")
			if version != "4.4.10" {
				wantLine(t, lines, netbox.ResultOK, "fence", `user bm-ccm-lab may add, change and delete addresses with {"custom_field_data__k8s_cluster":"lab"}`)
			}
		})
	}
}

func TestInspectNamesWhatIsWrong(t *testing.T) {
	grant := func(x *inspected, t *testing.T, permissions ...netboxtest.Permission) {
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
		spoil  func(*inspected, *testing.T)
		result netbox.Result
		what   string
		text   string
	}{
		{"wrong token", func(x *inspected, _ *testing.T) { x.token = "nbt_abc.def" }, netbox.ResultFail, "token", "put a valid one into netbox.tokenFile"},
		{"no NetBox", func(x *inspected, _ *testing.T) { x.url = "http://127.0.0.1:1" }, netbox.ResultFail, "NetBox", "nothing listens there"},
		{"unknown host", func(x *inspected, _ *testing.T) { x.url = "http://netbox.invalid" }, netbox.ResultFail, "NetBox", "host netbox.invalid"},
		{"no TLS there", func(x *inspected, _ *testing.T) { x.url = strings.Replace(x.url, "http:", "https:", 1) }, netbox.ResultFail, "NetBox", "speaks no TLS there"},
		{"another cluster's token", func(x *inspected, t *testing.T) {
			user, _ := initialize(t, x.url, schema.Access{Cluster: "other"})
			x.token = makeToken(t, x.url, user)
		}, netbox.ResultFail, "fence", "user bm-ccm-other may add only addresses with"},
		{"another cluster's token, by its records", func(x *inspected, t *testing.T) {
			grant(x, t, netboxtest.FencedPermissions("other")...)
		}, netbox.ResultFail, "foreign records", "of cluster other: it is that cluster's token, or one for all"},
		{"another cluster's token, by the records of one of many", func(x *inspected, t *testing.T) {
			x.add(t, "198.51.100.9/32", "third", "")
			grant(x, t, netboxtest.FencedPermissions("third")...)
		}, netbox.ResultFail, "foreign records", "of cluster third: it is that cluster's token"},
		{"no fence but for clusters", func(x *inspected, t *testing.T) {
			p := netboxtest.FencedPermissions("lab")
			p[1].Constraints = []any{p[1].Constraints, map[string]any{"custom_field_data__k8s_cluster__isnull": true}}
			grant(x, t, p...)
		}, netbox.ResultFail, "foreign records", "(198.51.100.7), which is not this cluster's"},
		{"a token that does not reach our records", func(x *inspected, t *testing.T) {
			x.add(t, "203.0.113.5/32", "lab", "")
			grant(x, t, netboxtest.FencedPermissions("third")...)
		}, netbox.ResultFail, "own records", "it is another cluster's token"},
		{"no fence", func(x *inspected, t *testing.T) {
			p := netboxtest.FencedPermissions("lab")
			p[1].Constraints = nil
			p[0].ObjectTypes = append(p[0].ObjectTypes, "users.objectpermission")
			grant(x, t, p...)
		}, netbox.ResultFail, "fence", "user u may add every address"},
		{"superuser", func(x *inspected, _ *testing.T) { x.token = netboxtest.DefaultToken }, netbox.ResultWarn, "fence", "as a superuser"},
		{"superuser, by the records", func(x *inspected, _ *testing.T) { x.token = netboxtest.DefaultToken }, netbox.ResultFail, "foreign records", "or one for all"},
		{"own permissions cannot be seen", func(x *inspected, t *testing.T) {
			grant(x, t, netboxtest.FencedPermissions("lab")...)
		}, netbox.ResultSkip, "fence", "may not view its own permissions"},
		{"read only", func(x *inspected, t *testing.T) {
			x.token = fencedToken
			if err := x.srv.AddToken(netboxtest.Token{User: "u", Key: fencedToken, ReadOnly: true, Permissions: netboxtest.FencedPermissions("lab")}); err != nil {
				t.Fatal(err)
			}
		}, netbox.ResultFail, "write rights", "may not add, change, delete addresses"},
		{"no delete", func(x *inspected, t *testing.T) {
			p := netboxtest.FencedPermissions("lab")
			p[1].Actions = all[:2]
			grant(x, t, p...)
		}, netbox.ResultFail, "write rights", "may not delete addresses"},
		{"no view of VRFs", func(x *inspected, t *testing.T) {
			p := netboxtest.FencedPermissions("lab")
			p[0].ObjectTypes = slices.DeleteFunc(p[0].ObjectTypes, func(s string) bool { return s == "ipam.vrf" })
			grant(x, t, p...)
		}, netbox.ResultFail, "view rights", "may not view ipam.vrf: grant view on it"},
		{"no view of racks", func(x *inspected, t *testing.T) {
			p := netboxtest.FencedPermissions("lab")
			p[0].ObjectTypes = slices.DeleteFunc(p[0].ObjectTypes, func(s string) bool { return s == "dcim.rack" })
			grant(x, t, p...)
		}, netbox.ResultWarn, "view rights", "may not view dcim.rack"},
		{"no tenant", func(x *inspected, _ *testing.T) { x.record.Tenant = "nope" }, netbox.ResultFail, "netbox.record.tenant", `no tenant with slug "nope"`},
		{"no tag", func(x *inspected, _ *testing.T) { x.record.Tags = []string{"k8s", "nope"} }, netbox.ResultFail, "netbox.record.tags[1]", `no tag with slug "nope"`},
		{"no field", func(x *inspected, _ *testing.T) { x.record.CustomFields = map[string]any{"owner": "me"} }, netbox.ResultFail, "netbox.record.customFields.owner", "no custom field owner"},
		{"no prefix", func(x *inspected, _ *testing.T) {
			x.pools = []ipam.Pool{poolOf("away", v1alpha1.NetBoxPrefix{Prefix: "192.0.2.0/24"})}
		}, netbox.ResultFail, "pool away", "192.0.2.0/24"},
		{"no VRF", func(x *inspected, _ *testing.T) {
			x.pools = []ipam.Pool{poolOf("away", v1alpha1.NetBoxPrefix{Prefix: "203.0.113.0/24", VRF: "blue"})}
		}, netbox.ResultFail, "pool away", "blue"},
		{"overlap in NetBox", func(x *inspected, _ *testing.T) {
			x.pools = append(x.pools, poolOf("again", v1alpha1.NetBoxPrefix{Prefix: "203.0.113.0/24"}))
		}, netbox.ResultWarn, "pools public and again", "both hold 203.0.113.0-203.0.113.255"},
		{"overlap in another VRF", func(x *inspected, t *testing.T) {
			if err := x.srv.Apply(&netboxtest.Seed{VRFs: []netboxtest.SeedVRF{{Name: "blue"}}, Prefixes: []netboxtest.SeedPrefix{{Prefix: "203.0.113.64/26", VRF: "blue"}}}); err != nil {
				t.Fatal(err)
			}
			x.pools = append(x.pools, poolOf("blue", v1alpha1.NetBoxPrefix{Prefix: "203.0.113.64/26", VRF: "blue"}))
		}, netbox.ResultFail, "pools public and blue", "both hold 203.0.113.64-203.0.113.127, in different VRFs"},
		{"prefix not in use", func(x *inspected, t *testing.T) {
			if err := x.srv.Apply(&netboxtest.Seed{Prefixes: []netboxtest.SeedPrefix{{Prefix: "192.0.2.0/24", Status: "deprecated"}}}); err != nil {
				t.Fatal(err)
			}
			x.pools = []ipam.Pool{poolOf("old", v1alpha1.NetBoxPrefix{Prefix: "192.0.2.0/24"})}
		}, netbox.ResultFail, "pool old", "deprecated"},
		{"selector without a match", func(x *inspected, _ *testing.T) {
			x.pools = []ipam.Pool{{Name: "found", Spec: v1alpha1.AddressPoolSpec{NetBox: &v1alpha1.NetBoxSource{Selector: &v1alpha1.NetBoxSelector{Tag: "k8s"}}}}}
		}, netbox.ResultFail, "pool found", "k8s"},
		{"stock", func(x *inspected, t *testing.T) {
			x.add(t, "198.51.100.30/32", "", "reserved")
			x.pools = []ipam.Pool{tenantPool}
		}, netbox.ResultOK, "pool stock, right to take", "(198.51.100.30) of tenant stock"},
		{"stock that is used up", func(x *inspected, t *testing.T) {
			x.add(t, "198.51.100.30/32", "other", "reserved")
			x.pools = []ipam.Pool{tenantPool}
		}, netbox.ResultSkip, "pool stock, right to take", "has no reserved address without a cluster"},
		{"stock of others", func(x *inspected, t *testing.T) {
			x.add(t, "198.51.100.30/32", "", "reserved")
			x.pools = []ipam.Pool{tenantPool}
			grant(x, t, netboxtest.FencedPermissions("lab")...)
		}, netbox.ResultFail, "pool stock, right to take", "run bm-ccm netbox init --reserved-tenant stock"},
		{"overlap with a list", func(x *inspected, _ *testing.T) { x.pools = append(x.pools, inlinePool) },
			netbox.ResultFail, "pools public and inline", "both hold 203.0.113.200-203.0.113.210, and only one of them is in NetBox"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := setUp(t, "")
			tt.spoil(x, t)
			wantLine(t, x.inspect(t), tt.result, tt.what, tt.text)
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
	ids := map[string]int64{}
	for _, a := range x.srv.Addresses() {
		ids[a.Address] = a.ID
	}
	if err := c.Patch(t.Context(), ids["203.0.113.20/32"], "lab", "active"); err != nil {
		t.Errorf("taking one: %v", err)
	}
	if err := c.Patch(t.Context(), ids["203.0.113.20/32"], nil, "reserved"); err != nil {
		t.Errorf("giving it back: %v", err)
	}
	for _, address := range []string{"203.0.113.21/32", "198.51.100.7/32"} {
		if err := c.Patch(t.Context(), ids[address], "lab", "active"); err == nil {
			t.Errorf("took %s, which is not of the stock or another cluster's", address)
		}
	}
}
