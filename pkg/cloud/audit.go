// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/bm-ccm/bm-ccm/pkg/api/client"
	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/assign"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/classview"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/drift"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// Audit reads the records of claims and the Services of the cluster once and
// returns what is wrong with them, as a running controller sees it. It changes
// nothing.
func Audit(ctx context.Context, config *Config, kubeconfig *rest.Config) ([]ipam.Finding, error) {
	p, err := NewProvider(config)
	if err != nil {
		return nil, err
	}
	if p.client, err = kubernetes.NewForConfig(kubeconfig); err != nil {
		return nil, fmt.Errorf("building a client for the API server: %w", err)
	}
	if p.api, err = client.New(kubeconfig); err != nil {
		return nil, fmt.Errorf("building a client for classes and pools: %w", err)
	}
	pools, defaultClass, err := p.readObjects(ctx)
	if err != nil {
		return nil, err
	}
	stores, err := p.openStores(ctx)
	if err != nil {
		return nil, err
	}
	pools = resolveAll(ctx, stores.all, pools)
	services, err := p.readServices(ctx, classview.New(defaultClass != "", ipam.AddressSet(pools)))
	if err != nil {
		return nil, err
	}
	stores.inline.Restore(assign.Restored(p.config.ClusterName, services, pools))
	report, err := stores.all.Audit(ctx, pools)
	if err != nil {
		return nil, fmt.Errorf("reading the records of claims: %w", err)
	}
	return drift.Find(report, services, defaultClass), nil
}

// readServices lists the Services as the service controller is shown them.
func (p *Provider) readServices(ctx context.Context, view *classview.View) ([]*corev1.Service, error) {
	list, err := p.client.CoreV1().Services(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing Services: %w", err)
	}
	services := make([]*corev1.Service, len(list.Items))
	for i := range list.Items {
		classview.Stash(&list.Items[i])
		services[i] = view.Show(&list.Items[i])
	}
	return services, nil
}

// readObjects lists the pools, and finds the default class ("" for none).
func (p *Provider) readObjects(ctx context.Context) (pools []ipam.Pool, defaultClass string, err error) {
	list, err := p.api.Pools.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, "", fmt.Errorf("listing AddressPools: %w", err)
	}
	for i := range list.Items {
		pools = append(pools, ipam.NewPool(&list.Items[i]))
	}
	classes, err := p.api.Classes.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, "", fmt.Errorf("listing LoadBalancerClasses: %w", err)
	}
	var all []*v1alpha1.LoadBalancerClass
	for i := range classes.Items {
		all = append(all, &classes.Items[i])
	}
	if c := assign.DefaultClass(all); c != nil {
		defaultClass = c.Name
	}
	return pools, defaultClass, nil
}
