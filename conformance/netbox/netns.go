// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

const netnsDir = "/run/netns"

// inNetNS calls f on a thread that is in the namespace and ends afterwards.
// What f starts, or which sockets it makes, are in the namespace. The empty
// name is the caller's.
func inNetNS(name string, f func() error) error {
	if name == "" {
		return f()
	}
	ns, err := os.Open(filepath.Join(netnsDir, name))
	if err != nil {
		return fmt.Errorf("opening network namespace %s: %w", name, err)
	}
	defer ns.Close()
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("entering network namespace %s: %w", name, err)
			return
		}
		result <- f()
	}()
	return <-result
}

// raiseLoopback makes sure that the namespace has a loopback that is up, which
// a new one has not.
func raiseLoopback(ctx context.Context, name string) error {
	if name == "" {
		return nil
	}
	out, err := exec.CommandContext(ctx, "ip", "-n", name, "link", "set", "lo", "up").CombinedOutput()
	if err != nil {
		return fmt.Errorf("raising loopback in network namespace %s: %w: %s", name, err, bytes.TrimSpace(out))
	}
	return nil
}

// listenIn opens a listening socket in the namespace, as a file to hand on.
func listenIn(ctx context.Context, name, address string) (f *os.File, at string, err error) {
	err = inNetNS(name, func() error {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err != nil {
			return fmt.Errorf("listening for the web server: %w", err)
		}
		defer l.Close()
		at = l.Addr().String()
		f, err = l.(*net.TCPListener).File()
		return err
	})
	return f, at, err
}

// dialIn dials from within the namespace.
func dialIn(name string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (c net.Conn, err error) {
		err = inNetNS(name, func() error {
			c, err = new(net.Dialer).DialContext(ctx, network, address)
			return err
		})
		return c, err
	}
}
