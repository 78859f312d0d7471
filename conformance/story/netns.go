// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package story

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/bm-ccm/bm-ccm/conformance/lab"
)

// dialFunc is net.Dialer's DialContext.
type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// onHost runs f in the network namespace of a host. A socket stays in the
// namespace that it was made in, whoever uses it later.
func onHost(h *lab.Host, f func() error) error {
	ns, err := os.Open(filepath.Join("/run/netns", h.Netns()))
	if err != nil {
		return fmt.Errorf("opening the network namespace of %s: %w", h.Name, err)
	}
	defer ns.Close()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("entering the network namespace of %s: %w", h.Name, err)
			return
		}
		done <- f()
	}()
	return <-done
}

// listenOn listens at an address of the host.
func listenOn(h *lab.Host, address string) (l net.Listener, err error) {
	err = onHost(h, func() error {
		var err error
		l, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
		return err
	})
	return l, err
}

// dialFrom connects from the host. Addresses must be literal: looking a name up
// would leave the namespace.
func dialFrom(h *lab.Host) dialFunc {
	return func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = onHost(h, func() error {
			var err error
			conn, err = (&net.Dialer{FallbackDelay: -1}).DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}
}
