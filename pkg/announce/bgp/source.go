// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"fmt"
	"net"
	"net/netip"
)

// sourceFor returns the local address for a session with a router: the address
// that the kernel takes for packets to it, unless the same interface also has
// one of preferred, which are the InternalIPs of the Node. Leaving the choice to
// the kernel alone would, for IPv6, often take an address that changes (RFC
// 8981) or one that the router does not know as a neighbor. An InternalIP of
// another interface is not taken: without multihop the router would see a
// neighbor that is not on the link, and refuse.
func sourceFor(router netip.Addr, preferred []netip.Addr) (netip.Addr, error) {
	chosen, err := kernelSource(router)
	if err != nil {
		return netip.Addr{}, err
	}
	onLink := addressesBeside(chosen)
	for _, p := range preferred {
		if p.Is4() == router.Is4() && onLink[p] {
			return p, nil
		}
	}
	return chosen, nil
}

// kernelSource asks the kernel which address it would send from. Connecting a
// UDP socket sends nothing but makes the kernel choose route and source as for
// TCP, with all rules and tables of the host. The port does not matter to it.
func kernelSource(router netip.Addr) (netip.Addr, error) {
	// An address that is not routed fails at once, so there is nothing for a
	// deadline to end.
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(router, 179)))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("no route to %s: %w", router, err)
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}

// addressesBeside returns the addresses of the interface that has addr. An
// interface that cannot be read has none: the kernel's choice then stands.
func addressesBeside(addr netip.Addr) map[netip.Addr]bool {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil
	}
	for _, i := range interfaces {
		if found := interfaceAddresses(i); found[addr] {
			return found
		}
	}
	return nil
}

// interfaceAddresses returns the addresses of one interface as a set. The
// interface may go away while we look (pods come and go on a node): then it has
// none.
func interfaceAddresses(i net.Interface) map[netip.Addr]bool {
	addrs, err := i.Addrs()
	if err != nil {
		return nil
	}
	found := make(map[netip.Addr]bool, len(addrs))
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			found[p.Addr().Unmap()] = true
		}
	}
	return found
}
