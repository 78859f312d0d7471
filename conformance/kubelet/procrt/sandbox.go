// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package procrt

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// sandbox is a pod: its network namespace and its files.
type sandbox struct {
	id      string
	dir     string
	netns   string // empty: the node's own
	addrs   []netip.Addr
	cfg     *runtimeapi.PodSandboxConfig
	created time.Time
	ready   bool // guarded by Runtime.mu
}

func (s *sandbox) namespaces() *runtimeapi.NamespaceOption {
	return s.cfg.GetLinux().GetSecurityContext().GetNamespaceOptions()
}

func (s *sandbox) hostNetwork() bool {
	return s.namespaces().GetNetwork() == runtimeapi.NamespaceMode_NODE
}

// RunPodSandbox implements the CRI.
func (r *Runtime) RunPodSandbox(_ context.Context, cfg *runtimeapi.PodSandboxConfig, _ string) (string, error) {
	s := &sandbox{id: r.newID("p"), cfg: cfg, created: time.Now(), ready: true}
	s.dir = r.sandboxDir(s.id)
	if err := errors.Join(os.MkdirAll(s.dir, 0o755), os.MkdirAll(cfg.LogDirectory, 0o755)); err != nil {
		return "", fmt.Errorf("making folders of pod %s: %w", cfg.Metadata.GetName(), err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "resolv.conf"), resolvConf(cfg.DnsConfig), 0o644); err != nil {
		return "", fmt.Errorf("writing resolv.conf: %w", err)
	}
	if !s.hostNetwork() {
		if err := r.connect(s); err != nil {
			return "", fmt.Errorf("connecting pod %s: %w", cfg.Metadata.GetName(), err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sandboxes[s.id] = s
	return s.id, nil
}

func (r *Runtime) connect(s *sandbox) error {
	addrs, err := r.pods.take()
	if err != nil {
		return err
	}
	ns := r.cfg.NetnsPrefix + s.id
	if err := r.pods.attach(ns, "veth-"+s.id, addrs); err != nil {
		r.pods.release(addrs)
		return err
	}
	s.netns, s.addrs = ns, addrs
	return nil
}

func resolvConf(d *runtimeapi.DNSConfig) []byte {
	var b strings.Builder
	for _, s := range d.GetServers() {
		fmt.Fprintln(&b, "nameserver", s)
	}
	if len(d.GetSearches()) > 0 {
		fmt.Fprintln(&b, "search", strings.Join(d.GetSearches(), " "))
	}
	if len(d.GetOptions()) > 0 {
		fmt.Fprintln(&b, "options", strings.Join(d.GetOptions(), " "))
	}
	return []byte(b.String())
}

// StopPodSandbox implements the CRI: it kills what still runs and removes the
// network namespace. It may be called many times.
func (r *Runtime) StopPodSandbox(ctx context.Context, id string) error {
	s, err := r.sandbox(id)
	if err != nil {
		return err
	}
	for _, c := range r.containersOf(id) {
		if err := r.StopContainer(ctx, c.id, 0); err != nil {
			return fmt.Errorf("stopping container %s: %w", c.id, err)
		}
	}
	r.mu.Lock()
	wasReady := s.ready
	s.ready = false
	r.mu.Unlock()
	if !wasReady || s.netns == "" {
		return nil
	}
	if err := r.pods.detach(s.netns); err != nil {
		return fmt.Errorf("removing the network of sandbox %s: %w", id, err)
	}
	r.pods.release(s.addrs)
	return nil
}

func (r *Runtime) containersOf(sandboxID string) []*container {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*container
	for _, c := range r.containers {
		if c.sandbox.id == sandboxID {
			out = append(out, c)
		}
	}
	return out
}

// RemovePodSandbox implements the CRI.
func (r *Runtime) RemovePodSandbox(ctx context.Context, id string) error {
	if err := r.StopPodSandbox(ctx, id); err != nil {
		return err
	}
	for _, c := range r.containersOf(id) {
		if err := r.RemoveContainer(ctx, c.id); err != nil {
			return err
		}
	}
	r.mu.Lock()
	delete(r.sandboxes, id)
	r.mu.Unlock()
	return os.RemoveAll(r.sandboxDir(id))
}

func (s *sandbox) state() runtimeapi.PodSandboxState {
	if s.ready {
		return runtimeapi.PodSandboxState_SANDBOX_READY
	}
	return runtimeapi.PodSandboxState_SANDBOX_NOTREADY
}

func (s *sandbox) network() *runtimeapi.PodSandboxNetworkStatus {
	n := &runtimeapi.PodSandboxNetworkStatus{}
	for i, a := range s.addrs {
		if i == 0 {
			n.Ip = a.String()
			continue
		}
		n.AdditionalIps = append(n.AdditionalIps, &runtimeapi.PodIP{Ip: a.String()})
	}
	return n
}

// PodSandboxStatus implements the CRI.
func (r *Runtime) PodSandboxStatus(_ context.Context, id string, _ bool) (*runtimeapi.PodSandboxStatusResponse, error) {
	s, err := r.sandbox(id)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return &runtimeapi.PodSandboxStatusResponse{Status: &runtimeapi.PodSandboxStatus{
		Id: id, Metadata: s.cfg.Metadata, State: s.state(), CreatedAt: s.created.UnixNano(),
		Network:     s.network(),
		Linux:       &runtimeapi.LinuxPodSandboxStatus{Namespaces: &runtimeapi.Namespace{Options: s.namespaces()}},
		Labels:      s.cfg.Labels,
		Annotations: s.cfg.Annotations,
	}}, nil
}

// ListPodSandbox implements the CRI. The kubelet relies on the filters.
func (r *Runtime) ListPodSandbox(_ context.Context, f *runtimeapi.PodSandboxFilter) ([]*runtimeapi.PodSandbox, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*runtimeapi.PodSandbox
	for _, s := range r.sandboxes {
		if !s.selected(f) {
			continue
		}
		out = append(out, &runtimeapi.PodSandbox{
			Id: s.id, Metadata: s.cfg.Metadata, State: s.state(), CreatedAt: s.created.UnixNano(),
			Labels: s.cfg.Labels, Annotations: s.cfg.Annotations,
		})
	}
	return out, nil
}

func (s *sandbox) selected(f *runtimeapi.PodSandboxFilter) bool {
	if f == nil {
		return true
	}
	return (f.Id == "" || f.Id == s.id) &&
		(f.State == nil || f.State.State == s.state()) &&
		matches(f.LabelSelector, s.cfg.Labels)
}
