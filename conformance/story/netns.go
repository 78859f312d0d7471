// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package story

import (
	"context"
	"net"

	"github.com/bm-ccm/bm-ccm/conformance/lab"
	"github.com/bm-ccm/bm-ccm/conformance/netns"
)

// dialFunc is net.Dialer's DialContext.
type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// listenOn listens at an address of the host.
func listenOn(h *lab.Host, address string) (l net.Listener, err error) {
	err = netns.Do(h.Netns(), func() error {
		var err error
		l, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
		return err
	})
	return l, err
}

// dialFrom connects from the host.
func dialFrom(h *lab.Host) dialFunc { return netns.Dial(h.Netns()) }
