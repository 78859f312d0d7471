// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package announce

import (
	"context"
	"fmt"
	"reflect"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/bm-ccm/bm-ccm/pkg/api/client"
	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
)

// byService indexes EndpointSlices by the Service that they belong to.
const byService = "service"

// caches hold what the API server says, reduced to what Decide reads. They go on
// answering while it is away: an agent then announces what it last knew.
type caches struct {
	core     informers.SharedInformerFactory
	services cache.SharedIndexInformer
	slices   cache.SharedIndexInformer
	nodes    cache.SharedIndexInformer
	classes  client.Informer[*v1alpha1.LoadBalancerClass]
	peers    client.Informer[*v1alpha1.BGPPeer]
}

// newCaches prepares the informers; changed is called for every change that a
// decision may depend on.
func newCaches(kube kubernetes.Interface, c *client.Client, changed func()) (*caches, error) {
	// No resync: it would call changed for every object without a change, and the
	// audit looks after lost ones anyway.
	core := informers.NewSharedInformerFactoryWithOptions(kube, 0, informers.WithTransform(reduce))
	k := &caches{
		core:     core,
		services: core.Core().V1().Services().Informer(),
		slices:   core.Discovery().V1().EndpointSlices().Informer(),
		nodes:    core.Core().V1().Nodes().Informer(),
		classes:  client.NewInformer(c.Classes, &v1alpha1.LoadBalancerClass{}),
		peers:    client.NewInformer(c.Peers, &v1alpha1.BGPPeer{}),
	}
	if err := k.slices.AddIndexers(cache.Indexers{byService: serviceOfSlice}); err != nil {
		return nil, fmt.Errorf("indexing EndpointSlices: %w", err)
	}
	handler := onChange(changed)
	for _, i := range k.all() {
		if _, err := i.AddEventHandler(handler); err != nil {
			return nil, fmt.Errorf("watching objects: %w", err)
		}
	}
	return k, nil
}

// all returns every informer, for what is done to each of them.
func (k *caches) all() []cache.SharedIndexInformer {
	return []cache.SharedIndexInformer{
		k.services, k.slices, k.nodes, k.classes.SharedIndexInformer, k.peers.SharedIndexInformer,
	}
}

// run starts the informers and waits for them; it fails only with the context.
func (k *caches) run(ctx context.Context) error {
	// An incomplete list must not be decided on: what is missing in it would be
	// withdrawn.
	synced := make([]cache.InformerSynced, 0, 5)
	for _, i := range k.all() {
		go i.RunWithContext(ctx)
		synced = append(synced, i.HasSynced)
	}
	started := time.Now()
	nag := time.AfterFunc(slowSync, func() {
		klog.FromContext(ctx).Info("Still waiting for the API server to list Services, EndpointSlices, Nodes, LoadBalancerClasses and BGPPeers: is it reachable, are the CRDs installed, and may this agent list them?",
			"waited", time.Since(started).Round(time.Second))
	})
	defer nag.Stop()
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return fmt.Errorf("waiting for the first lists: %w", context.Cause(ctx))
	}
	return nil
}

// slowSync is when a start is so slow that somebody will look into the log.
const slowSync = 10 * time.Second

// snapshot is what the caches hold now. It shares their objects, which nobody
// changes; taking it under a lock would not help, because informers of different
// kinds are never of one moment.
func (k *caches) snapshot() *Snapshot {
	return &Snapshot{
		Services:  list[*corev1.Service](k.services),
		Endpoints: k.slicesOf,
		Nodes:     list[*corev1.Node](k.nodes),
		Classes:   k.classes.List(),
		Peers:     k.peers.List(),
	}
}

// list returns the objects of an informer, in no order.
func list[T any](i cache.SharedIndexInformer) []T {
	items := i.GetStore().List()
	out := make([]T, len(items))
	for n, item := range items {
		out[n] = item.(T)
	}
	return out
}

// slicesOf finds the EndpointSlices of a Service by an index: going through all
// of them for each of ten thousand Services would be 100 million comparisons.
func (k *caches) slicesOf(service types.NamespacedName) []*discoveryv1.EndpointSlice {
	// The only error is an unknown index.
	items, err := k.slices.GetIndexer().ByIndex(byService, service.String())
	if err != nil {
		return nil
	}
	out := make([]*discoveryv1.EndpointSlice, len(items))
	for n, item := range items {
		out[n] = item.(*discoveryv1.EndpointSlice)
	}
	return out
}

