// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"
	cloudprovider "k8s.io/cloud-provider"
	cloudproviderapi "k8s.io/cloud-provider/api"

	"github.com/bm-ccm/bm-ccm/pkg/netbox/dcim"
)

// inventory is what instances needs of NetBox DCIM.
type inventory interface {
	// Machine finds the device or virtual machine of that name.
	// dcim.ErrNotFound is a definite answer: there is none.
	Machine(ctx context.Context, name string) (dcim.Machine, error)
	// MachineByID reads the device or virtual machine of that id.
	MachineByID(ctx context.Context, kind string, id int64) (dcim.Machine, error)
}

// instances implements cloudprovider.InstancesV2. With a nil inventory a node
// is what it says of itself.
type instances struct {
	inventory inventory
	recorder  record.EventRecorder
}

var _ cloudprovider.InstancesV2 = (*instances)(nil)

// InstanceExists reports whether the machine of a node still exists. Its answer
// is never "no": upstream would delete the Node at once, and an absence in
// NetBox can also be a renamed device, a lost permission or an emptied filter.
// A machine that is not found is an error, which leaves the Node alone.
func (i *instances) InstanceExists(ctx context.Context, node *corev1.Node) (bool, error) {
	if i.inventory == nil {
		return true, nil
	}
	if _, err := i.machine(ctx, node); err != nil {
		return false, fmt.Errorf("node %s is kept: %w", node.Name, err)
	}
	return true, nil
}

// InstanceShutdown reports whether the machine of a node is known to be off.
// NetBox's status of a device is what people planned for it, not what it does,
// so it never says so by itself.
func (i *instances) InstanceShutdown(context.Context, *corev1.Node) (bool, error) {
	return false, nil
}

// InstanceMetadata implements cloudprovider.InstancesV2: the providerID and the
// addresses of a node. Upstream calls it until it succeeds, then takes the taint
// node.cloudprovider.kubernetes.io/uninitialized from the Node, and every five
// minutes after that for the addresses.
func (i *instances) InstanceMetadata(ctx context.Context, node *corev1.Node) (*cloudprovider.InstanceMetadata, error) {
	if i.inventory == nil {
		return selfDescribed(node), nil
	}
	machine, err := i.machine(ctx, node)
	if err != nil {
		i.warn(node, reasonMachineNotFound, err)
		return nil, err
	}
	if err := checkProvidedIPs(node, machine); err != nil {
		i.warn(node, reasonNodeAddressMismatch, err)
		return nil, err
	}
	id := providerID{kind: machine.Kind, id: machine.ID}
	return &cloudprovider.InstanceMetadata{
		ProviderID:    id.String(),
		NodeAddresses: nodeAddresses(node.Name, machine.Addresses),
	}, nil
}

// machine finds the machine of a node: by its providerID once it has one, so
// that renaming either does no harm, else by its name.
func (i *instances) machine(ctx context.Context, node *corev1.Node) (dcim.Machine, error) {
	if node.Spec.ProviderID != "" {
		id, err := parseProviderID(node.Spec.ProviderID)
		if err != nil {
			return dcim.Machine{}, err
		}
		if id.kind != "" {
			machine, err := i.inventory.MachineByID(ctx, id.kind, id.id)
			if err != nil {
				return dcim.Machine{}, fmt.Errorf("looking up %s of node %s in NetBox: %w", id, node.Name, err)
			}
			return machine, nil
		}
	}
	machine, err := i.inventory.Machine(ctx, node.Name)
	if errors.Is(err, dcim.ErrNotFound) {
		return dcim.Machine{}, fmt.Errorf(
			"NetBox has no device or virtual machine named %q, or the token may not see it: create it or name it like the node: %w", node.Name, err)
	}
	if err != nil {
		return dcim.Machine{}, fmt.Errorf("looking up node %s in NetBox: %w", node.Name, err)
	}
	return machine, nil
}

func (i *instances) warn(node *corev1.Node, reason string, err error) {
	i.recorder.Event(node, corev1.EventTypeWarning, reason, err.Error())
}

// providedIPs are the addresses of kubelet's --node-ip.
func providedIPs(node *corev1.Node) []netip.Addr {
	var out []netip.Addr
	for s := range strings.SplitSeq(node.Annotations[cloudproviderapi.AnnotationAlphaProvidedIPAddr], ",") {
		if a, err := netip.ParseAddr(strings.TrimSpace(s)); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// checkProvidedIPs makes sure that the machine has the addresses that kubelet
// was started with. Upstream insists on it too, but only in a log line.
func checkProvidedIPs(node *corev1.Node, machine dcim.Machine) error {
	known := map[netip.Addr]bool{}
	for _, a := range machine.Addresses {
		known[a] = true
	}
	for _, a := range providedIPs(node) {
		if !known[a] {
			return fmt.Errorf("kubelet's --node-ip %s is not a primary address of %s %q (id %d) in NetBox, which are %v: "+
				"set its primary IP there, or correct --node-ip", a, machine.Kind, machine.Name, machine.ID, machine.Addresses)
		}
	}
	return nil
}

// selfDescribed is the metadata of a node when there is no NetBox to ask.
func selfDescribed(node *corev1.Node) *cloudprovider.InstanceMetadata {
	id := node.Spec.ProviderID
	if id == "" {
		id = providerID{node: node.Name}.String()
	}
	addresses := node.Status.Addresses
	if len(addresses) == 0 {
		addresses = nodeAddresses(node.Name, providedIPs(node))
	}
	return &cloudprovider.InstanceMetadata{ProviderID: id, NodeAddresses: addresses}
}

func nodeAddresses(hostname string, addrs []netip.Addr) []corev1.NodeAddress {
	out := make([]corev1.NodeAddress, 0, len(addrs)+1)
	for _, a := range addrs {
		out = append(out, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a.String()})
	}
	return append(out, corev1.NodeAddress{Type: corev1.NodeHostName, Address: hostname})
}
