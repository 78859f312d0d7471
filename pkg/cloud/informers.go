// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"errors"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
)

// tap is an informer that remembers the handlers which the upstream controller
// registers: to hand it an object once more (upstream has no periodic resync of
// its own), and to take the handlers away when that controller is replaced.
type tap struct {
	cache.SharedIndexInformer

	mu       sync.Mutex
	handlers []cache.ResourceEventHandler
	handles  []cache.ResourceEventHandlerRegistration
}

// AddEventHandlerWithResyncPeriod registers a handler and remembers it.
func (t *tap) AddEventHandlerWithResyncPeriod(h cache.ResourceEventHandler, resync time.Duration) (cache.ResourceEventHandlerRegistration, error) {
	handle, err := t.SharedIndexInformer.AddEventHandlerWithResyncPeriod(h, resync)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.handlers = append(t.handlers, h)
	t.handles = append(t.handles, handle)
	return handle, nil
}

// replay shows an object of the cache to the handlers as if it were new. It
// returns false for an object that is not in the cache.
func (t *tap) replay(key string) bool {
	obj, ok, err := t.GetStore().GetByKey(key)
	if err != nil || !ok {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range t.handlers {
		h.OnAdd(obj, false)
	}
	return true
}

// detach takes the remembered handlers away.
func (t *tap) detach() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	for _, handle := range t.handles {
		errs = append(errs, t.RemoveEventHandler(handle))
	}
	t.handlers, t.handles = nil, nil
	return errors.Join(errs...)
}

// serviceInformer is the informer of projected Services.
type serviceInformer struct{ *tap }

func newServiceInformer(client kubernetes.Interface, view classView) serviceInformer {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(view.transform))
	return serviceInformer{&tap{SharedIndexInformer: factory.Core().V1().Services().Informer()}}
}

// Informer implements coreinformers.ServiceInformer.
func (i serviceInformer) Informer() cache.SharedIndexInformer { return i.tap }

// Lister implements coreinformers.ServiceInformer.
func (i serviceInformer) Lister() corelisters.ServiceLister {
	return corelisters.NewServiceLister(i.GetIndexer())
}

// list returns the projected Services of the cache. They are shared: do not
// change them.
func (i serviceInformer) list() []*corev1.Service {
	items := i.GetStore().List()
	out := make([]*corev1.Service, 0, len(items))
	for _, item := range items {
		out = append(out, item.(*corev1.Service))
	}
	return out
}

// inNamespace returns the projected Services of a namespace. They are shared: do
// not change them.
func (i serviceInformer) inNamespace(namespace string) []*corev1.Service {
	items, err := i.GetIndexer().ByIndex(cache.NamespaceIndex, namespace)
	if err != nil {
		return i.list() // the index exists by construction
	}
	out := make([]*corev1.Service, 0, len(items))
	for _, item := range items {
		out = append(out, item.(*corev1.Service))
	}
	return out
}

// nodeInformer is the shared informer of Nodes, with a tap.
type nodeInformer struct {
	*tap
	lister corelisters.NodeLister
}

func newNodeInformer(shared coreinformers.NodeInformer) nodeInformer {
	return nodeInformer{&tap{SharedIndexInformer: shared.Informer()}, shared.Lister()}
}

// Informer implements coreinformers.NodeInformer.
func (i nodeInformer) Informer() cache.SharedIndexInformer { return i.tap }

// Lister implements coreinformers.NodeInformer.
func (i nodeInformer) Lister() corelisters.NodeLister { return i.lister }

var (
	_ coreinformers.ServiceInformer = serviceInformer{}
	_ coreinformers.NodeInformer    = nodeInformer{}
)
