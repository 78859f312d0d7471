// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
)

// Scheme knows the API objects of this project, and no others: Events on them need
// it to find out their kinds.
var Scheme = func() *runtime.Scheme {
	s := runtime.NewScheme()
	utilruntime.Must(v1alpha1.AddToScheme(s))
	return s
}()

// Client reads and writes the API objects. All are cluster-scoped.
type Client struct {
	Classes       *gentype.ClientWithList[*v1alpha1.LoadBalancerClass, *v1alpha1.LoadBalancerClassList]
	Pools         *gentype.ClientWithList[*v1alpha1.AddressPool, *v1alpha1.AddressPoolList]
	Peers         *gentype.ClientWithList[*v1alpha1.BGPPeer, *v1alpha1.BGPPeerList]
	Announcements *gentype.ClientWithList[*v1alpha1.NodeAnnouncement, *v1alpha1.NodeAnnouncementList]
}

// New returns a client for the API server that config names. It does not connect;
// config is not changed.
func New(config *rest.Config) (*Client, error) {
	c := rest.CopyConfig(config)
	c.GroupVersion = &v1alpha1.GroupVersion
	c.APIPath = "/apis"
	// Custom resources are served as JSON only: asked for protobuf, which config may
	// be set to for the objects of Kubernetes, the API server answers 406.
	c.ContentType, c.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	c.NegotiatedSerializer = serializer.NewCodecFactory(Scheme).WithoutConversion()
	rc, err := rest.RESTClientFor(c)
	if err != nil {
		return nil, fmt.Errorf("building a client for %s: %w", v1alpha1.GroupVersion, err)
	}
	// Generic clients know the kind but not its resource, and the functions make an
	// empty object to decode into.
	codec := runtime.NewParameterCodec(Scheme)
	return &Client{
		Classes: gentype.NewClientWithList("loadbalancerclasses", rc, codec, "",
			func() *v1alpha1.LoadBalancerClass { return &v1alpha1.LoadBalancerClass{} },
			func() *v1alpha1.LoadBalancerClassList { return &v1alpha1.LoadBalancerClassList{} }),
		Pools: gentype.NewClientWithList("addresspools", rc, codec, "",
			func() *v1alpha1.AddressPool { return &v1alpha1.AddressPool{} },
			func() *v1alpha1.AddressPoolList { return &v1alpha1.AddressPoolList{} }),
		Peers: gentype.NewClientWithList("bgppeers", rc, codec, "",
			func() *v1alpha1.BGPPeer { return &v1alpha1.BGPPeer{} },
			func() *v1alpha1.BGPPeerList { return &v1alpha1.BGPPeerList{} }),
		Announcements: gentype.NewClientWithList("nodeannouncements", rc, codec, "",
			func() *v1alpha1.NodeAnnouncement { return &v1alpha1.NodeAnnouncement{} },
			func() *v1alpha1.NodeAnnouncementList { return &v1alpha1.NodeAnnouncementList{} }),
	}, nil
}

// Informer is an informer of one kind with its lister.
type Informer[T runtime.Object] struct {
	cache.SharedIndexInformer
}

// List returns all objects in the cache, in no order. They are shared: do not
// change them.
func (i Informer[T]) List() []T {
	items := i.GetStore().List()
	out := make([]T, 0, len(items))
	for _, item := range items {
		out = append(out, item.(T))
	}
	return out
}

// Get returns one object of the cache by its name, which is the key because all
// kinds are cluster-scoped. It is shared: do not change it.
func (i Informer[T]) Get(name string) (obj T, ok bool) {
	item, ok, err := i.GetStore().GetByKey(name)
	if err != nil || !ok {
		return obj, false
	}
	return item.(T), true
}

// listWatcher is what an informer needs of a typed client.
type listWatcher[L runtime.Object] interface {
	List(ctx context.Context, opts metav1.ListOptions) (L, error)
	Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
}

// NewInformer returns an informer over one of the clients of a Client. The
// caller runs it.
func NewInformer[T runtime.Object, L runtime.Object](c listWatcher[L], example T) Informer[T] {
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
			return c.List(ctx, opts)
		},
		WatchFuncWithContext: c.Watch,
	}
	return Informer[T]{cache.NewSharedIndexInformer(lw, example, 0, cache.Indexers{})}
}
