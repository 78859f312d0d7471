// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"testing"

	"github.com/bm-ccm/bm-ccm/pkg/netbox/netboxtest"
)

func testSpec() Spec {
	return Spec{
		Cluster: "c1",
		Devices: []Device{
			{Name: "n1", Addrs: []netip.Prefix{netip.MustParsePrefix("10.77.0.1/24"), netip.MustParsePrefix("fd77::1/64")}},
			{Name: "n2", Addrs: []netip.Prefix{netip.MustParsePrefix("10.77.0.2/24")}},
		},
		Prefixes: []Prefix{
			{CIDR: netip.MustParsePrefix("203.0.113.0/29"), Pool: true, Description: "public"},
			{CIDR: netip.MustParsePrefix("203.0.113.0/29"), VRF: "blue"},
		},
	}
}

func TestSeedInMemory(t *testing.T) {
	server := httptest.NewServer(netboxtest.New(netboxtest.Options{}))
	defer server.Close()
	checkSeed(t, Target{URL: server.URL, Token: netboxtest.DefaultToken})
}

// checkSeed seeds twice and tries what came of it; the same for the real NetBox
// and the one in memory.
func checkSeed(t *testing.T, target Target) {
	t.Helper()
	ctx := t.Context()
	first, err := Seed(ctx, target, testSpec())
	if err != nil {
		t.Fatal(err)
	}
	counts := countAll(t, target)
	again := testSpec()
	again.KnownToken = first.Token
	second, err := Seed(ctx, target, again)
	if err != nil {
		t.Fatal("second time:", err)
	}
	if second.Token != first.Token {
		t.Error("the second Seed made another token although the first one works")
	}
	for path, n := range countAll(t, target) {
		if n != counts[path] || n == 0 {
			t.Errorf("%s: %d objects after the first Seed, %d after the second", path, counts[path], n)
		}
	}
	checkDevice(t, target, first.DeviceIDs["n1"])
	checkFence(t, target, first)
}

func countAll(t *testing.T, target Target) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for _, path := range []string{
		"dcim/devices", "dcim/interfaces", "dcim/sites", "dcim/regions", "ipam/prefixes", "ipam/vrfs", "ipam/ip-addresses",
		"extras/custom-fields", "users/users", "users/permissions", "users/tokens",
	} {
		var page struct{ Count int }
		if err := newREST(target).do(t.Context(), http.MethodGet, "/api/"+path+"/", nil, &page); err != nil {
			t.Fatal(err)
		}
		counts[path] = page.Count
	}
	return counts
}

func checkDevice(t *testing.T, target Target, id int64) {
	t.Helper()
	var device object
	if err := newREST(target).do(t.Context(), http.MethodGet, pathOf("dcim/devices", id), nil, &device); err != nil {
		t.Fatal(err)
	}
	for field, want := range map[string]string{"primary_ip4": "10.77.0.1/24", "primary_ip6": "fd77::1/64"} {
		m, _ := device[field].(map[string]any)
		if got := object(m).text("address"); got != want {
			t.Errorf("%s of n1 is %q, want %q", field, got, want)
		}
	}
}

func pathOf(kind string, id int64) string {
	return "/api/" + kind + "/" + strconv.FormatInt(id, 10) + "/"
}

// checkFence claims an address with the cluster's token and tries to change
// one that is another cluster's.
func checkFence(t *testing.T, target Target, seeded *Seeded) {
	t.Helper()
	ctx, prefix := t.Context(), pathOf("ipam/prefixes", seeded.PrefixIDs[0])
	admin := newREST(target)
	target.Token = seeded.Token
	fenced := newREST(target)
	claim := func(cluster, service string) object {
		return object{"custom_fields": object{"k8s_lb_claim": cluster + "/default/" + service + "/ipv4", "k8s_cluster": cluster}}
	}
	post := func(r *rest, body object) (o object, err error) {
		err = r.do(ctx, http.MethodPost, prefix+"available-ips/", body, &o)
		return o, err
	}
	mine, err := post(fenced, claim("c1", "web"))
	if err != nil {
		t.Fatal("claiming with the cluster's token:", err)
	}
	if fields, _ := mine["custom_fields"].(map[string]any); object(fields).text("k8s_lb_claim") != "c1/default/web/ipv4" {
		t.Errorf("the claim's record has the fields %v", fields)
	}
	_, err = post(fenced, claim("c1", "web"))
	wantCode(t, "claiming one key twice", err, http.StatusBadRequest)
	_, err = post(fenced, claim("c2", "web"))
	wantCode(t, "claiming in another cluster's name", err, http.StatusForbidden)
	foreign, err := post(admin, claim("c2", "web"))
	if err != nil {
		t.Fatal(err)
	}
	checkForeign(ctx, t, fenced, pathOf("ipam/ip-addresses", foreign.id()))
	if err := fenced.do(ctx, http.MethodDelete, pathOf("ipam/ip-addresses", mine.id()), nil, nil); err != nil {
		t.Error("freeing the cluster's own address:", err)
	}
}

func checkForeign(ctx context.Context, t *testing.T, fenced *rest, path string) {
	t.Helper()
	if err := fenced.do(ctx, http.MethodGet, path, nil, nil); err != nil {
		t.Error("a foreign record cannot even be read:", err)
	}
	err := fenced.do(ctx, http.MethodPatch, path, object{"description": "taken"}, nil)
	wantCode(t, "changing a foreign record", err, http.StatusNotFound, http.StatusForbidden)
	err = fenced.do(ctx, http.MethodDelete, path, nil, nil)
	wantCode(t, "deleting a foreign record", err, http.StatusNotFound, http.StatusForbidden)
}

func wantCode(t *testing.T, what string, err error, codes ...int) {
	t.Helper()
	var status *StatusError
	if errors.As(err, &status) {
		if slices.Contains(codes, status.Code) {
			return
		}
	}
	t.Errorf("%s: %v, want status %v", what, err, codes)
}