// serviceOfSlice is the index function. The label says which Service a slice
// belongs to; its name and its owner do not (KEP-752).
func serviceOfSlice(obj any) ([]string, error) {
	s, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok || s.Labels[discoveryv1.LabelServiceName] == "" {
		return nil, nil
	}
	return []string{s.Namespace + "/" + s.Labels[discoveryv1.LabelServiceName]}, nil
}

// onChange calls changed unless an update left alone everything that Decide
// reads: a Node is updated every few minutes by its kubelet without one.
func onChange(changed func()) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { changed() },
		UpdateFunc: func(old, now any) {
			if !sameForDecide(old, now) {
				changed()
			}
		},
		DeleteFunc: func(any) { changed() },
	}
}

// sameForDecide compares two versions of an object that reduce went over. Only
// Nodes are looked at closely: the others are rarely updated without a change
// that matters, and comparing them costs as much as deciding.
func sameForDecide(old, now any) bool {
	a, okA := old.(metav1.Object)
	b, okB := now.(metav1.Object)
	if !okA || !okB {
		return false
	}
	if a.GetResourceVersion() == b.GetResourceVersion() {
		return true
	}
	n, isNode := now.(*corev1.Node)
	if !isNode {
		return false
	}
	// A copy, because the cache shares old with its other readers.
	o := *old.(*corev1.Node)
	o.ResourceVersion = n.ResourceVersion
	return reflect.DeepEqual(&o, n)
}

// reduce drops from an object what Decide does not read, before it enters a
// cache: ten thousand Services and their EndpointSlices must fit into a few
// tens of megabytes on every node. A field that Decide comes to read must be kept
// here, or it is always empty.
func reduce(obj any) (any, error) {
	switch o := obj.(type) {
	case *corev1.Service:
		reduceService(o)
	case *discoveryv1.EndpointSlice:
		reduceSlice(o)
	case *corev1.Node:
		reduceNode(o)
	}
	return obj, nil
}

// reduceService drops also the labels, annotations and ports: what a Service asks
// for is the controller's business, and its answer is in the status.
func reduceService(s *corev1.Service) {
	s.ObjectMeta = reduceMeta(s.ObjectMeta)
	s.Spec = corev1.ServiceSpec{
		Type:                  s.Spec.Type,
		LoadBalancerClass:     s.Spec.LoadBalancerClass,
		ExternalTrafficPolicy: s.Spec.ExternalTrafficPolicy,
		SessionAffinity:       s.Spec.SessionAffinity,
	}
	s.Status.Conditions = nil
	for i := range s.Status.LoadBalancer.Ingress {
		s.Status.LoadBalancer.Ingress[i].Ports = nil
	}
}

// reduceSlice keeps where endpoints are and whether they take traffic; their
// addresses are for kube-proxy.
func reduceSlice(s *discoveryv1.EndpointSlice) {
	service := s.Labels[discoveryv1.LabelServiceName]
	s.ObjectMeta = reduceMeta(s.ObjectMeta)
	s.Labels = map[string]string{discoveryv1.LabelServiceName: service}
	s.Ports = nil
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		*e = discoveryv1.Endpoint{Conditions: e.Conditions, NodeName: e.NodeName}
	}
}

// reduceNode keeps all labels, since a nodeSelector may name any of them, but of
// taints and conditions only the ones that count: kubelet writes a time into a
// condition every few minutes, and sameForDecide must not see it.
func reduceNode(n *corev1.Node) {
	kept := n.Labels
	n.ObjectMeta = reduceMeta(n.ObjectMeta)
	n.Labels = kept
	taints := n.Spec.Taints
	n.Spec = corev1.NodeSpec{}
	for _, t := range taints {
		if t.Key == taintAutoscaler {
			n.Spec.Taints = []corev1.Taint{{Key: t.Key}}
		}
	}
	status := corev1.NodeStatus{Addresses: n.Status.Addresses}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			status.Conditions = []corev1.NodeCondition{{Type: c.Type, Status: c.Status}}
		}
	}
	n.Status = status
}

// reduceMeta drops managedFields above all, which are often half of an object.
func reduceMeta(m metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: m.Name, Namespace: m.Namespace, UID: m.UID,
		ResourceVersion: m.ResourceVersion, DeletionTimestamp: m.DeletionTimestamp,
	}
}
