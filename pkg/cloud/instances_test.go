// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
	cloudproviderapi "k8s.io/cloud-provider/api"

	"github.com/bm-ccm/bm-ccm/pkg/netbox/dcim"
)

// fakeInventory is an inventory in memory.
type fakeInventory struct {
	machines []dcim.Machine
	err      error
}

func (r fakeInventory) find(match func(dcim.Machine) bool) (dcim.Machine, error) {
	if r.err != nil {
		return dcim.Machine{}, r.err
	}
	i := slices.IndexFunc(r.machines, match)
	if i < 0 {
		return dcim.Machine{}, dcim.ErrNotFound
	}
	return r.machines[i], nil
}

func (r fakeInventory) Machine(_ context.Context, name string) (dcim.Machine, error) {
	return r.find(func(m dcim.Machine) bool { return m.Name == name })
}

func (r fakeInventory) MachineByID(_ context.Context, kind string, id int64) (dcim.Machine, error) {
	return r.find(func(m dcim.Machine) bool { return m.Kind == kind && m.ID == id })
}

func node(name string, edit ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{}}}
	for _, e := range edit {
		e(n)
	}
	return n
}

func withNodeIP(ips string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Annotations[cloudproviderapi.AnnotationAlphaProvidedIPAddr] = ips }
}

var n1 = dcim.Machine{Kind: kindDevice, ID: 11, Name: "n1", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}}

func TestInstanceMetadata(t *testing.T) {
	tests := []struct {
		name      string
		inventory inventory
		node      *corev1.Node
		id        string
		addresses []string
		problem   string // part of the error and of the Event
	}{
		{"device by name", fakeInventory{machines: []dcim.Machine{n1}}, node("n1"), "bm-ccm://netbox/device/11", []string{"10.0.0.1", "fd00::1", "n1"}, ""},
		{"device by id, renamed", fakeInventory{machines: []dcim.Machine{n1}}, node("other", func(n *corev1.Node) { n.Spec.ProviderID = "bm-ccm://netbox/device/11" }), "bm-ccm://netbox/device/11", []string{"10.0.0.1", "fd00::1", "other"}, ""},
		{"--node-ip known", fakeInventory{machines: []dcim.Machine{n1}}, node("n1", withNodeIP("10.0.0.1,fd00::1")), "bm-ccm://netbox/device/11", []string{"10.0.0.1", "fd00::1", "n1"}, ""},
		{"--node-ip unknown", fakeInventory{machines: []dcim.Machine{n1}}, node("n1", withNodeIP("10.0.0.9")), "", nil, "kubelet's --node-ip 10.0.0.9 is not a primary address of device \"n1\""},
		{"no such device", fakeInventory{}, node("n2"), "", nil, `no device or virtual machine named "n2"`},
		{"NetBox down", fakeInventory{err: errors.New("connection refused")}, node("n1"), "", nil, "connection refused"},
		{"foreign providerID", fakeInventory{}, node("n1", func(n *corev1.Node) { n.Spec.ProviderID = "aws:///i-1" }), "", nil, "aws:///i-1"},
		{"without NetBox", nil, node("n1", withNodeIP("10.0.0.7")), "bm-ccm://node/n1", []string{"10.0.0.7", "n1"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			recorder := record.NewFakeRecorder(1)
			meta, err := (&instances{inventory: tt.inventory, recorder: recorder}).InstanceMetadata(t.Context(), tt.node)
			if tt.problem != "" {
				if err == nil || !strings.Contains(err.Error(), tt.problem) {
					t.Errorf("error %v", err)
				}
				if len(recorder.Events) != 1 {
					t.Error("no Event says so")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var addresses []string
			for _, a := range meta.NodeAddresses {
				addresses = append(addresses, a.Address)
			}
			if diff := cmp.Diff([]any{tt.id, tt.addresses}, []any{meta.ProviderID, addresses}); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Upstream deletes the Node when the answer is false without an error.
func TestInstanceExistsNeverDenies(t *testing.T) {
	for name, inv := range map[string]inventory{"gone": fakeInventory{}, "down": fakeInventory{err: errors.New("no")}} {
		exists, err := (&instances{inventory: inv}).InstanceExists(t.Context(), node("n1"))
		if err == nil {
			t.Errorf("%s: exists %v without an error", name, exists)
		}
	}
	if exists, err := (&instances{inventory: fakeInventory{machines: []dcim.Machine{n1}}}).InstanceExists(t.Context(), node("n1")); !exists || err != nil {
		t.Errorf("a known device: %v, %v", exists, err)
	}
}
