// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"maps"
	"slices"
	"sync"

	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	servicehelper "k8s.io/cloud-provider/service/helpers"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
)

// The upstream service controller ignores every Service that names a class. It
// is therefore never shown the Services themselves but projections of them: the
// class is taken away from the Services that are ours, and those of other
// providers look as if they wanted no load balancer at all.

// stashedClass is the annotation that carries spec.loadBalancerClass inside a
// projection. "~" cannot begin the name of an annotation, so the API server can
// neither store it nor hand us a Service that has it: whoever has it has been
// projected. Patches are differences of two projections, so it never leaves
// this process.
const stashedClass = "~loadBalancerClass"

// classView projects Services. When the default class comes or goes, a new
// informer with a new view replaces the old one.
type classView struct {
	// servesDefault makes Services that name no class ours as well.
	servesDefault bool
	// kept are the Services without a class that stay ours although there is no
	// default class any longer; nil for none.
	kept *keptServices
}

// keptServices recognises the Services that had their address from a default
// class which is gone. Nobody else would free it.
type keptServices struct {
	// pools holds the addresses of all pools.
	pools *netipx.IPSet

	mu   sync.Mutex
	uids map[types.UID]bool
}

// has tells whether a Service that names no class is one of them: it has our
// finalizer, which others use as well, and an address of a pool of ours. Once
// it was, it stays so whatever becomes of its status.
func (k *keptServices) has(svc *corev1.Service) bool {
	if k == nil || !servicehelper.HasLBFinalizer(svc) {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.uids[svc.UID] && !slices.ContainsFunc(statusAddrs(svc), k.pools.Contains) {
		return false
	}
	if k.uids == nil {
		k.uids = map[types.UID]bool{}
	}
	k.uids[svc.UID] = true
	return true
}

// transform is a cache.TransformFunc. The informer calls it before anybody else
// has seen the object, so it changes the object in place. client-go calls it
// twice for the objects of the initial list (WatchListClient), hence project
// is idempotent.
func (v classView) transform(obj any) (any, error) {
	if svc, ok := obj.(*corev1.Service); ok {
		svc.ManagedFields = nil // never read here, and a third of the memory
		v.project(svc)
	}
	return obj, nil
}

// project rewrites svc in place into what upstream shall see of it.
func (v classView) project(svc *corev1.Service) {
	_, done := svc.Annotations[stashedClass]
	if done || svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return // not a load balancer (any longer): upstream's rules for cleaning up apply as they are
	}
	class := ""
	if svc.Spec.LoadBalancerClass != nil {
		class = *svc.Spec.LoadBalancerClass
	}
	if !v.owns(svc) || released(svc) {
		hide(svc)
	}
	svc.Spec.LoadBalancerClass = nil
	annotations := make(map[string]string, len(svc.Annotations)+1)
	maps.Copy(annotations, svc.Annotations)
	annotations[stashedClass] = class
	svc.Annotations = annotations
}

// owns tells whether a Service is ours.
func (v classView) owns(svc *corev1.Service) bool {
	if svc.Spec.LoadBalancerClass == nil {
		return v.servesDefault || v.kept.has(svc)
	}
	_, ours := v1alpha1.ClassName(*svc.Spec.LoadBalancerClass)
	return ours
}

// released tells that we are done with a Service on its way out which another
// party's finalizer still holds. Upstream would "ensure" it once more, in vain
// (kubernetes/cloud-provider-gcp#981).
func released(svc *corev1.Service) bool {
	return svc.DeletionTimestamp != nil && !servicehelper.HasLBFinalizer(svc)
}

// hide makes svc look as if it neither wanted a load balancer nor had one to
// clean up nor a status to reset.
func hide(svc *corev1.Service) {
	svc.Spec.Type = corev1.ServiceTypeClusterIP
	svc.Finalizers = slices.DeleteFunc(slices.Clone(svc.Finalizers), func(f string) bool {
		return f == servicehelper.LoadBalancerCleanupFinalizer
	})
	svc.Status.LoadBalancer = corev1.LoadBalancerStatus{}
}

// requestedClass returns what a projected Service says in
// spec.loadBalancerClass; "" for nothing.
func requestedClass(svc *corev1.Service) string { return svc.Annotations[stashedClass] }

// isServed tells whether a projected Service is one that we give addresses to.
func isServed(svc *corev1.Service) bool {
	return svc.Spec.Type == corev1.ServiceTypeLoadBalancer && svc.DeletionTimestamp == nil
}
