// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

const netnsDir = "/run/netns"

// inNetNS calls f on a thread that is in the namespace. What f starts, or which sockets it makes, are in the namespace. The empty
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
	go func() { result <- onThreadIn(ns, f) }()
	return <-result
}

// onThreadIn goes back to the old namespace, rather than let the thread end
// with the goroutine: the first thread of a process cannot end, and would stay
// in the namespace.
func onThreadIn(ns *os.File, f func() error) error {
	runtime.LockOSThread()
	old, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("opening the own network namespace: %w", err)
	}
	defer old.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("entering network namespace %s: %w", ns.Name(), err)
	}
	err = f()
	if back := unix.Setns(int(old.Fd()), unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, fmt.Errorf("leaving network namespace %s: %w", ns.Name(), back)) // still locked: nothing else runs on it
	}
	runtime.UnlockOSThread()
	return err
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
