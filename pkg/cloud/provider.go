// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/klog/v2"

	"github.com/bm-ccm/bm-ccm/pkg/api/client"
	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/dcim"
)

// eventSource is the component that our own Events come from.
const eventSource = "bm-ccm"

// Provider is the cloud. Upstream's controller manager makes one at start on
// every replica, and calls Initialize on the one that leads.
type Provider struct {
	config *Config
	netbox *netbox.Client // nil without NetBox

	// From Initialize on:
	client    kubernetes.Interface
	api       *client.Client
	objects   *objects
	recorder  record.EventRecorder
	instances *instances

	// balancer is nil before RunServices.
	balancer *balancer
}

var _ cloudprovider.Interface = (*Provider)(nil)

// NewProvider checks what can be checked without the API server, and starts nothing.
func NewProvider(config *Config) (*Provider, error) {
	p := &Provider{config: config, instances: &instances{}}
	if config.NetBox == nil {
		return p, nil
	}
	c, err := netbox.NewClient(netbox.Options{
		URL:       config.NetBox.URL,
		TokenFile: config.NetBox.TokenFile,
		CAFile:    config.NetBox.CAFile,
		Timeout:   config.NetBox.Timeout.Duration,
	})
	if err != nil {
		return nil, fmt.Errorf("netbox: %w", err)
	}
	p.netbox = c
	p.instances.inventory = dcim.NewInventory(c)
	return p, nil
}

// Initialize connects the provider with the cluster. Upstream calls it when
// this replica begins to lead, before any controller starts.
func (p *Provider) Initialize(builder cloudprovider.ControllerClientBuilder, stop <-chan struct{}) {
	ctx := wait.ContextForChannel(stop)
	if err := p.initialize(ctx, builder); err != nil {
		// Upstream offers no way to return it, and nothing works without.
		klog.FromContext(ctx).Error(err, "Cannot start the cloud provider")
		klog.FlushAndExit(klog.ExitFlushTimeout, 1)
	}
}

func (p *Provider) initialize(ctx context.Context, builder cloudprovider.ControllerClientBuilder) error {
	config, err := builder.Config(eventSource)
	if err != nil {
		return fmt.Errorf("reading the API server's address: %w", err)
	}
	if p.client, err = builder.Client(eventSource); err != nil {
		return fmt.Errorf("building a client for the API server: %w", err)
	}
	if p.api, err = client.New(config); err != nil {
		return fmt.Errorf("building a client for classes and pools: %w", err)
	}
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: p.client.CoreV1().Events("")})
	p.recorder = broadcaster.NewRecorder(eventScheme, corev1.EventSource{Component: eventSource})
	p.instances.recorder = p.recorder
	p.objects = newObjects(p.client, p.api)
	p.objects.run(ctx)
	return nil
}

// eventScheme knows the objects that our Events are about.
var eventScheme = func() *runtime.Scheme {
	s := runtime.NewScheme()
	utilruntime.Must(scheme.AddToScheme(s))
	utilruntime.Must(v1alpha1.AddToScheme(s))
	return s
}()

// LoadBalancer implements cloudprovider.Interface. There is one from RunServices
// on, which alone runs the controller that uses it.
func (p *Provider) LoadBalancer() (cloudprovider.LoadBalancer, bool) {
	return p.balancer, p.balancer != nil
}

// InstancesV2 implements cloudprovider.Interface.
func (p *Provider) InstancesV2() (cloudprovider.InstancesV2, bool) { return p.instances, true }

// Instances implements cloudprovider.Interface; InstancesV2 replaces it.
func (p *Provider) Instances() (cloudprovider.Instances, bool) { return nil, false }

// Zones implements cloudprovider.Interface; InstancesV2 replaces it.
func (p *Provider) Zones() (cloudprovider.Zones, bool) { return nil, false }

// Clusters implements cloudprovider.Interface; there is nothing to tell.
func (p *Provider) Clusters() (cloudprovider.Clusters, bool) { return nil, false }

// Routes implements cloudprovider.Interface; pod routes are the CNI's work.
func (p *Provider) Routes() (cloudprovider.Routes, bool) { return nil, false }

// ProviderName implements cloudprovider.Interface.
func (p *Provider) ProviderName() string { return ProviderName }

// HasClusterID implements cloudprovider.Interface: the configuration insists on
// a cluster name.
func (p *Provider) HasClusterID() bool { return true }
