// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"fmt"
	"strconv"
	"strings"
)

// ProviderName is the name of this cloud provider, and the scheme of its
// provider ids. It must never change: a node's spec.providerID is immutable, so
// nodes with another scheme would no longer be recognised.
const ProviderName = "bm-ccm"

// Where a providerID leads.
const (
	kindDevice         = "device"
	kindVirtualMachine = "virtual-machine"
)

const (
	netboxIDPrefix = ProviderName + "://netbox/"
	nodeIDPrefix   = ProviderName + "://node/"
)

// providerID is a parsed spec.providerID: "bm-ccm://netbox/device/11",
// "bm-ccm://netbox/virtual-machine/7", or "bm-ccm://node/<name>" for a node that
// was initialised without NetBox.
type providerID struct {
	kind string // kindDevice or kindVirtualMachine; "" without NetBox
	id   int64
	node string
}

func (p providerID) String() string {
	if p.kind == "" {
		return nodeIDPrefix + p.node
	}
	return netboxIDPrefix + p.kind + "/" + strconv.FormatInt(p.id, 10)
}

// parseProviderID reads a providerID of ours.
func parseProviderID(s string) (providerID, error) {
	if node, ok := strings.CutPrefix(s, nodeIDPrefix); ok && node != "" {
		return providerID{node: node}, nil
	}
	rest, ok := strings.CutPrefix(s, netboxIDPrefix)
	kind, number, _ := strings.Cut(rest, "/")
	id, err := strconv.ParseInt(number, 10, 64)
	if !ok || err != nil || id <= 0 || (kind != kindDevice && kind != kindVirtualMachine) {
		return providerID{}, fmt.Errorf("providerID %q is not one of %s: want %s<device|virtual-machine>/<id> or %s<name>",
			s, ProviderName, netboxIDPrefix, nodeIDPrefix)
	}
	return providerID{kind: kind, id: id}, nil
}
