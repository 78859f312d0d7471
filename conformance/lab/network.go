// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
)

// baseSysctls are set in every namespace. No address waits for duplicate
// detection, and nothing is filtered by where it came from: the ways there and
// back differ with ECMP.
var baseSysctls = map[string]string{
	"net.ipv4.conf.all.rp_filter":         "0",
	"net.ipv4.conf.default.rp_filter":     "0",
	"net.ipv6.conf.all.accept_dad":        "0",
	"net.ipv6.conf.default.accept_dad":    "0",
	"net.ipv6.conf.all.accept_ra":         "0",
	"net.ipv6.conf.default.accept_ra":     "0",
	"net.ipv6.conf.all.disable_ipv6":      "0",
	"net.ipv6.conf.default.dad_transmits": "0",
}

var forwardSysctls = map[string]string{
	"net.ipv4.ip_forward":                  "1",
	"net.ipv6.conf.all.forwarding":         "1",
	"net.ipv6.conf.default.forwarding":     "1",
	"net.ipv4.conf.all.send_redirects":     "0",
	"net.ipv4.conf.default.send_redirects": "0",
}

// routerSysctls make the router spread flows, not packets or clients.
var routerSysctls = map[string]string{
	"net.ipv4.fib_multipath_hash_policy": "1",
	"net.ipv6.fib_multipath_hash_policy": "1",
}

func join(all ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range all {
		maps.Copy(out, m)
	}
	return out
}

// network makes the namespaces, the switches and the cables.
func (l *Lab) network(ctx context.Context) error {
	if err := addNetns(ctx, l.ns("sw"), baseSysctls); err != nil {
		return err
	}
	err := ipBatch(ctx, l.ns("sw"),
		"link add lan type bridge forward_delay 0 mcast_snooping 0", "link set lan up",
		"link add ext type bridge forward_delay 0 mcast_snooping 0", "link set ext up")
	if err != nil {
		return err
	}
	hosts := map[string]map[string]string{
		"fab":    baseSysctls,
		"client": baseSysctls,
		"router": join(baseSysctls, forwardSysctls, routerSysctls),
	}
	for _, n := range l.nodes {
		hosts[n.Name] = join(baseSysctls, forwardSysctls)
	}
	for name, sysctls := range hosts {
		if err := addNetns(ctx, l.ns(name), sysctls); err != nil {
			return err
		}
	}
	return l.cables(ctx)
}

func (l *Lab) cables(ctx context.Context) error {
	if err := l.cable(ctx, l.router.Host, "eth0", "lan", nodeLAN, routerHost); err != nil {
		return err
	}
	if err := l.cable(ctx, l.router.Host, "eth1", "ext", clientLAN, routerHost); err != nil {
		return err
	}
	if err := l.cable(ctx, l.fab, "eth0", "lan", nodeLAN, fabHost); err != nil {
		return err
	}
	if err := l.cable(ctx, l.client, "eth0", "ext", clientLAN, clientHost); err != nil {
		return err
	}
	for _, n := range l.nodes {
		if err := l.wire(ctx, n); err != nil {
			return err
		}
	}
	return l.routes(ctx)
}

// wire connects a node and gives it its routes.
func (l *Lab) wire(ctx context.Context, n *Node) error {
	if err := l.cable(ctx, &n.Host, "eth0", "lan", nodeLAN, nodeHost(n.index)); err != nil {
		return err
	}
	return ipBatch(ctx, n.netns, append(l.defaultRoute(nodeLAN), l.podRoutes(n.index)...)...)
}

// portName is the name of the host's port on a switch.
func portName(h *Host, sw string) string { return h.Name + "-" + sw }

// mac is the same whenever the host is connected again.
func mac(sw string, number int) string {
	return fmt.Sprintf("02:%02x:%02x:00:%02x:%02x", sw[0], sw[1], number>>8, number&0xff)
}

// cable connects an interface of the host to a switch.
func (l *Lab) cable(ctx context.Context, h *Host, dev, sw string, net dual, number int) error {
	port := portName(h, sw)
	err := ipBatch(ctx, l.ns("sw"),
		fmt.Sprintf("link add %s type veth peer name %s address %s netns %s", port, dev, mac(sw, number), h.netns),
		fmt.Sprintf("link set %s master %s up", port, sw))
	if err != nil {
		return fmt.Errorf("connecting %s to %s: %w", h.Name, sw, err)
	}
	lines := []string{fmt.Sprintf("addr add %s/%d dev %s", hostAddr(net.v4, number), net.v4.Bits(), dev)}
	if !l.opts.IPv4Only {
		lines = append(lines, fmt.Sprintf("addr add %s/%d dev %s nodad", hostAddr(net.v6, number), net.v6.Bits(), dev))
	}
	if err := ipBatch(ctx, h.netns, append(lines, "link set "+dev+" up")...); err != nil {
		return fmt.Errorf("setting %s of %s up: %w", dev, h.Name, err)
	}
	return nil
}

// routes gives the hosts that are not nodes a default route to the router, and
// those that talk to pods a route to each node's.
func (l *Lab) routes(ctx context.Context) error {
	if err := ipBatch(ctx, l.client.netns, l.defaultRoute(clientLAN)...); err != nil {
		return err
	}
	if err := ipBatch(ctx, l.router.netns, l.podRoutes(0)...); err != nil {
		return err
	}
	return ipBatch(ctx, l.fab.netns, append(l.defaultRoute(nodeLAN), l.podRoutes(0)...)...)
}

func (l *Lab) defaultRoute(net dual) []string {
	var out []string
	for _, a := range net.addresses(routerHost, l.opts.IPv4Only) {
		out = append(out, fmt.Sprintf("route add default via %s", a))
	}
	return out
}

// podRoutes lead to the pods of every node but the one numbered self.
func (l *Lab) podRoutes(self int) []string {
	var out []string
	add := func(to netip.Prefix, via netip.Addr) {
		out = append(out, fmt.Sprintf("route add %s via %s", to, via))
	}
	for i, n := range l.nodes {
		if i+1 == self {
			continue
		}
		add(podCIDR(i+1).v4, n.Addr())
		if !l.opts.IPv4Only {
			add(podCIDR(i+1).v6, n.Addr6())
		}
	}
	return out
}
