// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/bm-ccm/bm-ccm/pkg/api/client"
	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// objects watches what administrators write: classes, pools, and the labels of
// namespaces.
type objects struct {
	classes    client.Informer[*v1alpha1.LoadBalancerClass]
	pools      client.Informer[*v1alpha1.AddressPool]
	namespaces cache.SharedIndexInformer
	nsLister   corelisters.NamespaceLister
}

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
// namespace, until stop is called. f must not block.
func (o *objects) onChange(f func()) (stop func(), err error) {
	var stops []func() error
	stop = func() {
		for _, s := range stops {
			_ = s() // the informer has ended, and its handlers with it
		}
	}
	for _, i := range o.informers() {
		handle, err := i.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { f() },
			DeleteFunc: func(any) { f() },
			UpdateFunc: func(old, cur any) {
				if specChanged(old, cur) {
					f()
				}
			},
		})
		if err != nil {
			stop()
			return nil, fmt.Errorf("watching classes, pools and namespaces: %w", err)
		}
		stops = append(stops, func() error { return i.RemoveEventHandler(handle) })
	}
	return stop, nil
}

// specChanged tells whether an update is more than our own status write.
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

// defaultClass returns the class for Services that name none: the only one
// with spec.default, or nil.
func (o *objects) defaultClass() *v1alpha1.LoadBalancerClass { return onlyDefault(o.classes.List()) }

func onlyDefault(classes []*v1alpha1.LoadBalancerClass) *v1alpha1.LoadBalancerClass {
	defaults := slices.DeleteFunc(slices.Clone(classes), func(c *v1alpha1.LoadBalancerClass) bool { return !c.Spec.Default })
	if len(defaults) != 1 {
		return nil
	}
	return defaults[0]
}

// errNoDefault is for a Service without a class where there is none for such.
var errNoDefault error = &ipam.ConfigError{Problem: "the Service names no class, and not exactly one LoadBalancerClass has spec.default: true: set spec.loadBalancerClass, or mark one class as default"}

// classOf returns the LoadBalancerClass of a projected Service. Its error is a
// sentence for the user.
func (o *objects) classOf(svc *corev1.Service) (*v1alpha1.LoadBalancerClass, error) {
	requested := requestedClass(svc)
	if requested == "" {
		if c := o.defaultClass(); c != nil {
			return c, nil
		}
		return nil, errNoDefault
	}
	name, _ := v1alpha1.ClassName(requested)
	if c, ok := o.classes.Get(name); ok {
		return c, nil
	}
	return nil, &ipam.ConfigError{Problem: fmt.Sprintf("spec.loadBalancerClass is %q, but there is no LoadBalancerClass %q: create it, or recreate the Service with one that exists (%s)",
		requested, name, o.classNames())}
}

// classNames lists the classes that exist, as a user writes them.
func (o *objects) classNames() string {
	var names []string
	for _, c := range o.classes.List() {
		names = append(names, v1alpha1.ClassPrefix+c.Name)
	}
	if len(names) == 0 {
		return "there is none yet"
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// namespaceLabels returns the labels of a namespace.
func (o *objects) namespaceLabels(name string) (labels.Set, error) {
	ns, err := o.nsLister.Get(name)
	if err != nil {
		return nil, fmt.Errorf("reading the labels of namespace %s: %w", name, err)
	}
	return ns.Labels, nil
}

// poolObjects returns all pools.
func (o *objects) poolObjects() []*v1alpha1.AddressPool { return o.pools.List() }

// poolsByName returns all pools by their names.
func (o *objects) poolsByName() map[string]*v1alpha1.AddressPool {
	pools := map[string]*v1alpha1.AddressPool{}
	for _, p := range o.pools.List() {
		pools[p.Name] = p
	}
	return pools
}

// classNameOf returns the name of the LoadBalancerClass of a projected Service,
// whether it exists or not; defaultClass is that of Services which name none.
func classNameOf(svc *corev1.Service, defaultClass string) string {
	requested := requestedClass(svc)
	if requested == "" {
		return defaultClass
	}
	name, _ := v1alpha1.ClassName(requested)
	return name
}
