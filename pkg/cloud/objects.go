// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/bm-ccm/bm-ccm/pkg/api/client"
	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/assign"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/service"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// objects watches what administrators write: classes, pools, and the labels of
// namespaces.
type objects struct {
	classes    client.Informer[*v1alpha1.LoadBalancerClass]
	pools      client.Informer[*v1alpha1.AddressPool]
	namespaces cache.SharedIndexInformer
	nsLister   corelisters.NamespaceLister

	mu sync.Mutex
	// parsed has the pools by name.
	parsed map[string]parsedPool
}

// parsedPool is a pool as it was parsed from a version of its AddressPool.
type parsedPool struct {
	obj  *v1alpha1.AddressPool
	pool ipam.Pool
}

// newObjects returns informers that run has not started yet.
func newObjects(kube kubernetes.Interface, api *client.Client) *objects {
	// Of a namespace only name and labels are of use.
	trim := informers.WithTransform(func(obj any) (any, error) {
		if ns, ok := obj.(*corev1.Namespace); ok {
			ns.ManagedFields, ns.Annotations = nil, nil
		}
		return obj, nil
	})
	namespaces := informers.NewSharedInformerFactoryWithOptions(kube, 0, trim).Core().V1().Namespaces()
	return &objects{
		classes:    client.NewInformer(api.Classes, &v1alpha1.LoadBalancerClass{}),
		pools:      client.NewInformer(api.Pools, &v1alpha1.AddressPool{}),
		namespaces: namespaces.Informer(),
		nsLister:   namespaces.Lister(),
		parsed:     map[string]parsedPool{},
	}
}

// run starts the informers; they end with ctx.
func (o *objects) run(ctx context.Context) {
	for _, i := range o.informers() {
		go i.RunWithContext(ctx)
	}
}

func (o *objects) informers() []cache.SharedIndexInformer {
	return []cache.SharedIndexInformer{o.classes.SharedIndexInformer, o.pools.SharedIndexInformer, o.namespaces}
}

// wait returns true once all informers have synced, false if ctx ends before.
func (o *objects) wait(ctx context.Context) bool {
	synced := make([]cache.InformerSynced, 0, len(o.informers()))
	for _, i := range o.informers() {
		synced = append(synced, i.HasSynced)
	}
	return cache.WaitForCacheSync(ctx.Done(), synced...)
}

// onChange calls f after every change of a class, a pool or the labels of a
// namespace. f must not block.
func (o *objects) onChange(f func()) error {
	for _, i := range o.informers() {
		_, err := i.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { f() },
			DeleteFunc: func(any) { f() },
			UpdateFunc: func(old, cur any) {
				if specChanged(old, cur) {
					f()
				}
			},
		})
		if err != nil {
			return fmt.Errorf("watching classes, pools and namespaces: %w", err)
		}
	}
	return nil
}

// specChanged reports whether an update is more than our own status write.
func specChanged(old, cur any) bool {
	switch cur := cur.(type) {
	case *v1alpha1.LoadBalancerClass:
		return old.(*v1alpha1.LoadBalancerClass).Generation != cur.Generation
	case *v1alpha1.AddressPool:
		return old.(*v1alpha1.AddressPool).Generation != cur.Generation
	case *corev1.Namespace:
		return !labels.Equals(old.(*corev1.Namespace).Labels, cur.Labels)
	}
	return true
}

// classOf returns the LoadBalancerClass of a projected Service. Its error is a
// sentence for the user.
func (o *objects) classOf(svc *corev1.Service) (*v1alpha1.LoadBalancerClass, error) {
	return assign.ClassOf(svc, o.classes.List())
}

// DefaultClass returns the name of the class of Services that name none; "" for
// none.
func (o *objects) DefaultClass() string {
	if c := assign.DefaultClass(o.classes.List()); c != nil {
		return c.Name
	}
	return ""
}

// className returns the name of the LoadBalancerClass of a projected Service,
// whether it exists or not.
func (o *objects) className(svc *corev1.Service) string {
	return service.ClassName(svc, o.DefaultClass())
}

// namespaceLabels returns the labels of a namespace.
func (o *objects) namespaceLabels(name string) (labels.Set, error) {
	ns, err := o.nsLister.Get(name)
	if err != nil {
		return nil, fmt.Errorf("reading the labels of namespace %s: %w", name, err)
	}
	return ns.Labels, nil
}

// pool returns a pool. Its addresses are parsed once for each version of the
// AddressPool.
func (o *objects) pool(name string) (ipam.Pool, bool) {
	obj, ok := o.pools.Get(name)
	o.mu.Lock()
	defer o.mu.Unlock()
	if !ok {
		delete(o.parsed, name)
		return ipam.Pool{}, false
	}
	known := o.parsed[name]
	if known.obj != obj {
		known = parsedPool{obj, ipam.NewPool(obj)}
		o.parsed[name] = known
	}
	return known.pool, true
}

// allPools returns all pools, as pool does.
func (o *objects) allPools() []ipam.Pool {
	var out []ipam.Pool
	for _, obj := range o.pools.List() {
		if p, ok := o.pool(obj.Name); ok {
			out = append(out, p)
		}
	}
	return out
}

// resolver says what a store has for a pool; that of ipam.Pools.
type resolver interface {
	Resolve(ctx context.Context, p ipam.Pool) (ipam.Pool, error)
}

// resolve returns a pool with the addresses that NetBox has for it now; its
// Problem says why they are not known. Pools that list their addresses
// themselves are what they are.
func resolve(ctx context.Context, store resolver, p ipam.Pool) ipam.Pool {
	if !p.NetBox() {
		return p
	}
	resolved, err := store.Resolve(ctx, p)
	if err != nil {
		p.Problem = err
		return p
	}
	return resolved
}

// resolveAll does so for some pools.
func resolveAll(ctx context.Context, store resolver, pools []ipam.Pool) []ipam.Pool {
	out := make([]ipam.Pool, len(pools))
	for i, p := range pools {
		out[i] = resolve(ctx, store, p)
	}
	return out
}
