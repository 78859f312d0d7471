// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// Dir is where iproute2 keeps the names of namespaces.
const Dir = "/run/netns"

// Do calls f on a thread that is in the namespace of that name. A process that f
// starts and a socket that it makes stay there. The empty name is the caller's
// namespace.
func Do(name string, f func() error) error {
	if name == "" {
		return f()
	}
	ns, err := os.Open(filepath.Join(Dir, name))
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

// Dial returns a DialContext that connects from within the namespace. Addresses
// must be literal: looking a name up would leave it.
func Dial(name string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (c net.Conn, err error) {
		err = Do(name, func() error {
			c, err = new(net.Dialer).DialContext(ctx, network, address)
			return err
		})
		return c, err
	}
}
