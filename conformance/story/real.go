// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package story

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"

	"github.com/bm-ccm/bm-ccm/conformance/lab"
	"github.com/bm-ccm/bm-ccm/conformance/netbox"
)

// RealNetBox starts a real NetBox in the namespace of the control plane and
// seeds it with the machines of the lab.
func RealNetBox(ctx context.Context, l *lab.Lab, log io.Writer) (*IPAM, error) {
	dir, err := os.MkdirTemp("", "bm-ccm-netbox-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for NetBox: %w", err)
	}
	n := &IPAM{Prefix: labPrefix, Cluster: labCluster, stops: []func() error{func() error { return os.RemoveAll(dir) }}}
	server, err := netbox.Start(ctx, netbox.Options{
		Dir: dir, Listen: net.JoinHostPort(l.FabIP().String(), netboxPort), NetNS: l.Fab().Netns(), Log: log,
	})
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	n.stops = append(n.stops, server.Stop)
	seeded, err := netbox.Seed(ctx, server.Target(), netbox.Spec{
		Cluster: labCluster, Devices: devices(l),
		Prefixes: []netbox.Prefix{{CIDR: netip.MustParsePrefix(labPrefix), Description: "load balancers of the lab"}},
	})
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	n.URL, n.Token, n.client = server.URL, seeded.Token, server.Client
	n.Web = fmt.Sprintf("NetBox %s, log in as %s / %s", server.Version, server.WebUser, server.WebPassword)
	return n, nil
}

// devices are the machines of the lab's nodes.
func devices(l *lab.Lab) []netbox.Device {
	var out []netbox.Device
	for _, node := range l.Nodes() {
		d := netbox.Device{Name: node.Name, Addrs: []netip.Prefix{netip.PrefixFrom(node.Addr(), 24)}}
		if a := node.Addr6(); a.IsValid() {
			d.Addrs = append(d.Addrs, netip.PrefixFrom(a, 64))
		}
		out = append(out, d)
	}
	return out
}
