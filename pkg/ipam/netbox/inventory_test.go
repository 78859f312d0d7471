// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox_test

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox/contracttest"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/netboxtest"
)

func startWithMachines(t *testing.T) (*netboxtest.Server, contracttest.Target, *netbox.Inventory) {
	t.Helper()
	s := seed()
	s.Sites = []netboxtest.SeedSite{{Name: "Berlin 1", Region: "Europe"}, {Name: "Paris"}}
	s.Devices = []netboxtest.SeedDevice{
		{Name: "n1", Site: "Berlin 1", Type: "R640", Primary4: "10.0.0.1/24", Primary6: "fd00::1/64"},
		{Name: "n2", Site: "Paris", Type: "R640", Status: "offline"},
		{Name: "twin", Site: "Paris", Type: "R640"},
		{Name: "twin", Site: "Berlin 1", Type: "R640"},
		{Name: "v1", VirtualMachine: true, Site: "Paris", Primary4: "10.0.1.1/24"},
	}
	srv, target := start(t, netboxtest.Options{Seed: s})
	return srv, target, netbox.NewInventory(newClient(t, target, time.Second))
}

func TestMachine(t *testing.T) {
	_, _, inventory := startWithMachines(t)
	tests := []struct {
		name    string
		want    netbox.Machine
		problem string
	}{
		{"n1", netbox.Machine{
			Kind: netbox.KindDevice, Name: "n1", Status: "active", Type: "r640", Site: "berlin-1", Region: "europe",
			Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")},
		}, ""},
		{"n2", netbox.Machine{Kind: netbox.KindDevice, Name: "n2", Status: "offline", Type: "r640", Site: "paris"}, ""},
		{"v1", netbox.Machine{
			Kind: netbox.KindVirtualMachine, Name: "v1", Status: "active", Site: "paris",
			Addresses: []netip.Addr{netip.MustParseAddr("10.0.1.1")},
		}, ""},
		{"twin", netbox.Machine{}, `NetBox has 2 devices named "twin"`},
		{"N1", netbox.Machine{}, "NetBox has no such machine"},
		{"nope", netbox.Machine{}, "NetBox has no such machine"},
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
			if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreFields(netbox.Machine{}, "ID"), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
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
	srv, _, inventory := startWithMachines(t)
	for _, kind := range []string{netbox.KindDevice, netbox.KindVirtualMachine} {
		if _, err := inventory.MachineByID(t.Context(), kind, 4711); !errors.Is(err, netbox.ErrNotFound) {
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
		_, err := inventory.MachineByID(t.Context(), netbox.KindDevice, 4711)
		if err == nil || errors.Is(err, netbox.ErrNotFound) {
			t.Errorf("%s: got %v, want another error", name, err)
		}
		remove()
	}
	srv.RevokePermissions("lab")
	_, err := inventory.MachineByID(t.Context(), netbox.KindDevice, 1)
	if err == nil || errors.Is(err, netbox.ErrNotFound) || !errors.As(err, new(*ipam.ConfigError)) {
		t.Errorf("without permissions: got %v", err)
	}
}
