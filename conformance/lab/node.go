// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Node is a node of the cluster.
type Node struct {
	Host
	index   int // from 1
	lab     *Lab
	kubelet *Daemon
	proxy   *Daemon
}

func (n *Node) dir() string { return filepath.Join(n.lab.slot.dir(), "nodes", n.Name) }

// start starts the node's kubelet and kube-proxy. Their output is in
// logs/kubelet-NAME.log and logs/kube-proxy-NAME.log of the lab's folder.
func (n *Node) start() error {
	if err := errors.Join(n.startKubelet(), n.startProxy()); err != nil {
		return fmt.Errorf("starting node %s: %w", n.Name, err)
	}
	return nil
}

func (n *Node) startKubelet() error {
	l := n.lab
	if err := os.MkdirAll(n.dir(), 0o755); err != nil {
		return err
	}
	config, err := l.pki.kubeconfig("kubelet-"+n.Name,
		pkix.Name{CommonName: "system:node:" + n.Name, Organization: []string{"system:nodes"}}, l.api.url())
	if err != nil {
		return err
	}
	serving := "kubelet-server-" + n.Name
	if err := l.pki.issue(serving, pkix.Name{CommonName: n.Name}, n.addrs, n.Name); err != nil {
		return err
	}
	images := filepath.Join(n.dir(), "images.json")
	if err := writeImages(images, l.images); err != nil {
		return err
	}
	n.kubelet, err = start(l.slot.dir(), command{name: "kubelet-" + n.Name, netns: n.netns, argv: []string{
		l.bins.path("kubelet"), "-node-name=" + n.Name, "-node-ip=" + joinAddrs(n.addrs), "-kubeconfig=" + config,
		"-dir=" + n.dir(), "-netns-prefix=" + n.netns + "-", "-pod-cidr=" + podCIDR(n.index).list(l.opts.IPv4Only),
		"-images=" + images, "-pod-init=" + l.bins.path("podinit"), "-client-ca=" + l.pki.certFile("ca"),
		"-tls-cert=" + l.pki.certFile(serving), "-tls-key=" + l.pki.keyFile(serving), "-cluster-dns=" + clusterDNS.String(),
		fmt.Sprintf("-external=%t", !l.opts.NoCloudProvider),
	}})
	return err
}

func (n *Node) startProxy() error {
	l := n.lab
	config, err := l.pki.kubeconfig("kube-proxy-"+n.Name, pkix.Name{CommonName: "system:kube-proxy"}, l.api.url())
	if err != nil {
		return err
	}
	n.proxy, err = start(l.slot.dir(), command{name: "kube-proxy-" + n.Name, netns: n.netns, argv: []string{
		l.bins.path("kube-proxy"), "--kubeconfig=" + config, "--hostname-override=" + n.Name, "--proxy-mode=nftables",
		"--cluster-cidr=" + podNet.list(l.opts.IPv4Only), "--detect-local-mode=ClusterCIDR",
		"--conntrack-max-per-core=0", // the host's, not a namespace's
		"--healthz-bind-address=0.0.0.0:10256", "--metrics-bind-address=127.0.0.1:10249",
	}})
	return err
}

func joinAddrs[T fmt.Stringer](addrs []T) string {
	out := make([]string, 0, len(addrs))
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return strings.Join(out, ",")
}

func writeImages(path string, images map[string]Image) error {
	raw, err := json.Marshal(images)
	if err != nil {
		return fmt.Errorf("encoding the images: %w", err)
	}
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		return fmt.Errorf("writing the images: %w", err)
	}
	return nil
}

// nodesReady waits until every Node is Ready, and pods can be made.
func (l *Lab) nodesReady(ctx context.Context) error {
	if _, err := l.Kubectl(ctx, "wait", "--for=create", "serviceaccount/default", "--timeout=60s"); err != nil {
		return fmt.Errorf("waiting for the default service account: %w", err)
	}
	for _, n := range l.nodes {
		_, err := l.Kubectl(ctx, "wait", "--for=create", "node/"+n.Name, "--timeout=60s")
		if err == nil {
			_, err = l.Kubectl(ctx, "wait", "--for=condition=Ready", "node/"+n.Name, "--timeout=60s")
		}
		if err != nil {
			return errors.Join(fmt.Errorf("waiting for node %s: %w", n.Name, err), n.kubelet.failed())
		}
	}
	return nil
}
