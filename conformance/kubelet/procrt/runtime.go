// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package procrt

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
)

// Config is what a Runtime needs to know of its node.
type Config struct {
	// Dir holds the files of sandboxes.
	Dir string
	// NetnsPrefix begins the names of the pods' network namespaces.
	NetnsPrefix string
	// PodCIDRs are the node's pod networks, one or two, IPv4 first. The first
	// address of each is the gateway.
	PodCIDRs []netip.Prefix
	// Images maps a repository (no tag) to what its containers run.
	Images map[string]Image
	// NodeName is the host name of pods on the node's network.
	NodeName string
	// PodInit is the path of the command that sets a container up (cmd/podinit).
	PodInit string
}

// Runtime implements the CRI's runtime service in process. The embedded
// interface makes every call that is not implemented here panic, loudly.
type Runtime struct {
	internalapi.RuntimeService
	cfg    Config
	pods   *podNetwork
	stream streaming.Server

	mu         sync.Mutex
	next       int
	sandboxes  map[string]*sandbox
	containers map[string]*container
}

// New returns a Runtime whose streaming server (exec, port-forward) listens on
// a free port of 127.0.0.1.
func New(cfg Config) (*Runtime, error) {
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the runtime's folder: %w", err)
	}
	r := &Runtime{
		cfg:        cfg,
		pods:       newPodNetwork(cfg.NetnsPrefix, cfg.PodCIDRs),
		sandboxes:  map[string]*sandbox{},
		containers: map[string]*container{},
	}
	if err := r.pods.prepare(); err != nil {
		return nil, fmt.Errorf("preparing the pod network: %w", err)
	}
	sc := streaming.DefaultConfig
	sc.Addr = "127.0.0.1:0"
	var err error
	if r.stream, err = streaming.NewServer(sc, streamer{r}); err != nil {
		return nil, fmt.Errorf("making the streaming server: %w", err)
	}
	return r, nil
}

// ServeStreams serves exec and port-forward until the process ends.
func (r *Runtime) ServeStreams() error { return r.stream.Start(true) }

// Images is the runtime's image service.
func (r *Runtime) Images() internalapi.ImageManagerService { return imageService{r} }

func (r *Runtime) newID(kind string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	return fmt.Sprintf("%s%d", kind, r.next)
}

func (r *Runtime) sandbox(id string) (*sandbox, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.sandboxes[id]; s != nil {
		return s, nil
	}
	return nil, status.Errorf(codes.NotFound, "sandbox %s not found", id)
}

func (r *Runtime) container(id string) (*container, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.containers[id]; c != nil {
		return c, nil
	}
	return nil, status.Errorf(codes.NotFound, "container %s not found", id)
}

func (r *Runtime) sandboxDir(id string) string { return filepath.Join(r.cfg.Dir, id) }

// Version implements the CRI.
func (r *Runtime) Version(context.Context, string) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{Version: "0.1.0", RuntimeName: "procrt", RuntimeVersion: "1.0.0", RuntimeApiVersion: "v1"}, nil
}

// Status implements the CRI: runtime and network are ready from the start.
func (r *Runtime) Status(context.Context, bool) (*runtimeapi.StatusResponse, error) {
	return &runtimeapi.StatusResponse{Status: &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{
		{Type: runtimeapi.RuntimeReady, Status: true},
		{Type: runtimeapi.NetworkReady, Status: true},
	}}}, nil
}

// RuntimeConfig implements the CRI.
func (r *Runtime) RuntimeConfig(context.Context) (*runtimeapi.RuntimeConfigResponse, error) {
	return &runtimeapi.RuntimeConfigResponse{}, nil
}

// UpdateRuntimeConfig implements the CRI. The pod networks come from Config.
func (r *Runtime) UpdateRuntimeConfig(context.Context, *runtimeapi.RuntimeConfig) error { return nil }

// UpdateContainerResources implements the CRI. There are no cgroups.
func (r *Runtime) UpdateContainerResources(context.Context, string, *runtimeapi.ContainerResources) error {
	return nil
}

// ReopenContainerLog implements the CRI. Logs are never rotated.
func (r *Runtime) ReopenContainerLog(context.Context, string) error { return nil }

// Close implements the CRI.
func (r *Runtime) Close(context.Context) error { return nil }

// ContainerStats implements the CRI; there are no figures without cgroups.
func (r *Runtime) ContainerStats(context.Context, string) (*runtimeapi.ContainerStats, error) {
	return &runtimeapi.ContainerStats{}, nil
}

// ListContainerStats implements the CRI.
func (r *Runtime) ListContainerStats(context.Context, *runtimeapi.ContainerStatsFilter) ([]*runtimeapi.ContainerStats, error) {
	return nil, nil
}

// PodSandboxStats implements the CRI.
func (r *Runtime) PodSandboxStats(context.Context, string) (*runtimeapi.PodSandboxStats, error) {
	return &runtimeapi.PodSandboxStats{}, nil
}

// ListPodSandboxStats implements the CRI.
func (r *Runtime) ListPodSandboxStats(context.Context, *runtimeapi.PodSandboxStatsFilter) ([]*runtimeapi.PodSandboxStats, error) {
	return nil, nil
}

// matches reports whether labels have every pair of the selector.
func matches(selector, labels map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return true
}
