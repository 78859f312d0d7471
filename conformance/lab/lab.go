// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Lab is a running cluster.
type Lab struct {
	admin
	opts   Options
	slot   *slot
	bins   binaries
	images map[string]Image
	pki    *pki
	api    *apiServer
	fab    *Host
	client *Host
	router *Router
	nodes  []*Node
	say    func(string, ...any)
}

// startTimeout bounds the start of a lab whose binaries are there.
const startTimeout = 2 * time.Minute

// Start makes a lab and returns when its nodes are Ready. If it fails, nothing
// is left. Close removes the lab, unless Options.Keep was set.
func Start(ctx context.Context, opts Options) (*Lab, error) {
	opts.fill()
	if opts.Nodes < 1 || opts.Nodes > MaxNodes {
		return nil, fmt.Errorf("%d nodes: a lab has 1 to %d", opts.Nodes, MaxNodes)
	}
	if err := Preflight(); err != nil {
		return nil, err
	}
	l := &Lab{opts: opts, say: newProgress(opts.Log).say}
	if err := l.prepareBinaries(ctx); err != nil {
		return nil, err
	}
	var err error
	if l.slot, err = claimAny(opts.Slot, l.say); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := l.up(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Lab) prepareBinaries(ctx context.Context) error {
	b, err := newBuilder(l.say)
	if err != nil {
		return err
	}
	if l.bins, err = b.build(ctx, ownPackages); err != nil {
		return err
	}
	l.images = l.bins.images()
	if l.opts.Product {
		path, err := b.product(ctx)
		if err != nil {
			return err
		}
		l.images[ProductImage] = Image{Command: []string{path}}
	}
	maps.Copy(l.images, l.opts.Images)
	return nil
}

// images are the images every lab knows.
func (b binaries) images() map[string]Image {
	agnhost := Image{Command: []string{b.path("agnhost")}}
	return map[string]Image{
		"registry.k8s.io/e2e-test-images/agnhost": agnhost,
		"docker.io/luksa/kiada":                   {Command: []string{b.path("workload"), "kiada"}},
		// The kiada of above serves HTTPS itself.
		"docker.io/luksa/kiada-ssl-proxy": {Command: []string{"/usr/bin/sleep", "infinity"}},
		"docker.io/library/mysql":         {Command: []string{b.path("workload"), "mysql"}},
	}
}

// up makes the lab in an empty slot.
func (l *Lab) up(ctx context.Context) error {
	if err := os.MkdirAll(l.slot.dir(), 0o755); err != nil {
		return fmt.Errorf("making the lab's folder: %w", err)
	}
	l.describe()
	if err := l.save(); err != nil {
		return err
	}
	if err := l.network(ctx); err != nil {
		return err
	}
	l.say("slot %d: network of %d nodes, router and client", l.slot.n, len(l.nodes))
	if err := l.startAPI(ctx); err != nil {
		return err
	}
	l.say("kube-apiserver ready")
	if err := l.managers(); err != nil {
		return err
	}
	for _, n := range l.nodes {
		if err := n.start(); err != nil {
			return err
		}
	}
	if err := l.router.start(ctx, l.slot.dir(), l.opts.IPv4Only); err != nil {
		return err
	}
	if err := l.nodesReady(ctx); err != nil {
		return err
	}
	l.say("nodes ready")
	return nil
}

// describe fills in what follows from the options and the slot.
func (l *Lab) describe() {
	host := func(name string, addrs []netip.Addr) *Host { return &Host{Name: name, netns: l.ns(name), addrs: addrs} }
	lan := func(n int) []netip.Addr { return nodeLAN.addresses(n, l.opts.IPv4Only) }
	l.fab = host("fab", lan(fabHost))
	l.client = host("client", clientLAN.addresses(clientHost, l.opts.IPv4Only))
	l.router = &Router{Host: host("router", lan(routerHost)), dir: filepath.Join(l.slot.dir(), "frr")}
	for i := range l.opts.Nodes {
		h := host(fmt.Sprintf("n%d", i+1), lan(nodeHost(i+1)))
		l.nodes = append(l.nodes, &Node{Host: *h, index: i + 1, lab: l})
	}
	l.admin = admin{binary: l.bins.path("kubectl"), kubeconfig: kubeconfigPath(l.slot)}
	l.api = &apiServer{
		dir: l.slot.dir(), netns: l.fab.netns, bins: l.bins, addr: l.fab.Addr(),
		port: apiPort, etcd: 2379, peer: 2380, v4only: l.opts.IPv4Only, lab: true,
	}
}

func (l *Lab) ns(name string) string { return l.slot.prefix() + name }

// startAPI starts etcd and kube-apiserver and waits for them, through the
// forwarder that the administrator uses.
func (l *Lab) startAPI(ctx context.Context) error {
	var err error
	if l.pki, err = newPKI(filepath.Join(l.slot.dir(), "pki")); err != nil {
		return err
	}
	l.api.pki = l.pki
	if err := l.api.start(); err != nil {
		return err
	}
	at, err := l.Forward("api", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), apiPort))
	if err != nil {
		return err
	}
	url := "https://" + at.String()
	name := pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}}
	if l.kubeconfig, err = l.pki.kubeconfig("admin", name, url); err != nil {
		return err
	}
	return l.api.ready(ctx, url)
}

// Close removes the lab: every process, namespace, mount and file.
func (l *Lab) Close() error {
	return errors.Join(l.slot.destroy(), l.slot.release())
}

// Slot is the number of the lab's slot.
func (l *Lab) Slot() int { return l.slot.n }

// Dir is the lab's folder; logs are in its subfolder logs.
func (l *Lab) Dir() string { return l.slot.dir() }

// Fab is the host of the control plane and of what else belongs to the site.
func (l *Lab) Fab() *Host { return l.fab }

// FabIP is its address, which nodes and pods reach.
func (l *Lab) FabIP() netip.Addr { return l.fab.Addr() }

// Client is the host on the far side of the router.
func (l *Lab) Client() *Host { return l.client }

// Router is the FRR router.
func (l *Lab) Router() *Router { return l.router }

// Host finds a host by name: fab, router, client, n1, n2 and so on.
func (l *Lab) Host(name string) (*Host, error) {
	hosts := []*Host{l.fab, l.router.Host, l.client}
	for _, n := range l.nodes {
		hosts = append(hosts, &n.Host)
	}
	var names []string
	for _, h := range hosts {
		if h.Name == name {
			return h, nil
		}
		names = append(names, h.Name)
	}
	return nil, fmt.Errorf("no host %q in the lab: there are %s", name, strings.Join(names, ", "))
}

// Node is node i, counted from 1.
func (l *Lab) Node(i int) *Node { return l.nodes[i-1] }

// Nodes are all nodes.
func (l *Lab) Nodes() []*Node { return l.nodes }

// RunInFab runs a daemon in the fab namespace until it is stopped or the lab
// is closed. env is in addition to this process's environment. Its output goes
// to logs/NAME.log in Dir.
func (l *Lab) RunInFab(name string, argv, env []string) (*Daemon, error) {
	return start(l.slot.dir(), command{name: name, netns: l.fab.netns, argv: argv, env: env})
}
