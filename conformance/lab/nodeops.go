// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Unplug pulls the node's cable: both ends lose their carrier.
func (n *Node) Unplug(ctx context.Context) error { return n.port(ctx, "down") }

// Plug puts the cable back.
func (n *Node) Plug(ctx context.Context) error { return n.port(ctx, "up") }

func (n *Node) port(ctx context.Context, state string) error {
	return ipBatch(ctx, n.lab.ns("sw"), fmt.Sprintf("link set %s %s", portName(&n.Host, "lan"), state))
}

// Silence makes the switch drop the node's frames while its link stays up, as
// a fault somewhere in the network does. Nobody is told.
func (n *Node) Silence(ctx context.Context) error { return n.bridgePort(ctx, "disabled") }

// Unsilence ends Silence.
func (n *Node) Unsilence(ctx context.Context) error { return n.bridgePort(ctx, "forwarding") }

func (n *Node) bridgePort(ctx context.Context, state string) error {
	sw := &Host{Name: "the switch", netns: n.lab.ns("sw")}
	_, err := sw.Exec(ctx, "bridge", "link", "set", "dev", portName(&n.Host, "lan"), "state", state)
	return err
}

// PowerOff ends the node as pulling its power does: no process says goodbye,
// and nothing in its memory is left. Its Node object stays.
func (n *Node) PowerOff(ctx context.Context) error {
	// The kernel takes its time to remove a namespace, which forwards packets
	// to the end.
	if err := ipBatch(ctx, n.lab.ns("sw"), "link del "+portName(&n.Host, "lan")); err != nil {
		return fmt.Errorf("powering %s off: %w", n.Name, err)
	}
	if err := endAll(n.members); err != nil {
		return fmt.Errorf("powering %s off: %w", n.Name, err)
	}
	pods, err := netnsNames(n.netns + "-")
	if err != nil {
		return err
	}
	err = errors.Join(unmountBelow(n.dir()), deleteNetns(append(pods, n.netns)), os.RemoveAll(n.dir()))
	for _, name := range []string{"kubelet-", "kube-proxy-"} {
		if rerr := os.Remove(recordFile(n.lab.slot.dir(), name+n.Name)); !errors.Is(rerr, os.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	if err != nil {
		return fmt.Errorf("powering %s off: %w", n.Name, err)
	}
	return nil
}

// members are the processes of the node and its pods.
func (n *Node) members() ([]process, error) {
	pods, err := netnsNames(n.netns + "-")
	if err != nil {
		return nil, err
	}
	return membersOf(append(pods, n.netns))
}

// PowerOn boots a node that was powered off. It is Ready some seconds later.
func (n *Node) PowerOn(ctx context.Context) error {
	l := n.lab
	if err := addNetns(ctx, n.netns, join(baseSysctls, forwardSysctls)); err != nil {
		return fmt.Errorf("powering %s on: %w", n.Name, err)
	}
	if err := l.wire(ctx, n); err != nil {
		return fmt.Errorf("powering %s on: %w", n.Name, err)
	}
	return n.start()
}

// Ready waits until the node's Ready condition is as wanted: "True", or
// "Unknown" for one whose kubelet is silent.
func (n *Node) Ready(ctx context.Context, status string, timeout time.Duration) error {
	_, err := n.lab.Kubectl(ctx, "wait", "--for=condition=Ready="+status, "node/"+n.Name, "--timeout="+timeout.String())
	return err
}

func recordFile(dir, name string) string { return filepath.Join(dir, "procs", name+".json") }
