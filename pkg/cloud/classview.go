// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
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

// classView projects Services. It is a value: when the default class comes or
// goes, a new informer with a new view replaces the old one.
type classView struct {
	// servesDefault makes Services that name no class ours as well.
	servesDefault bool
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
	if !v.owns(svc.Spec.LoadBalancerClass) || released(svc) {
		hide(svc)
	}
	svc.Spec.LoadBalancerClass = nil
	annotations := make(map[string]string, len(svc.Annotations)+1)
	maps.Copy(annotations, svc.Annotations)
	annotations[stashedClass] = class
	svc.Annotations = annotations
}

// owns tells whether we serve the Services of this class; nil is no class.
func (v classView) owns(class *string) bool {
	if class == nil {
		return v.servesDefault
	}
	_, ours := v1alpha1.ClassName(*class)
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
