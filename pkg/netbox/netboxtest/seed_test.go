// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bm-ccm/bm-ccm/pkg/netbox/netboxtest"
)

func TestSeed(t *testing.T) {
	a := start(t, netboxtest.Options{Seed: fullSeed()})
	dev := a.get("/api/dcim/devices/1/").obj()
	for key, want := range map[string]string{
		"name": "node1", "site": "DC 1", "device_type": "r640", "role": "worker", "location": "hall 1", "rack": "r1",
		"primary_ip4": "192.0.2.11/24", "primary_ip6": "2001:db8::11/64",
	} {
		got := dev[key]
		if o, isObject := got.(obj); isObject {
			got = o["display"]
		}
		if got != want {
			t.Errorf("%s %v, want %s", key, got, want)
		}
	}
	p := a.get("/api/ipam/prefixes/1/").obj()
	if p["vrf"].(obj)["name"] != "blue" || p["scope"].(obj)["slug"] != "dc-1" || p["tenant"].(obj)["slug"] != "team-a" {
		t.Errorf("prefix %v", p)
	}
	var names []string
	for _, e := range a.get("/api/extras/custom-fields/?object_type=ipam.ipaddress&ordering=id").list() {
		f := e.(obj)
		if f["filter_logic"].(obj)["value"] != "exact" || f["unique"] != (f["name"] == "k8s_lb_claim") {
			t.Errorf("custom field %v", f)
		}
		names = append(names, f["name"].(string))
	}
	if got := strings.Join(names, " "); got != "k8s_lb_claim k8s_cluster k8s_cluster_uid k8s_service_uid k8s_lb_class k8s_lb_release" {
		t.Errorf("custom fields %s", got)
	}
}

func TestSeedFile(t *testing.T) {
	tests := []struct{ name, text, err string }{
		{"good", "claimFields: true\nprefixes: [{prefix: 10.0.0.0/24}]\ntokens: [{key: abc, superuser: true}]\n", ""},
		{"JSON", `{"sites":[{"name":"dc1"}]}`, ""},
		{"unknown key", "prefixs: []\n", `unknown field "prefixs"`},
		{"bad prefix", "prefixes: [{prefix: x}]\n", "prefix x: prefix: [Invalid IP address format: x]"},
		{"duplicate", "prefixes: [{prefix: 10.0.0.0/24}, {prefix: 10.0.0.0/24}]\n", "Duplicate prefix"},
		{"unknown VRF", "addresses: [{address: 10.0.0.1, vrf: blue}]\n", `there is no VRF "blue": list it under vrfs`},
		{"bad status", "devices: [{name: a, status: up}]\n", "up is not a valid choice"},
		{"bad primary", "devices: [{name: a, primary4: x}]\n", `"x" is no address`},
		{"token without key", "tokens: [{user: a}]\n", "without a key"},
		{"bad constraint", "tokens: [{key: a, permissions: [{objectTypes: [ipam.ipaddress], actions: [view], constraints: {nope: 1}}]}]\n", "nope"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "seed.yaml")
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			seed, err := netboxtest.ReadSeed(path)
			if err == nil {
				err = netboxtest.Options{Seed: seed}.Validate()
			}
			switch {
			case tt.err == "" && err != nil:
				t.Error(err)
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
				t.Errorf("error %v, want %s", err, tt.err)
			}
		})
	}
	if _, err := netboxtest.ReadSeed("/nonexistent"); err == nil {
		t.Error("a file that is not there was read")
	}
}

// A seed that fails leaves nothing behind.
func TestSeedIsAllOrNothing(t *testing.T) {
	a := start(t, netboxtest.Options{})
	err := a.srv.Apply(&netboxtest.Seed{
		ClaimFields: true, Sites: []netboxtest.SeedSite{{Name: "dc1"}}, Prefixes: []netboxtest.SeedPrefix{{Prefix: "nope"}},
	})
	if err == nil {
		t.Fatal("the seed was accepted")
	}
	for _, path := range []string{"extras/custom-fields", "dcim/sites"} {
		if n := len(a.get("/api/" + path + "/").list()); n != 0 {
			t.Errorf("%d %s are left", n, path)
		}
	}
}
