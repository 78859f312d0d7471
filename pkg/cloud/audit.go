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
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// Audit reads the record of claims and the Services of the cluster once and
// returns how they differ, as the ledger of a running controller sees it. It
// changes nothing.
func Audit(ctx context.Context, config *Config, kubeconfig *rest.Config) ([]Difference, error) {
	p, err := NewProvider(config)
	if err != nil {
		return nil, err
	}
	if p.client, err = kubernetes.NewForConfig(kubeconfig); err != nil {
		return nil, fmt.Errorf("building a client for the API server: %w", err)
	}
	if p.api, err = client.New(kubeconfig); err != nil {
		return nil, err
	}
	pools, defaultClass, err := p.readObjects(ctx)
	if err != nil {
		return nil, err
	}
	books, err := p.openBooks(ctx)
	if err != nil {
		return nil, err
	}
	resolved := resolvePools(ctx, books.allocator, pools)
	services, err := p.readServices(ctx, defaultClass != "", resolved)
	if err != nil {
		return nil, err
	}
	restored, err := inlineClaims(p.config.ClusterName, services, resolved)
	if err != nil {
		return nil, err
	}
	books.inline.Restore(restored)
	report, err := books.allocator.Audit(ctx, resolved)
	if err != nil {
		return nil, fmt.Errorf("reading the record of claims: %w", err)
	}
	return Differences(report, services, defaultClass), nil
}

// readServices lists the Services as the service controller is shown them.
func (p *Provider) readServices(ctx context.Context, servesDefault bool, pools []ipam.Pool) ([]*corev1.Service, error) {
	view, err := newClassView(servesDefault, pools)
	if err != nil {
		return nil, err
	}
	list, err := p.client.CoreV1().Services(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing Services: %w", err)
	}
	services := make([]*corev1.Service, len(list.Items))
	for i := range list.Items {
		services[i] = &list.Items[i]
		view.project(services[i])
	}
	return services, nil
}

// readObjects lists the pools, and finds the default class ("" for none).
func (p *Provider) readObjects(ctx context.Context) (pools []*v1alpha1.AddressPool, defaultClass string, err error) {
	list, err := p.api.Pools.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, "", fmt.Errorf("listing AddressPools: %w", err)
	}
	for i := range list.Items {
		pools = append(pools, &list.Items[i])
	}
	classes, err := p.api.Classes.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, "", fmt.Errorf("listing LoadBalancerClasses: %w", err)
	}
	var all []*v1alpha1.LoadBalancerClass
	for i := range classes.Items {
		all = append(all, &classes.Items[i])
	}
	if c := onlyDefault(all); c != nil {
		defaultClass = c.Name
	}
	return pools, defaultClass, nil
}

// resolvePools returns the pools with the addresses that NetBox has for them
// now; the Problem of a pool says why they are not known.
func resolvePools(ctx context.Context, allocator ipam.Allocator, pools []*v1alpha1.AddressPool) []ipam.Pool {
	out := make([]ipam.Pool, len(pools))
	for i, pool := range pools {
		out[i] = resolvePool(ctx, allocator, pool)
	}
	return out
}

// resolvePool does so for one pool. Pools that list their addresses themselves
// are what they are.
func resolvePool(ctx context.Context, allocator ipam.Allocator, pool *v1alpha1.AddressPool) ipam.Pool {
	p := ipam.Pool{Name: pool.Name, Spec: pool.Spec}
	if !p.NetBox() {
		return p
	}
	resolved, err := allocator.Resolve(ctx, p)
	if err != nil {
		p.Problem = err
		return p
	}
	return resolved
}
