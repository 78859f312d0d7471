// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/cloud-provider/controllers/service"
	controllersmetrics "k8s.io/component-base/metrics/prometheus/controllers"
	"k8s.io/klog/v2"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/inline"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox"
)

// ServiceLoop is what RunServices needs of upstream's controller manager.
type ServiceLoop struct {
	// Nodes is the controller manager's informer of Nodes.
	Nodes coreinformers.NodeInformer
	// Workers is how many Services are worked on at a time.
	Workers int
	// Metrics are the controller manager's.
	Metrics *controllersmetrics.ControllerManagerMetrics
}

// RunServices runs the upstream service controller on the class view, with the
// ledger beside it, until ctx ends. It is called after Initialize.
func (p *Provider) RunServices(ctx context.Context, loop ServiceLoop) {
	if !p.objects.wait(ctx) {
		return
	}
	books, err := p.openBooks(ctx)
	if err != nil {
		return // ctx has ended
	}
	p.balancer.cluster = p.config.ClusterName
	p.balancer.catalogue = p.objects
	p.balancer.allocator = books.allocator
	for ctx.Err() == nil {
		if err := p.runServicesOnce(ctx, loop, books); err != nil {
			klog.FromContext(ctx).Error(err, "Service controller ended, starting it again")
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}
}

// books are the records of claims.
type books struct {
	allocator ipam.Allocator
	inline    *inline.Allocator
}

// openBooks builds the allocators. The UID of kube-system is the identity of
// the cluster: it tells two clusters apart that were given one name.
func (p *Provider) openBooks(ctx context.Context) (*books, error) {
	b := &books{inline: inline.New(p.config.ClusterName)}
	if p.netbox == nil {
		b.allocator = ipam.Combine(nil, b.inline)
		return b, nil
	}
	var uid string
	err := wait.PollUntilContextCancel(ctx, 2*time.Second, true, func(ctx context.Context) (bool, error) {
		ns, err := p.client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
		if err != nil {
			klog.FromContext(ctx).Error(err, "Cannot read the identity of this cluster, the UID of namespace kube-system; trying again")
			return false, nil
		}
		uid = string(ns.UID)
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the UID of namespace %s: %w", metav1.NamespaceSystem, err)
	}
	b.allocator = ipam.Combine(netbox.NewAllocator(p.netbox, p.config.ClusterName, uid, netbox.Record{}), b.inline)
	return b, nil
}

// runServicesOnce runs one service controller. It returns when ctx ends or when
// the default class has come or gone, which changes what the controller sees.
func (p *Provider) runServicesOnce(ctx context.Context, loop ServiceLoop, books *books) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	view := classView{servesDefault: p.objects.defaultClass() != nil}
	services := newServiceInformer(p.client, view)
	nodes := newNodeInformer(loop.Nodes)
	controller, err := service.New(p, quietClient{p.client, &p.balancer.outcomes}, services, nodes, p.config.ClusterName, utilfeature.DefaultFeatureGate)
	if err != nil {
		return fmt.Errorf("building the service controller: %w", err)
	}
	go services.RunWithContext(ctx)
	if !cache.WaitForCacheSync(ctx.Done(), services.HasSynced, nodes.HasSynced) {
		return nil
	}
	books.inline.Restore(inlineClaims(p.config.ClusterName, services.list(), p.objects.pools.List()))
	stop, err := p.superviseServices(ctx, cancel, view, services)
	if err != nil {
		return err
	}
	defer stop()
	controller.Run(ctx, loop.Workers, loop.Metrics)
	return nodes.detach()
}

// superviseServices starts what runs beside one service controller.
func (p *Provider) superviseServices(ctx context.Context, replace func(), view classView, services serviceInformer) (stop func(), err error) {
	wake := newWaker(&p.balancer.waiting, services.replay)
	p.balancer.freed = wake.one
	status := newStatusWriter(p, services, wake.all)
	p.balancer.failed = status.soon
	ledger := newLedger(p.balancer.allocator, p.client, services)
	stop, err = p.objects.onChange(func() {
		if view.servesDefault != (p.objects.defaultClass() != nil) {
			replace()
		}
		wake.all()
		status.soon()
	})
	if err != nil {
		return nil, err
	}
	for _, h := range []cache.ResourceEventHandler{status.onServiceChange(), ledger.onServiceChange()} {
		if _, err := services.SharedIndexInformer.AddEventHandler(h); err != nil {
			stop()
			return nil, fmt.Errorf("watching Services: %w", err)
		}
	}
	go wake.run(ctx)
	go status.run(ctx)
	go ledger.run(ctx)
	return stop, nil
}

// inlineClaims reads back which addresses of inline pools are assigned: the
// Services' statuses are the only record of them. Addresses that lie in a
// prefix of a NetBox pool are NetBox's to tell.
func inlineClaims(cluster string, services []*corev1.Service, pools []*v1alpha1.AddressPool) []ipam.Claim {
	inNetBox := netboxPrefixes(pools)
	var claims []ipam.Claim
	for _, svc := range services {
		if svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
			continue
		}
		for _, in := range svc.Status.LoadBalancer.Ingress {
			addr, err := netip.ParseAddr(in.IP)
			if err != nil || containsAddr(inNetBox, addr) {
				continue
			}
			claims = append(claims, ipam.Claim{
				Key:   ipam.Key{Cluster: cluster, Namespace: svc.Namespace, Service: svc.Name, Family: ipam.FamilyOf(addr)},
				Owner: ipam.Owner{UID: string(svc.UID)},
				Addr:  addr,
			})
		}
	}
	return claims
}

// netboxPrefixes returns the prefixes of all pools that live in NetBox.
func netboxPrefixes(pools []*v1alpha1.AddressPool) []netip.Prefix {
	var out []netip.Prefix
	for _, pool := range pools {
		if pool.Spec.NetBox == nil {
			continue
		}
		for _, p := range pool.Spec.NetBox.Prefixes {
			if prefix, err := netip.ParsePrefix(p.Prefix); err == nil {
				out = append(out, prefix)
			}
		}
	}
	return out
}

func containsAddr(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
