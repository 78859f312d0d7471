// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"path/filepath"

	noopoteltrace "go.opentelemetry.io/otel/trace/noop"
	"k8s.io/apimachinery/pkg/types"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	kubeletapp "k8s.io/kubernetes/cmd/kubelet/app"
	"k8s.io/kubernetes/cmd/kubelet/app/options"
	"k8s.io/kubernetes/pkg/kubelet"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"
	cadvisortest "k8s.io/kubernetes/pkg/kubelet/cadvisor/testing"
	"k8s.io/kubernetes/pkg/kubelet/cm"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	kubeletutil "k8s.io/kubernetes/pkg/kubelet/util"
	"k8s.io/kubernetes/pkg/util/oom"
	"k8s.io/kubernetes/pkg/volume"
	"k8s.io/kubernetes/pkg/volume/configmap"
	"k8s.io/kubernetes/pkg/volume/downwardapi"
	"k8s.io/kubernetes/pkg/volume/emptydir"
	"k8s.io/kubernetes/pkg/volume/hostpath"
	"k8s.io/kubernetes/pkg/volume/projected"
	"k8s.io/kubernetes/pkg/volume/secret"
	"k8s.io/kubernetes/pkg/volume/util/hostutil"
	"k8s.io/kubernetes/pkg/volume/util/subpath"
	"k8s.io/mount-utils"

	"github.com/bm-ccm/bm-ccm/conformance/kubelet/procrt"
)

const kubeletPort = 10250

// run starts the kubelet and returns; it goes on until the process ends.
func run(ctx context.Context, s *settings) error {
	server, err := s.server()
	if err != nil {
		return err
	}
	rest, err := clientcmd.BuildConfigFromFlags("", s.kubeconfig)
	if err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	rest.QPS, rest.Burst = 50, 100 // the kubelet's own defaults
	client, err := clientset.NewForConfig(rest)
	if err != nil {
		return fmt.Errorf("making the client: %w", err)
	}
	rt, err := s.runtime()
	if err != nil {
		return err
	}
	deps, err := s.dependencies(ctx, server, client, rt)
	if err != nil {
		return err
	}
	return kubeletapp.RunKubelet(ctx, server, deps)
}

// server is the kubelet's configuration.
func (s *settings) server() (*options.KubeletServer, error) {
	f := options.NewKubeletFlags()
	f.RootDirectory = filepath.Join(s.dir, "kubelet")
	f.CertDirectory = filepath.Join(s.dir, "pki")
	f.HostnameOverride, f.NodeIP = s.nodeName, s.nodeIPs
	if s.external {
		f.CloudProvider = "external"
	}
	c, err := options.NewKubeletConfiguration()
	if err != nil {
		return nil, fmt.Errorf("making the default configuration: %w", err)
	}
	c.Address, c.Port, c.ReadOnlyPort, c.HealthzPort = "::", kubeletPort, 0, 0
	c.TLSCertFile, c.TLSPrivateKeyFile = s.certFile, s.keyFile
	c.Authentication.X509.ClientCAFile = s.clientCA
	c.Authentication.Anonymous.Enabled = false
	c.Authorization.Mode = kubeletconfig.KubeletAuthorizationModeWebhook
	c.StaticPodPath = ""
	c.CgroupsPerQOS = false
	c.EnforceNodeAllocatable = nil
	c.LocalStorageCapacityIsolation = false
	c.FailSwapOn = false
	c.RegisterNode = true
	c.ClusterDNS, c.ClusterDomain = []string{s.clusterDNS}, "cluster.local"
	c.PodLogsDir = filepath.Join(s.dir, "pod-logs")
	c.ContainerRuntimeEndpoint = "unix:///dev/null" // the runtime is in this process
	c.MaxPods = 200
	return &options.KubeletServer{KubeletFlags: *f, KubeletConfiguration: *c}, nil
}

func (s *settings) dependencies(ctx context.Context, server *options.KubeletServer, client clientset.Interface, rt *procrt.Runtime) (*kubelet.Dependencies, error) {
	tlsOptions, err := kubeletapp.InitializeTLS(ctx, &server.KubeletFlags, &server.KubeletConfiguration)
	if err != nil {
		return nil, fmt.Errorf("setting TLS up: %w", err)
	}
	auth, runCAReload, err := kubeletapp.BuildAuth(types.NodeName(s.nodeName), client, server.KubeletConfiguration)
	if err != nil {
		return nil, fmt.Errorf("setting authentication up: %w", err)
	}
	runCAReload(ctx.Done())
	mounter := mount.New("")
	return &kubelet.Dependencies{
		KubeClient: client, HeartbeatClient: client, EventClient: client.CoreV1(),
		RemoteRuntimeService: rt, RemoteImageService: rt.Images(),
		CAdvisorInterface: machine{&cadvisortest.Fake{NodeName: s.nodeName}},
		OSInterface:       kubecontainer.RealOS{},
		ContainerManager:  cm.NewStubContainerManager(),
		VolumePlugins:     volumePlugins(),
		TLSOptions:        tlsOptions, Auth: auth,
		OOMAdjuster: oom.NewFakeOOMAdjuster(),
		Mounter:     mounter, Subpather: subpath.New(mounter), HostUtil: hostutil.NewHostUtil(),
		PodStartupLatencyTracker:  kubeletutil.NewPodStartupLatencyTracker(),
		NodeStartupLatencyTracker: kubeletutil.NewNodeStartupLatencyTracker(klog.FromContext(ctx)),
		TracerProvider:            noopoteltrace.NewTracerProvider(),
	}, nil
}

func volumePlugins() []volume.VolumePlugin {
	var out []volume.VolumePlugin
	for _, probe := range []func() []volume.VolumePlugin{
		emptydir.ProbeVolumePlugins, secret.ProbeVolumePlugins, downwardapi.ProbeVolumePlugins,
		configmap.ProbeVolumePlugins, projected.ProbeVolumePlugins,
		func() []volume.VolumePlugin { return hostpath.ProbeVolumePlugins(volume.VolumeConfig{}) },
	} {
		out = append(out, probe()...)
	}
	return out
}
