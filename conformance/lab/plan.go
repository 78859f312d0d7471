// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"net/netip"
)

// The autonomous systems of the lab.
const (
	RouterASN = 64512
	NodeASN   = 64513
)

// The lab's networks. They exist in namespaces only, so every lab has the same.
// The client is outside the nodes' /16, as upstream's tests want it.
var (
	nodeLAN   = dual{netip.MustParsePrefix("10.30.0.0/24"), netip.MustParsePrefix("fd00:30::/64")}
	clientLAN = dual{netip.MustParsePrefix("10.200.0.0/24"), netip.MustParsePrefix("fd00:200::/64")}
	podNet    = dual{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/48")}
	services  = dual{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:96::/112")}

	clusterDNS = netip.MustParseAddr("10.96.0.10")
)

// Host numbers in the LANs.
const (
	routerHost = 1
	fabHost    = 2
	clientHost = 10
)

// nodeHost is the host number of node i, counted from 1.
func nodeHost(i int) int { return 10 + i }

// dual is a network of both families.
type dual struct{ v4, v6 netip.Prefix }

// addresses of host number n; IPv6 only if dual stack is wanted.
func (d dual) addresses(n int, ipv4Only bool) []netip.Addr {
	out := []netip.Addr{hostAddr(d.v4, n)}
	if !ipv4Only {
		out = append(out, hostAddr(d.v6, n))
	}
	return out
}

// list is the networks as a flag's value.
func (d dual) list(ipv4Only bool) string {
	if ipv4Only {
		return d.v4.String()
	}
	return d.v4.String() + "," + d.v6.String()
}

// hostAddr is address number n (below 65536) of the network.
func hostAddr(p netip.Prefix, n int) netip.Addr {
	raw := p.Masked().Addr().AsSlice()
	raw[len(raw)-2] |= byte(n >> 8)
	raw[len(raw)-1] |= byte(n)
	a, _ := netip.AddrFromSlice(raw)
	return a
}

// podCIDR is the pod network of node i, counted from 1.
func podCIDR(i int) dual {
	return dual{
		v4: netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", i)),
		v6: netip.MustParsePrefix(fmt.Sprintf("fd00:244:0:%x::/64", i)),
	}
}
