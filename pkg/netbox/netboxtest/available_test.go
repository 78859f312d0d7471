// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/bm-ccm/bm-ccm/pkg/netbox/netboxtest"
)

// listAvailable is the free addresses of a parent, without masks.
func listAvailable(a *api, path, query string) string {
	a.t.Helper()
	var out []string
	for _, e := range a.get(path + query).list() {
		addr, _, _ := strings.Cut(e.(obj)["address"].(string), "/")
		out = append(out, addr)
	}
	return strings.Join(out, " ")
}

func TestUsableBounds(t *testing.T) {
	tests := []struct {
		name, cidr string
		body       obj
		before     []string // addresses that exist
		ranges     []obj
		want       string
	}{
		{name: "network and broadcast are kept", cidr: "10.0.0.0/29", want: "10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6"},
		{name: "pool", cidr: "10.0.0.0/30", body: obj{"is_pool": true}, want: "10.0.0.0 10.0.0.1 10.0.0.2 10.0.0.3"},
		{name: "/31", cidr: "10.0.0.0/31", want: "10.0.0.0 10.0.0.1"},
		{name: "/32", cidr: "10.0.0.7/32", want: "10.0.0.7"},
		{name: "IPv6 keeps the first", cidr: "2001:db8::/126", want: "2001:db8::1 2001:db8::2 2001:db8::3"},
		{name: "/127", cidr: "2001:db8::/127", want: "2001:db8:: 2001:db8::1"},
		{name: "/128", cidr: "2001:db8::5/128", want: "2001:db8::5"},
		{name: "mark_utilized does not matter", cidr: "10.0.0.0/30", body: obj{"mark_utilized": true}, want: "10.0.0.1 10.0.0.2"},
		{name: "nor does the status", cidr: "10.0.0.0/30", body: obj{"status": "container"}, want: "10.0.0.1 10.0.0.2"},
		{name: "a present host counts whatever its mask", cidr: "10.0.0.0/29", before: []string{"10.0.0.1/32", "10.0.0.3/8", "10.0.0.6/29"}, want: "10.0.0.2 10.0.0.4 10.0.0.5"},
		{
			name: "plain ranges do not count", cidr: "10.0.0.0/30",
			ranges: []obj{{"start_address": "10.0.0.1/30", "end_address": "10.0.0.2/30"}}, want: "10.0.0.1 10.0.0.2",
		},
		{
			name: "populated ranges do", cidr: "10.0.0.0/29",
			ranges: []obj{{"start_address": "10.0.0.2/29", "end_address": "10.0.0.4/29", "mark_populated": true}}, want: "10.0.0.1 10.0.0.5 10.0.0.6",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := start(t, netboxtest.Options{})
			body := obj{"prefix": tt.cidr}
			maps.Copy(body, tt.body)
			a.create("/api/ipam/prefixes/", body)
			for _, addr := range tt.before {
				a.create("/api/ipam/ip-addresses/", obj{"address": addr})
			}
			for _, r := range tt.ranges {
				a.create("/api/ipam/ip-ranges/", r)
			}
			if got := listAvailable(a, claims, ""); got != tt.want {
				t.Errorf("free: %s, want %s", got, tt.want)
			}
			n := len(strings.Fields(tt.want))
			r := a.want(201, "POST", claims, slices.Repeat([]obj{{}}, n))
			if got := strings.ReplaceAll(r.field("address"), "/"+strings.Split(tt.cidr, "/")[1], ""); got != tt.want {
				t.Errorf("claimed: %s, want %s", got, tt.want)
			}
			a.want(409, "POST", claims, obj{})
		})
	}
}

func TestAvailableInRange(t *testing.T) {
	a := start(t, netboxtest.Options{})
	const path = "/api/ipam/ip-ranges/1/available-ips/"
	a.create("/api/ipam/ip-ranges/", obj{"start_address": "10.0.0.0/24", "end_address": "10.0.0.2/24"})
	a.create("/api/ipam/ip-addresses/", obj{"address": "10.0.0.1/32"})
	if got := listAvailable(a, path, ""); got != "10.0.0.0 10.0.0.2" {
		t.Errorf("free: %s", got)
	}
	if got := a.want(201, "POST", path, obj{}).obj()["address"]; got != "10.0.0.0/24" {
		t.Errorf("claimed %v, want 10.0.0.0/24: the mask of the range", got)
	}
	a.want(200, "PATCH", "/api/ipam/ip-ranges/1/", obj{"mark_populated": true})
	if got := listAvailable(a, path, ""); got != "" {
		t.Errorf("free in a populated range: %s", got)
	}
	a.want(409, "POST", path, obj{})
	a.wantBody(a.want(400, "POST", "/api/ipam/ip-addresses/", obj{"address": "10.0.0.2/24"}),
		`{"address":["Cannot create IP address 10.0.0.2/24 inside range 10.0.0.0-10.0.0.2/24."]}`)
}

