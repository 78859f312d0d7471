// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package procrt

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
)

// podNetwork gives every pod a veth pair and one address per family. Nothing
// is bridged: each pod is routed, so that packets between two pods of one node
// pass its forwarding hooks, where kube-proxy works.
type podNetwork struct {
	prefix string
	cidrs  []netip.Prefix

	mu    sync.Mutex
	next  []netip.Addr
	inUse map[netip.Addr]bool
}

// gateway6 is every pod's IPv6 gateway: the node's end of the veth pair.
const gateway6 = "fe80::1"

func newPodNetwork(prefix string, cidrs []netip.Prefix) *podNetwork {
	n := &podNetwork{prefix: prefix, cidrs: cidrs, inUse: map[netip.Addr]bool{}}
	for _, c := range cidrs {
		n.next = append(n.next, gatewayOf(c).Next())
	}
	return n
}

func gatewayOf(c netip.Prefix) netip.Addr { return c.Masked().Addr().Next() }

// prepare makes the kernel drop packets to pods that are gone, instead of
// sending them back to the router.
func (n *podNetwork) prepare() error {
	for _, c := range n.cidrs {
		if err := ip("route", "replace", "unreachable", c.Masked().String()); err != nil {
			return err
		}
	}
	return nil
}

// take returns one free address per family. Addresses are used round robin, so
// that one that was just freed is not at once another pod's.
func (n *podNetwork) take() ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []netip.Addr
	for i := range n.cidrs {
		a, err := n.takeOne(i)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	for _, a := range out {
		n.inUse[a] = true
	}
	return out, nil
}

func (n *podNetwork) takeOne(i int) (netip.Addr, error) {
	first := gatewayOf(n.cidrs[i]).Next()
	for range 250 {
		a := n.next[i]
		if n.next[i] = a.Next(); !n.cidrs[i].Contains(n.next[i].Next()) {
			n.next[i] = first
		}
		if !n.inUse[a] {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("no pod address free in %s", n.cidrs[i])
}

func (n *podNetwork) release(addrs []netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range addrs {
		delete(n.inUse, a)
	}
}

// attach makes namespace ns and connects it to the node by a veth pair whose
// end on the node is called link.
func (n *podNetwork) attach(ns, link string, addrs []netip.Addr) error {
	if err := ip("netns", "add", ns); err != nil {
		return err
	}
	gw4 := gatewayOf(n.cidrs[0])
	node := []string{fmt.Sprintf("link add %s type veth peer name eth0 netns %s", link, ns)}
	node = append(node, fmt.Sprintf("addr add %s/32 dev %s", gw4, link), "link set "+link+" up")
	pod := []string{"link set lo up", "link set eth0 up"}
	for _, a := range addrs {
		node = append(node, fmt.Sprintf("route add %s/%d dev %s", a, a.BitLen(), link))
		if a.Is4() {
			pod = append(pod, fmt.Sprintf("addr add %s/32 dev eth0", a), fmt.Sprintf("route add %s dev eth0 scope link", gw4), fmt.Sprintf("route add default via %s", gw4))
			continue
		}
		node = append(node, fmt.Sprintf("addr add %s/64 dev %s nodad", gateway6, link))
		pod = append(pod, fmt.Sprintf("addr add %s/128 dev eth0 nodad", a), fmt.Sprintf("route add default via %s dev eth0", gateway6))
	}
	if err := errors.Join(ipBatch("", node), ipBatch(ns, pod)); err != nil {
		return errors.Join(err, n.detach(ns))
	}
	return nil
}

// detach removes the namespace and with it the veth pair.
func (n *podNetwork) detach(ns string) error {
	if _, err := os.Stat(netnsPath(ns)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return ip("netns", "del", ns)
}

func netnsPath(ns string) string { return "/run/netns/" + ns }

func ip(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// ipBatch runs lines of iproute2 in one process, in namespace ns if not empty.
func ipBatch(ns string, lines []string) error {
	args := []string{"-batch", "-"}
	if ns != "" {
		args = append([]string{"-n", ns}, args...)
	}
	cmd := exec.Command("ip", args...)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip -batch in %q: %w: %s", ns, err, bytes.TrimSpace(out))
	}
	return nil
}
