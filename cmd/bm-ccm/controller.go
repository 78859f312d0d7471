// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"maps"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/wait"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/app"
	appconfig "k8s.io/cloud-provider/app/config"
	"k8s.io/cloud-provider/names"
	"k8s.io/cloud-provider/options"
	cliflag "k8s.io/component-base/cli/flag"
	genericcontrollermanager "k8s.io/controller-manager/app"
	"k8s.io/controller-manager/controller"
	"k8s.io/klog/v2"

	"github.com/bm-ccm/bm-ccm/pkg/cloud"
)

// Presets of flags, which users may still change. They are what a backlog of
// thousands of Services needs: with upstream's 20 requests per second and one
// worker it is addressed at 5 Services per second, with these at over 400.
const (
	presetQPS            = 1000
	presetBurst          = 2000
	presetServiceWorkers = 50

	// presetLease differs from the name that every other
	// cloud-controller-manager uses, so that two of them can run side by side.
	presetLease     = "bm-ccm"
	presetNamespace = "bm-ccm-system"
)

const longHelp = `bm-ccm is a cloud-controller-manager for Kubernetes clusters on bare metal.

It gives Services of type LoadBalancer addresses from NetBox or from listed
ranges, and takes what it knows about nodes from NetBox. The addresses are
announced by the agent that runs on every node ("bm-ccm agent").`

// newControllerCommand returns upstream's controller manager with our cloud. Its
// flags, leader election, health checks and metrics are those that operators of
// other clouds know.
func newControllerCommand() (*cobra.Command, error) {
	opts, err := options.NewCloudControllerManagerOptions()
	if err != nil {
		return nil, fmt.Errorf("preparing the options of the controller manager: %w", err)
	}
	preset(opts)
	cmd := app.NewCloudControllerManagerCommand(opts, newCloud, controllers(), names.CCMControllerAliases(), cliflag.NamedFlagSets{}, wait.NeverStop)
	cmd.Use = "bm-ccm"
	cmd.Long = longHelp
	return cmd, nil
}

// preset sets the defaults of flags: before the flags are made, since --help shows
// the values of that moment.
func preset(opts *options.CloudControllerManagerOptions) {
	opts.KubeCloudShared.CloudProvider.Name = cloud.ProviderName
	opts.Generic.ClientConnection.QPS = presetQPS
	opts.Generic.ClientConnection.Burst = presetBurst
	opts.ServiceController.ConcurrentServiceSyncs = presetServiceWorkers
	opts.Generic.LeaderElection.ResourceName = presetLease
	opts.Generic.LeaderElection.ResourceNamespace = presetNamespace
	// There are no admission webhooks to run.
	opts.Webhook, opts.WebhookServing = nil, nil
}

// controllers are upstream's control loops that we run.
func controllers() map[string]app.ControllerInitFuncConstructor {
	all := maps.Clone(app.DefaultInitFuncConstructors)
	delete(all, names.NodeRouteController)
	// Deleting Nodes is not something to do by default, and not before the
	// answer of InstanceExists can be trusted with it.
	delete(all, names.CloudNodeLifecycleController)
	// The key stays upstream's, so that --controllers and the aliases know it.
	service := all[names.ServiceLBController]
	service.Constructor = startServices
	all[names.ServiceLBController] = service
	return all
}

// startServices replaces upstream's start of the service controller, which
// would show it every Service as it is.
func startServices(_ app.ControllerInitContext, config *appconfig.CompletedConfig, provider cloudprovider.Interface) app.InitFunc {
	return func(ctx context.Context, cctx genericcontrollermanager.ControllerContext) (controller.Interface, bool, error) {
		p, ok := provider.(*cloud.Provider)
		if !ok {
			return nil, false, fmt.Errorf("the cloud is a %T, not bm-ccm's", provider)
		}
		go p.RunServices(ctx, cloud.ServiceLoop{
			Nodes:   config.SharedInformers.Core().V1().Nodes(),
			Workers: int(config.ComponentConfig.ServiceController.ConcurrentServiceSyncs),
			Metrics: cctx.ControllerManagerMetrics,
		})
		return nil, true, nil
	}
}

// newCloud reads --cloud-config. Upstream calls it on every replica, before
// leader election, and takes no error for an answer.
func newCloud(config *appconfig.CompletedConfig) cloudprovider.Interface {
	provider, err := loadCloud(config.ComponentConfig.KubeCloudShared.CloudProvider.CloudConfigFile)
	if err != nil {
		fmt.Fprintf(os.Stderr, "Error: %v\n", err)
		klog.FlushAndExit(klog.ExitFlushTimeout, 1)
	}
	return provider
}

// loadCloud makes the provider from a file, without asking NetBox: it may be away
// when the controller starts, and Services that have addresses need it not.
func loadCloud(path string) (*cloud.Provider, error) {
	// Upstream takes the flag for optional.
	if path == "" {
		return nil, fmt.Errorf("--cloud-config is missing: name the file that holds clusterName and how to reach NetBox")
	}
	config, err := cloud.LoadConfig(path)
	if err != nil {
		return nil, err
	}
	return cloud.NewProvider(config)
}