func TestAvailableLimits(t *testing.T) {
	a := start(t, claimOpts("", "10.0.0.0/16"))
	for query, want := range map[string]int{"": 50, "?limit=3": 3, "?limit=0": 1000, "?limit=5000": 1000} {
		if got := len(a.get(claims + query).list()); got != want {
			t.Errorf("%q: %d free addresses, want %d", query, got, want)
		}
	}
	first := a.get(claims + "?limit=1")
	a.wantBody(first, `[{"family":4,"address":"10.0.0.1/16","vrf":null}]`)
}

func TestClaimOverwritesAddressAndVRF(t *testing.T) {
	o := claimOpts("", "10.0.0.0/24")
	o.Seed.VRFs = []netboxtest.SeedVRF{{Name: "blue"}, {Name: "red"}}
	o.Seed.Prefixes[0].VRF = "blue"
	a := start(t, o)
	a.create("/api/ipam/ip-addresses/", obj{"address": "10.0.0.1/24"}) // in the global table: another address
	r := a.want(201, "POST", claims, obj{
		"address": "192.0.2.1/32", "vrf": 2, "status": "reserved", "dns_name": "A.Example", "description": "d", "role": "loopback",
	}).obj()
	if r["address"] != "10.0.0.1/24" || r["vrf"].(obj)["name"] != "blue" {
		t.Errorf("address %v in %v, want 10.0.0.1/24 in blue", r["address"], r["vrf"])
	}
	if r["status"].(obj)["value"] != "reserved" || r["dns_name"] != "a.example" || r["description"] != "d" || r["role"].(obj)["value"] != "loopback" {
		t.Errorf("other fields were not taken over: %v", r)
	}
}

func TestPrefixLength(t *testing.T) {
	tests := []struct {
		version, cidr string
		length        any
		want, err     string
	}{
		{version: "4.7", cidr: "10.0.0.0/24", length: 32, want: "10.0.0.1/32"},
		{version: "4.5.1", cidr: "10.0.0.0/24", length: 32, want: "10.0.0.1/32"},
		{version: "4.5.0", cidr: "10.0.0.0/24", length: 32, want: "10.0.0.1/24"},
		{version: "4.4", cidr: "10.0.0.0/24", length: 99, want: "10.0.0.1/24"},
		{version: "4.7", cidr: "10.0.0.0/24", length: nil, want: "10.0.0.1/24"},
		{version: "4.7", cidr: "2001:db8::/64", length: 128, want: "2001:db8::1/128"},
		{version: "4.7", cidr: "10.0.0.0/24", length: 23, err: "Prefix length must be greater than or equal to the parent mask length (24)"},
		{version: "4.7", cidr: "10.0.0.0/24", length: 33, err: "Invalid prefix length (33)"},
		{version: "4.7", cidr: "10.0.0.0/24", length: "x", err: "A valid integer is required."},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s %s %v", tt.version, tt.cidr, tt.length), func(t *testing.T) {
			a := start(t, claimOpts(tt.version, tt.cidr))
			body := obj{"prefix_length": tt.length}
			if tt.err != "" {
				r := a.want(400, "POST", claims, body)
				if !strings.Contains(r.text, tt.err) {
					t.Errorf("error %s, want %s", r.text, tt.err)
				}
				return
			}
			if got := a.want(201, "POST", claims, body).obj()["address"]; got != tt.want {
				t.Errorf("address %v, want %s", got, tt.want)
			}
		})
	}
}

func TestClaimMirrorsTheBody(t *testing.T) {
	a := start(t, claimOpts("", "10.0.0.0/24"))
	if _, isObject := a.want(201, "POST", claims, obj{}).data.(obj); !isObject {
		t.Error("an object was not answered with an object")
	}
	if l, isList := a.want(201, "POST", claims, []obj{{}}).data.([]any); !isList || len(l) != 1 {
		t.Error("a list of one was not answered with a list of one")
	}
	r := a.want(201, "POST", claims, []obj{{}, {}})
	if got := r.field("address"); got != "10.0.0.3/24 10.0.0.4/24" {
		t.Errorf("list: %s", got)
	}
	if r.header.Get("ETag") != "" {
		t.Error("available-ips sent an ETag")
	}
}

func TestClaimIsAllOrNothing(t *testing.T) {
	a := start(t, claimOpts("", "10.0.0.0/30"))
	a.wantBody(a.want(409, "POST", claims, []obj{{}, {}, {}}), `{"detail":"Insufficient resources are available to satisfy the request"}`)
	a.create(claims, claimOf("c/n/a/ipv4"))
	a.wantBody(a.want(400, "POST", claims, claimOf("c/n/a/ipv4")), `{"__all__":["Custom field 'k8s_lb_claim' must have a unique value."]}`)
	if n := len(a.srv.Addresses()); n != 1 {
		t.Errorf("%d addresses, want 1", n)
	}
}

