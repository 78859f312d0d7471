// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package dcim_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/bm-ccm/bm-ccm/pkg/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/dcim"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/netboxtest"
)

func startWithMachines(t *testing.T) (*netboxtest.Server, *dcim.Inventory) {
	t.Helper()
	s := &netboxtest.Seed{}
	s.Sites = []netboxtest.SeedSite{{Name: "Berlin 1", Region: "Europe"}, {Name: "Paris"}}
	s.Devices = []netboxtest.SeedDevice{
		{Name: "n1", Site: "Berlin 1", Type: "R640", Primary4: "10.0.0.1/24", Primary6: "fd00::1/64"},
		{Name: "n2", Site: "Paris", Type: "R640", Status: "offline"},
		{Name: "twin", Site: "Paris", Type: "R640"},
		{Name: "twin", Site: "Berlin 1", Type: "R640"},
		{Name: "v1", VirtualMachine: true, Site: "Paris", Primary4: "10.0.1.1/24"},
	}
	const token = "fenced0123456789abcdef0123456789abcdef01"
	srv := netboxtest.New(netboxtest.Options{Seed: s, Tokens: []netboxtest.Token{{User: "lab", Key: token, Permissions: netboxtest.FencedPermissions("lab")}}})
	hs := httptest.NewServer(srv)
	t.Cleanup(func() {
		srv.ClearFaults()
		hs.Close()
		for _, v := range srv.Violations() {
			t.Errorf("a request that NetBox would not stand: %s", v)
		}
	})
	c, err := netbox.NewClient(netbox.Options{URL: hs.URL, Token: token, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return srv, dcim.NewInventory(c)
}

func TestMachine(t *testing.T) {
	_, inventory := startWithMachines(t)
	tests := []struct {
		name    string
		want    dcim.Machine
		problem string
	}{
		{"n1", dcim.Machine{
			Kind: dcim.KindDevice, Name: "n1", Status: "active", Type: "r640", Site: "berlin-1", Region: "europe",
			Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")},
		}, ""},
		{"n2", dcim.Machine{Kind: dcim.KindDevice, Name: "n2", Status: "offline", Type: "r640", Site: "paris"}, ""},
		{"v1", dcim.Machine{
			Kind: dcim.KindVirtualMachine, Name: "v1", Status: "active", Site: "paris",
			Addresses: []netip.Addr{netip.MustParseAddr("10.0.1.1")},
		}, ""},
		{"twin", dcim.Machine{}, `NetBox has 2 devices named "twin"`},
		{"N1", dcim.Machine{}, "NetBox has no such machine"},
		{"nope", dcim.Machine{}, "NetBox has no such machine"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := inventory.Machine(t.Context(), tt.name)
			if tt.problem != "" {
				if err == nil || !strings.Contains(err.Error(), tt.problem) {
					t.Errorf("got %v, %v", got, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreFields(dcim.Machine{}, "ID"), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Error(diff)
			}
			again, err := inventory.MachineByID(t.Context(), got.Kind, got.ID)
			if err != nil || again.Name != got.Name {
				t.Errorf("by id: %v, %v", again, err)
			}
		})
	}
}

// TestGoneMachine: a Node may be deleted over ErrNotFound.
func TestGoneMachine(t *testing.T) {
	srv, inventory := startWithMachines(t)
	for _, kind := range []string{dcim.KindDevice, dcim.KindVirtualMachine} {
		if _, err := inventory.MachineByID(t.Context(), kind, 4711); !errors.Is(err, dcim.ErrNotFound) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	doubts := map[string]netboxtest.Fault{
		"a proxy's 404": {Status: 404, HTMLBody: true, Times: 1},
		"403":           {Status: 403, Times: 1},
		"500":           {Status: 500, Times: 1},
		"silent canary": {Path: `limit=1(&|$)`, Method: http.MethodGet, Status: 500, Times: 1},
		"empty lists":   {Path: `limit=1(&|$)`, Method: http.MethodGet, Status: 200, Body: `{"count":0,"next":null,"previous":null,"results":[]}`},
	}
	for name, fault := range doubts {
		remove := srv.Inject(fault)
		_, err := inventory.MachineByID(t.Context(), dcim.KindDevice, 4711)
		if err == nil || errors.Is(err, dcim.ErrNotFound) {
			t.Errorf("%s: got %v, want another error", name, err)
		}
		remove()
	}
	srv.RevokePermissions("lab")
	_, err := inventory.MachineByID(t.Context(), dcim.KindDevice, 1)
	if err == nil || errors.Is(err, dcim.ErrNotFound) || !errors.As(err, new(*netbox.AnswerError)) {
		t.Errorf("without permissions: got %v", err)
	}
}
