// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/cloud-provider/controllers/service"
	controllersmetrics "k8s.io/component-base/metrics/prometheus/controllers"
	"k8s.io/klog/v2"

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
		if ctx.Err() == nil { // what else can fail was checked when the configuration was read
			klog.FromContext(ctx).Error(err, "Cannot give addresses to Services")
		}
		return
	}
	p.balancer.cluster = p.config.ClusterName
	p.balancer.catalogue = p.objects
	p.balancer.allocator = books.allocator
	p.balancer.conflicts.client, p.balancer.conflicts.recorder = p.client, p.recorder
	p.balancer.warn = func(svc *corev1.Service, reason, message string) {
		p.recorder.Event(svc, corev1.EventTypeWarning, reason, message)
	}
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
	record, err := p.config.NetBox.Record.record()
	if err != nil {
		return nil, fmt.Errorf("netbox.record: %w", err)
	}
	b.allocator = ipam.Combine(netbox.NewAllocator(p.netbox, p.config.ClusterName, uid, record), b.inline)
	return b, nil
}

// runServicesOnce runs one service controller. It returns when ctx ends or when
// the default class has come or gone, which changes what the controller sees.
func (p *Provider) runServicesOnce(ctx context.Context, loop ServiceLoop, books *books) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pools := resolvePools(ctx, books.allocator, p.objects.pools.List())
	view, err := newClassView(p.objects.defaultClass() != nil, pools)
	if err != nil {
		return err
	}
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
	restored, err := inlineClaims(p.config.ClusterName, services.list(), pools)
	if err != nil {
		return err
	}
	books.inline.Restore(restored)
	p.balancer.groups.watch(services.inNamespace)
	p.balancer.groups.learn(restored, p.netbox == nil)
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
	p.balancer.freed, p.balancer.replay = wake.one, services.replay
	status := newStatusWriter(p, services, wake.all)
	p.balancer.failed = status.soon
	ledger := newLedger(p, services, status)
	p.balancer.conflicts.setSettled(ledger.soon)
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

// newClassView returns the view for the classes and pools of now.
func newClassView(servesDefault bool, pools []ipam.Pool) (classView, error) {
	if servesDefault {
		return classView{servesDefault: true}, nil
	}
	all, err := addressSet(pools)
	return classView{kept: &keptServices{pools: all}}, err
}

// inlineClaims reads back which addresses of inline pools are assigned: the
// Services' statuses are the only record of them. Addresses of NetBox pools are
// NetBox's to tell, and so are those of no pool while the addresses of a NetBox
// pool are not known.
func inlineClaims(cluster string, services []*corev1.Service, pools []ipam.Pool) ([]ipam.Claim, error) {
	byNetBox, known := map[bool][]ipam.Pool{}, true
	for _, p := range pools {
		byNetBox[p.NetBox()] = append(byNetBox[p.NetBox()], p)
		known = known && p.Problem == nil
	}
	inNetBox, err := addressSet(byNetBox[true])
	if err != nil {
		return nil, err
	}
	listed, err := addressSet(byNetBox[false])
	if err != nil {
		return nil, err
	}
	var claims []ipam.Claim
	r := newRestorer(cluster, services)
	for _, svc := range r.services {
		for _, addr := range statusAddrs(svc) {
			if !inNetBox.Contains(addr) && (known || listed.Contains(addr)) {
				claims = append(claims, r.claim(svc, addr))
			}
		}
	}
	return r.sharedFirst(claims), nil
}

// restorer tells whose the addresses are that several Services have.
type restorer struct {
	cluster string
	// services are the load balancers, the oldest first.
	services []*corev1.Service
	// holders counts the Services of a namespace that have an address.
	holders map[heldIn]int
	// shared holds the address of each group.
	shared map[ipam.Key]netip.Addr
}

// heldIn is an address in a namespace.
type heldIn struct {
	namespace string
	addr      netip.Addr
}

func newRestorer(cluster string, services []*corev1.Service) *restorer {
	r := &restorer{cluster: cluster, holders: map[heldIn]int{}, shared: map[ipam.Key]netip.Addr{}}
	for _, svc := range services {
		if svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
			continue
		}
		r.services = append(r.services, svc)
		for _, a := range statusAddrs(svc) {
			r.holders[heldIn{svc.Namespace, a}]++
		}
	}
	slices.SortFunc(r.services, func(a, b *corev1.Service) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	taken := map[netip.Addr]bool{}
	for _, svc := range r.services {
		for _, a := range statusAddrs(svc) {
			r.choose(svc, a, taken)
		}
	}
	return r
}

// choose takes an address for that of a Service's group if more Services have
// it than the one so far.
func (r *restorer) choose(svc *corev1.Service, a netip.Addr, taken map[netip.Addr]bool) {
	key := sharingKey(svc)
	if key == "" || taken[a] {
		return
	}
	group := ipam.GroupKey(r.cluster, svc.Namespace, key, ipam.FamilyOf(a))
	before, ok := r.shared[group]
	if ok && r.holders[heldIn{svc.Namespace, before}] >= r.holders[heldIn{svc.Namespace, a}] {
		return
	}
	delete(taken, before)
	r.shared[group], taken[a] = a, true
}

// claim returns the claim of an address that a Service has: that of its group,
// or its own one where the group has another address. Where Services have one address together without a
// key (any longer), they are taken for a group that has no name, so that all
// but the last of them get an address of their own.
func (r *restorer) claim(svc *corev1.Service, addr netip.Addr) ipam.Claim {
	family := ipam.FamilyOf(addr)
	if key := sharingKey(svc); key != "" {
		if group := ipam.GroupKey(r.cluster, svc.Namespace, key, family); r.shared[group] == addr {
			return ipam.Claim{Key: group, Owner: ipam.Owner{UID: ipam.SharedUID}, Addr: addr}
		}
	}
	if r.holders[heldIn{svc.Namespace, addr}] > 1 {
		nobodys := ipam.GroupKey(r.cluster, svc.Namespace, "~"+addr.String(), family)
		return ipam.Claim{Key: nobodys, Owner: ipam.Owner{UID: ipam.SharedUID}, Addr: addr}
	}
	return ipam.Claim{
		Key:   ipam.Key{Cluster: r.cluster, Namespace: svc.Namespace, Service: svc.Name, Family: family},
		Owner: ipam.Owner{UID: string(svc.UID)},
		Addr:  addr,
	}
}

// sharedFirst puts the claims of groups that users have named first: where two
// claims have one address, the first one counts.
func (r *restorer) sharedFirst(claims []ipam.Claim) []ipam.Claim {
	named := func(c ipam.Claim) bool { return r.shared[c.Key].IsValid() }
	slices.SortStableFunc(claims, func(a, b ipam.Claim) int {
		switch {
		case named(a) == named(b):
			return 0
		case named(a):
			return -1
		default:
			return 1
		}
	})
	return claims
}

// addressSet returns the addresses of some pools. What is wrong with a pool is
// said elsewhere.
func addressSet(pools []ipam.Pool) (*netipx.IPSet, error) {
	var b netipx.IPSetBuilder
	for _, p := range pools {
		ranges, err := p.Ranges()
		if err != nil {
			continue
		}
		for _, r := range ranges {
			b.AddRange(r)
		}
	}
	set, err := b.IPSet()
	if err != nil {
		return nil, fmt.Errorf("collecting the addresses of pools: %w", err)
	}
	return set, nil
}
