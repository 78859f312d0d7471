// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"net"
	"net/netip"
	"os"
)

// Forward shows a TCP server of the fab namespace on 127.0.0.1 of the machine,
// at the address that is returned. It ends with the lab.
func (l *Lab) Forward(name string, server netip.AddrPort) (netip.AddrPort, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("listening for %s: %w", name, err)
	}
	defer listener.Close() // the daemon holds its own
	tcp, ok := listener.(*net.TCPListener)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("listening for %s: unexpected %T", name, listener)
	}
	f, err := tcp.File()
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("listening for %s: %w", name, err)
	}
	defer f.Close()
	files := []*os.File{f}
	if l.opts.Keep {
		files = append(files, l.slot.lock) // whoever holds it is the living lab
	}
	if _, err = start(l.slot.dir(), command{
		name: "forward-" + name, netns: l.fab.netns, files: files,
		argv: []string{l.bins.path("forward"), server.String()},
	}); err != nil {
		return netip.AddrPort{}, err
	}
	return netip.ParseAddrPort(listener.Addr().String())
}
