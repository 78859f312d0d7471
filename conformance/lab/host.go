// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
)

// Host is a machine of the lab: a network namespace.
type Host struct {
	// Name is n1, client, fab, router.
	Name  string
	netns string
	addrs []netip.Addr
}

// Addr is the host's IPv4 address.
func (h *Host) Addr() netip.Addr { return h.addrs[0] }

// Addr6 is the host's IPv6 address; not valid if the lab is IPv4 only.
func (h *Host) Addr6() netip.Addr {
	if len(h.addrs) < 2 {
		return netip.Addr{}
	}
	return h.addrs[1]
}

// Netns is the name of the host's network namespace, for ip netns exec.
func (h *Host) Netns() string { return h.netns }

// Command makes a command that runs on the host. It shares the file system
// with the machine, only the network is the host's own.
func (h *Host) Command(ctx context.Context, argv ...string) *exec.Cmd {
	argv = inNetns(h.netns, argv)
	return exec.CommandContext(ctx, argv[0], argv[1:]...)
}

// Exec runs a command on the host and returns its standard output. An error
// says what the command wrote to standard error.
func (h *Host) Exec(ctx context.Context, argv ...string) (string, error) {
	cmd := h.Command(ctx, argv...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s on %s: %w: %s", strings.Join(argv, " "), h.Name, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}
