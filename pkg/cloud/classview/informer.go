// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package classview

import (
	"context"
	"sync"
	"time"

	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/bm-ccm/bm-ccm/pkg/cloud/service"
)

// Services is an informer of Services that shows projections of them: to the
// upstream controller, which takes it for the ordinary one, and to everybody
// else in this process.
type Services struct {
	// stashed is the informer proper. What it keeps has been through Stash, and
	// nobody but Services looks at it.
	stashed cache.SharedIndexInformer
	view    *View

	mu sync.Mutex
	// handlers are the upstream controller's: Requeue calls them.
	handlers []cache.ResourceEventHandler
}

// NewServices returns an informer that shows what a view shows. It is started
// with Run.
func NewServices(client kubernetes.Interface, view *View) *Services {
	stash := func(obj any) (any, error) {
		if svc, ok := obj.(*corev1.Service); ok {
			svc.ManagedFields = nil // never read here, and a third of the memory
			Stash(svc)
		}
		return obj, nil
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(stash))
	return &Services{stashed: factory.Core().V1().Services().Informer(), view: view}
}

// Run keeps the informer up to date until ctx ends.
func (s *Services) Run(ctx context.Context) { s.stashed.RunWithContext(ctx) }

// ServesDefault reports whether there is a class for Services that name none, as
// SetDefault was told last.
func (s *Services) ServesDefault() bool { return s.view.serves() }

// show projects an object of the informer; what is no Service stays as it is.
func (s *Services) show(obj any) any {
	switch obj := obj.(type) {
	case *corev1.Service:
		return s.view.Show(obj)
	case cache.DeletedFinalStateUnknown:
		obj.Obj = s.show(obj.Obj)
		return obj
	}
	return obj
}

// Observe registers a handler of our own. Requeue does not reach it.
func (s *Services) Observe(h cache.ResourceEventHandler) (cache.ResourceEventHandlerRegistration, error) {
	return s.stashed.AddEventHandler(s.showing(h))
}

// showing returns a handler that hands the projections to another one.
func (s *Services) showing(h cache.ResourceEventHandler) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerDetailedFuncs{
		AddFunc:    func(obj any, initial bool) { h.OnAdd(s.show(obj), initial) },
		UpdateFunc: func(old, cur any) { h.OnUpdate(s.show(old), s.show(cur)) },
		DeleteFunc: func(obj any) { h.OnDelete(s.show(obj)) },
	}
}

// Get returns the projection of the Service with a service.Key; ok is false for
// one that is not in the cache. It is shared: do not change it.
func (s *Services) Get(key string) (svc *corev1.Service, ok bool) {
	obj, ok, err := s.stashed.GetStore().GetByKey(key)
	if err != nil || !ok {
		return nil, false
	}
	return s.view.Show(obj.(*corev1.Service)), true
}

// List returns all projections. They are shared: do not change them.
func (s *Services) List() []*corev1.Service { return s.showAll(s.stashed.GetStore().List()) }

// InNamespace returns the projections of a namespace. They are shared: do not
// change them.
func (s *Services) InNamespace(namespace string) []*corev1.Service {
	items, err := s.stashed.GetIndexer().ByIndex(cache.NamespaceIndex, namespace)
	if err != nil {
		panic("classview: the informer of Services has no index by namespace: " + err.Error())
	}
	return s.showAll(items)
}

func (s *Services) showAll(items []any) []*corev1.Service {
	out := make([]*corev1.Service, 0, len(items))
	for _, item := range items {
		out = append(out, s.view.Show(item.(*corev1.Service)))
	}
	return out
}

// Requeue hands a Service to the upstream controller again, as if it were new:
// it has no periodic resync of its own. It returns false for one that is not in
// the cache.
func (s *Services) Requeue(key string) bool {
	svc, ok := s.Get(key)
	if !ok {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.handlers {
		h.OnAdd(svc, false)
	}
	return true
}

// SetDefault changes the view (View.SetDefault), and hands the Services that are
// shown otherwise now to the upstream controller. Claims and status writes that
// are under way are not disturbed.
func (s *Services) SetDefault(serves bool, pools *netipx.IPSet) {
	if !s.view.SetDefault(serves, pools) {
		return
	}
	for _, obj := range s.stashed.GetStore().List() {
		if svc := obj.(*corev1.Service); svc.Annotations[service.ClassAnnotation] == "" && svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
			s.Requeue(service.Key(svc))
		}
	}
}

// Informer implements coreinformers.ServiceInformer.
func (s *Services) Informer() cache.SharedIndexInformer { return projected{s.stashed, s} }

// Lister implements coreinformers.ServiceInformer.
func (s *Services) Lister() corelisters.ServiceLister {
	return lister{corelisters.NewServiceLister(s.stashed.GetIndexer()), s}
}

// projected is what upstream registers its handlers with.
type projected struct {
	cache.SharedIndexInformer
	services *Services
}

// AddEventHandlerWithOptions registers a handler of the upstream controller, which
// is called by Requeue as well. The other ways to register one come here too: one
// that did not would be shown what the informer keeps.
func (p projected) AddEventHandlerWithOptions(h cache.ResourceEventHandler, o cache.HandlerOptions) (cache.ResourceEventHandlerRegistration, error) {
	handle, err := p.SharedIndexInformer.AddEventHandlerWithOptions(p.services.showing(h), o)
	if err != nil {
		return nil, err
	}
	p.services.mu.Lock()
	defer p.services.mu.Unlock()
	p.services.handlers = append(p.services.handlers, h)
	return handle, nil
}

// AddEventHandlerWithResyncPeriod implements cache.SharedInformer.
func (p projected) AddEventHandlerWithResyncPeriod(h cache.ResourceEventHandler, resync time.Duration) (cache.ResourceEventHandlerRegistration, error) {
	return p.AddEventHandlerWithOptions(h, cache.HandlerOptions{ResyncPeriod: &resync})
}

// AddEventHandler implements cache.SharedInformer.
func (p projected) AddEventHandler(h cache.ResourceEventHandler) (cache.ResourceEventHandlerRegistration, error) {
	return p.AddEventHandlerWithOptions(h, cache.HandlerOptions{})
}

// lister is what upstream reads Services with: one at a time when it works on
// it, and all when the nodes have changed.
type lister struct {
	corelisters.ServiceLister
	services *Services
}

// List implements corelisters.ServiceLister.
func (l lister) List(selector labels.Selector) ([]*corev1.Service, error) {
	all, err := l.ServiceLister.List(selector)
	return l.showAll(all), err
}

// Services implements corelisters.ServiceLister.
func (l lister) Services(namespace string) corelisters.ServiceNamespaceLister {
	return namespaceLister{l.ServiceLister.Services(namespace), l}
}

func (l lister) showAll(all []*corev1.Service) []*corev1.Service {
	for i, svc := range all { // the slice is the caller's own, the Services are shared
		all[i] = l.services.view.Show(svc)
	}
	return all
}

type namespaceLister struct {
	corelisters.ServiceNamespaceLister
	all lister
}

// List implements corelisters.ServiceNamespaceLister.
func (l namespaceLister) List(selector labels.Selector) ([]*corev1.Service, error) {
	found, err := l.ServiceNamespaceLister.List(selector)
	return l.all.showAll(found), err
}

// Get implements corelisters.ServiceNamespaceLister.
func (l namespaceLister) Get(name string) (*corev1.Service, error) {
	svc, err := l.ServiceNamespaceLister.Get(name)
	if err != nil {
		return nil, err
	}
	return l.all.services.view.Show(svc), nil
}

var _ coreinformers.ServiceInformer = (*Services)(nil)
