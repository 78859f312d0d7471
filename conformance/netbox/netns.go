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

	"github.com/bm-ccm/bm-ccm/conformance/netns"
)

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
	err = netns.Do(name, func() error {
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
