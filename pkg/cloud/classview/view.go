// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package classview

import (
	"maps"
	"slices"
	"sync"

	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	servicehelper "k8s.io/cloud-provider/service/helpers"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/service"
)

// View projects Services. It is safe for concurrent use.
//
// It has two steps. Stash, which does not depend on anything that changes, is
// done once, before an informer keeps a Service. Show, which depends on whether
// there is a default class, is done whenever somebody looks at one, so that a
// change of it needs no new informer.
type View struct {
	mu sync.Mutex
	// servesDefault makes Services that name no class ours as well.
	servesDefault bool
	// pools holds the addresses of all pools when there was no default class for
	// the first time.
	pools *netipx.IPSet
	// kept are the Services without a class that stay ours although there is no
	// default class any longer.
	kept map[types.UID]bool
}

// New returns a view, see SetDefault.
func New(servesDefault bool, pools *netipx.IPSet) *View {
	return &View{servesDefault: servesDefault, pools: pools, kept: map[types.UID]bool{}}
}

// SetDefault says whether there is a class for Services that name none. Without
// one, those that have an address of these pools stay ours: nobody else would
// free it. It returns false if nothing has changed.
func (v *View) SetDefault(serves bool, pools *netipx.IPSet) (changed bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.servesDefault == serves {
		return false
	}
	v.servesDefault, v.pools, v.kept = serves, pools, map[types.UID]bool{}
	return true
}

func (v *View) serves() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.servesDefault
}

// Stash takes the class away from a load balancer Service and keeps it in an
// annotation, and hides the Services of other providers. It changes svc in
// place, for an informer that calls it before anybody else has seen the object.
// client-go calls it twice for the objects of the initial list (WatchListClient),
// hence it is idempotent.
func Stash(svc *corev1.Service) {
	_, done := svc.Annotations[service.ClassAnnotation]
	if done || svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return // no load balancer (any more): upstream's rules for cleaning up apply as they are
	}
	class := ""
	if svc.Spec.LoadBalancerClass != nil {
		class = *svc.Spec.LoadBalancerClass
	}
	_, ours := v1alpha1.ClassName(class)
	if class != "" && !ours || isReleased(svc) {
		hide(svc)
	}
	svc.Spec.LoadBalancerClass = nil
	annotations := make(map[string]string, len(svc.Annotations)+1)
	maps.Copy(annotations, svc.Annotations)
	annotations[service.ClassAnnotation] = class
	svc.Annotations = annotations
}

// Show returns a stashed Service as it is shown: itself, or a copy that looks
// as if it wanted no load balancer.
func (v *View) Show(svc *corev1.Service) *corev1.Service {
	class, stashed := svc.Annotations[service.ClassAnnotation]
	if !stashed || class != "" || svc.Spec.Type != corev1.ServiceTypeLoadBalancer || v.ownsUnnamed(svc) {
		return svc
	}
	hidden := *svc // shares what hide does not touch
	hide(&hidden)
	return &hidden
}

// ownsUnnamed reports whether a Service that names no class is ours: because
// there is a default class, or because it had its address from one that is gone.
// That is recognised by our finalizer, which others use as well, and an address
// of a pool of ours. Once recognised, it stays ours whatever becomes of its
// status: its claim is still to be freed.
func (v *View) ownsUnnamed(svc *corev1.Service) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.servesDefault {
		return true
	}
	if v.pools == nil || !service.HasFinalizer(svc) {
		return false
	}
	if !v.kept[svc.UID] && !slices.ContainsFunc(service.Addrs(svc), v.pools.Contains) {
		return false
	}
	v.kept[svc.UID] = true
	return true
}

// isReleased reports whether we are done with a Service on its way out which
// another party's finalizer still holds. Upstream would "ensure" it once more,
// in vain (kubernetes/cloud-provider-gcp#981).
func isReleased(svc *corev1.Service) bool {
	return svc.DeletionTimestamp != nil && !service.HasFinalizer(svc)
}

// hide makes svc look as if it neither wanted a load balancer nor had one to
// clean up nor a status to reset: upstream would do both to a Service that
// another provider takes care of.
func hide(svc *corev1.Service) {
	svc.Spec.Type = corev1.ServiceTypeClusterIP
	svc.Finalizers = slices.DeleteFunc(slices.Clone(svc.Finalizers), func(f string) bool {
		return f == servicehelper.LoadBalancerCleanupFinalizer
	})
	svc.Status.LoadBalancer = corev1.LoadBalancerStatus{}
}