func TestClaimErrorsOfAList(t *testing.T) {
	a := start(t, claimOpts("", "10.0.0.0/24"))
	a.create(claims, claimOf("c/n/a/ipv4"))
	tests := []struct {
		name string
		item obj
		want string
	}{
		{"key taken", claimOf("c/n/a/ipv4"), `{"__all__":["Custom field 'k8s_lb_claim' must have a unique value."]}`},
		{"unknown field", obj{"custom_fields": obj{"nope": "x"}}, `{"custom_fields":{"nope":"Custom field 'nope' does not exist for this object type."}}`},
		{"unknown tag", obj{"tags": []obj{{"slug": "nope"}}}, `{"tags":["Related object not found using the provided attributes: {'slug': 'nope'}"]}`},
		{"bad status", obj{"status": "x"}, `{"status":["x is not a valid choice."]}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a.wantBody(a.want(400, "POST", claims, []obj{{}, tt.item}), "[{},"+tt.want+"]")
			a.wantBody(a.want(400, "POST", claims, tt.item), tt.want)
		})
	}
	if n := len(a.srv.Addresses()); n != 1 {
		t.Errorf("%d addresses, want 1: part of a list was created", n)
	}
}

// Items of one list are not checked against each other: as in NetBox, one key
// can be had twice that way.
func TestOneKeyTwiceInOneList(t *testing.T) {
	for _, v := range []string{"4.4", "4.6", "4.7"} {
		a := start(t, claimOpts(v, "10.0.0.0/24"))
		a.want(201, "POST", claims, []obj{claimOf("c/n/a/ipv4"), claimOf("c/n/a/ipv4")})
		r := a.get("/api/ipam/ip-addresses/?cf_k8s_lb_claim=c/n/a/ipv4")
		if got := r.obj()["count"]; got != 2.0 {
			t.Errorf("%s: %v records with the key, want 2", v, got)
		}
	}
}

func TestEmptyClaimList(t *testing.T) {
	a := start(t, claimOpts("4.7", "10.0.0.0/24"))
	a.wantBody(a.want(201, "POST", claims, []obj{}), `[]`)
	old := start(t, claimOpts("4.6", "10.0.0.0/24"))
	old.want(501, "POST", claims, []obj{})
	for _, x := range []*api{a, old} {
		if n := len(x.srv.Violations()); n != 1 {
			t.Errorf("%d violations noted, want 1", n)
		}
	}
}

func TestRacingClaims(t *testing.T) {
	a := start(t, claimOpts("", "10.0.0.0/24"))
	status := race(a, 12, func(int) (string, string, any) { return "POST", claims, claimOf("c/n/same/ipv4") })
	if status[201] != 1 || status[400] != 11 {
		t.Errorf("one key: %v, want one 201 and eleven 400", status)
	}
	status = race(a, 40, func(i int) (string, string, any) { return "POST", claims, claimOf(fmt.Sprintf("c/n/%d/ipv4", i)) })
	if status[201] != 40 {
		t.Errorf("40 keys: %v", status)
	}
	status = race(a, 8, func(int) (string, string, any) {
		return "POST", "/api/ipam/ip-addresses/", obj{"address": "10.0.0.200/32"}
	})
	if status[201] != 1 || status[400] != 7 {
		t.Errorf("one address: %v, want one 201 and seven 400", status)
	}
	seen := map[string]bool{}
	for _, r := range a.srv.Addresses() {
		if seen[r.Address] {
			t.Errorf("%s was given twice", r.Address)
		}
		seen[r.Address] = true
	}
}

// race sends n requests at once and counts the answers.
func race(a *api, n int, request func(i int) (method, path string, body any)) map[int]int {
	var mu sync.Mutex
	var wg sync.WaitGroup
	status := map[int]int{}
	for i := range n {
		wg.Go(func() {
			method, path, body := request(i)
			r, err := a.try(a.t.Context(), method, path, body)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				a.t.Error(err)
				return
			}
			status[r.status]++
		})
	}
	wg.Wait()
	return status
}

// The double remembers how far a prefix is full; whatever is claimed, freed,
// moved and fenced off, the next claim must be the lowest free address.
func TestLowestFirst(t *testing.T) {
	a := start(t, claimOpts("", "10.0.0.0/26"))
	rng := rand.New(rand.NewPCG(1, 2))
	taken := map[int]int64{} // last octet to id
	lowest := func() int {
		for i := 1; i < 63; i++ {
			if taken[i] == 0 {
				return i
			}
		}
		return 0
	}
	for step := range 600 {
		want := lowest()
		switch {
		case rng.IntN(100) < 60 && want != 0:
			r := a.want(201, "POST", claims, obj{"prefix_length": 32}).obj()
			if got := fmt.Sprintf("10.0.0.%d/32", want); r["address"] != got {
				t.Fatalf("step %d: claimed %v, want %s", step, r["address"], got)
			}
			taken[want] = int64(r["id"].(float64))
		case len(taken) > 0:
			at := someKey(rng, taken)
			id := taken[at]
			delete(taken, at)
			if to := 1 + rng.IntN(62); rng.IntN(3) == 0 && taken[to] == 0 {
				a.want(200, "PATCH", "/api/ipam/ip-addresses/"+itoa(id)+"/", obj{"address": fmt.Sprintf("10.0.0.%d/32", to)})
				taken[to] = id
				continue
			}
			a.want(http.StatusNoContent, "DELETE", "/api/ipam/ip-addresses/"+itoa(id)+"/", nil)
		}
	}
}

func someKey(rng *rand.Rand, m map[int]int64) int {
	var keys []int
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys[rng.IntN(len(keys))]
}
