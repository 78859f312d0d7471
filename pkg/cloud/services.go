// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/tools/cache"
	servicecontroller "k8s.io/cloud-provider/controllers/service"
	controllersmetrics "k8s.io/component-base/metrics/prometheus/controllers"
	"k8s.io/klog/v2"

	"github.com/bm-ccm/bm-ccm/pkg/cloud/assign"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/classview"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/drift"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/inline"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/trigger"
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

// RunServices runs the upstream service controller on the class view, with what
// belongs to it beside it, until ctx ends. There is one for as long as this
// replica leads: upstream's Run does not wait for its workers, so a second one
// would work on Services that the first one is still at. It is called after
// Initialize.
func (p *Provider) RunServices(ctx context.Context, loop ServiceLoop) {
	if err := p.runServices(ctx, loop); err != nil && ctx.Err() == nil {
		// What can fail here was checked when the configuration was read.
		klog.FromContext(ctx).Error(err, "Failed to initialize IPAM")
		klog.FlushAndExit(klog.ExitFlushTimeout, 1)
	}
}

// runServices builds what the controller works with, from the bottom up: objects,
// stores, the view, what is remembered of the Services. Nothing works on a Service
// before all that was assigned is known again: what is not known would be free.
func (p *Provider) runServices(ctx context.Context, loop ServiceLoop) error {
	if !p.objects.wait(ctx) {
		return nil
	}
	stores, err := p.openStores(ctx)
	if err != nil {
		return err
	}
	pools := resolveAll(ctx, stores.all, p.objects.allPools())
	services := classview.NewServices(p.client, classview.New(p.objects.DefaultClass() != "", ipam.AddressSet(pools)))
	go services.Run(ctx)
	if !cache.WaitForCacheSync(ctx.Done(), services.Informer().HasSynced, loop.Nodes.Informer().HasSynced) {
		return nil
	}
	restored := assign.Restored(p.config.ClusterName, services.List(), pools)
	stores.inline.Restore(restored)
	groups := newGroups(services.InNamespace, p.objects.className)
	if p.netbox == nil {
		groups.Learn(restored)
	} else {
		groups.LearnSome(restored)
	}
	if err := p.startBeside(ctx, stores.all, services, groups); err != nil {
		return err
	}
	controller, err := servicecontroller.New(p, quietClient{p.client, p.balancer.outcomes}, services, loop.Nodes, p.config.ClusterName, utilfeature.DefaultFeatureGate)
	if err != nil {
		return fmt.Errorf("building the service controller: %w", err)
	}
	controller.Run(ctx, loop.Workers, loop.Metrics)
	return nil
}

// startBeside builds the balancer, and starts what runs beside the service
// controller: the waking of Services that wait, the status of pools and classes,
// the comparison of the records with the Services, and the watch of what
// administrators change.
func (p *Provider) startBeside(ctx context.Context, store ipam.Store, services *classview.Services, groups *groups) error {
	var netboxUnavailable atomic.Bool
	compare, status := trigger.New(), trigger.New()
	waiting := newWaitingList()
	wake := newWaker(waiting, services.Requeue)
	conditions := newConditions(p.client, p.recorder, compare)
	p.balancer = newBalancer(deps{
		cluster: p.config.ClusterName, catalog: p.objects, claims: store, groups: groups,
		outcomes: newOutcomes(), conditions: conditions, waiting: waiting, netboxUnavailable: &netboxUnavailable,
		freed: wake.one, failed: status.Fire, requeue: services.Requeue,
		warn: func(svc *corev1.Service, reason, message string) {
			p.recorder.Event(svc, corev1.EventTypeWarning, reason, message)
		},
	})
	writer := &statusWriter{
		api: p.api, objects: p.objects, store: store, services: services.List, recorder: p.recorder, trigger: status,
		netboxUnavailable: &netboxUnavailable, recovered: wake.all, unready: map[string]bool{}, found: map[string][]netipx.IPRange{},
	}
	reconciler := drift.NewReconciler(drift.Options{
		Trigger: compare, Claims: store, Client: p.client, Objects: driftObjects{p.objects, store}, Services: services, Groups: groups,
		ReportServices: conditions.report, ReportPools: writer.setConflicts,
	})
	defaults := trigger.New()
	if err := p.objects.onChange(func() {
		defaults.Fire()
		wake.all()
		status.Fire()
	}); err != nil {
		return err
	}
	for _, h := range []cache.ResourceEventHandler{writer.handler(), reconciler.Handler()} {
		if _, err := services.Observe(h); err != nil {
			return fmt.Errorf("watching Services: %w", err)
		}
	}
	go p.followDefault(ctx, defaults, services, store)
	go wake.run(ctx)
	go writer.run(ctx)
	go reconciler.Run(ctx)
	return nil
}

// followDefault shows the Services that name no class otherwise when the default
// class comes or goes, until ctx ends. It is a loop of its own because it may ask
// NetBox, which no handler of an informer must wait for.
func (p *Provider) followDefault(ctx context.Context, changed *trigger.Trigger, services *classview.Services, store resolver) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed.C():
		}
		if serves := p.objects.DefaultClass() != ""; serves != services.ServesDefault() {
			pools := ipam.AddressSet(resolveAll(ctx, store, p.objects.allPools()))
			services.SetDefault(serves, pools)
			klog.FromContext(ctx).Info("The default LoadBalancerClass has come or gone", "class", p.objects.DefaultClass())
		}
	}
}

// driftObjects is what package drift needs to know of classes and pools.
type driftObjects struct {
	*objects
	store resolver
}

// Pools implements drift.Objects.
func (o driftObjects) Pools(ctx context.Context) []ipam.Pool {
	return resolveAll(ctx, o.store, o.allPools())
}

// stores are where claims are kept.
type stores struct {
	all    ipam.Store
	inline *inline.Allocator
}

// openStores builds the stores. The UID of kube-system is the identity of the
// cluster: it tells two clusters apart that were given one name.
func (p *Provider) openStores(ctx context.Context) (*stores, error) {
	s := &stores{inline: inline.New(p.config.ClusterName)}
	if p.netbox == nil {
		s.all = ipam.Combine(nil, s.inline)
		return s, nil
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
	record, err := p.config.NetBox.Record.record()
	if err != nil {
		return nil, fmt.Errorf("netbox.record: %w", err)
	}
	s.all = ipam.Combine(netbox.NewAllocator(p.netbox, p.config.ClusterName, uid, record), s.inline)
	return s, nil
}
