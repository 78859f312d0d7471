// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package service

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"
	servicehelper "k8s.io/cloud-provider/service/helpers"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// ClassAnnotation carries spec.loadBalancerClass inside a projection. "~" cannot
// begin the name of an annotation, so the API server can neither store it nor
// hand us a Service that has it: whoever has it has been projected. Patches are
// differences of two projections, so it never leaves this process.
const ClassAnnotation = "~loadBalancerClass"

// Key is the key of a Service in informers and queues, "namespace/name".
func Key(svc *corev1.Service) string {
	return cache.ObjectName{Namespace: svc.Namespace, Name: svc.Name}.String()
}

// RequestedClass returns what a projected Service says in
// spec.loadBalancerClass; "" for nothing.
func RequestedClass(svc *corev1.Service) string { return svc.Annotations[ClassAnnotation] }

// ClassName returns the name of the LoadBalancerClass of a projected Service,
// whether it exists or not; defaultClass is that of Services which name none.
func ClassName(svc *corev1.Service, defaultClass string) string {
	requested := RequestedClass(svc)
	if requested == "" {
		return defaultClass
	}
	name, _ := v1alpha1.ClassName(requested)
	return name
}

// IsLoadBalancer reports whether a projected Service is a load balancer of ours,
// also one on its way out: until it is gone, its address is in use.
func IsLoadBalancer(svc *corev1.Service) bool {
	return svc.Spec.Type == corev1.ServiceTypeLoadBalancer
}

// IsHidden reports whether a projected Service is a load balancer that is shown
// as if it were none: it is another provider's, or names no class and there is
// no default. One that the user has changed to another type has not been
// projected, and is not hidden.
func IsHidden(svc *corev1.Service) bool {
	_, projected := svc.Annotations[ClassAnnotation]
	return projected && !IsLoadBalancer(svc)
}

// IsServed reports whether a projected Service is one that gets addresses.
func IsServed(svc *corev1.Service) bool {
	return IsLoadBalancer(svc) && svc.DeletionTimestamp == nil
}

// HasFinalizer reports whether a Service waits for its load balancer to be
// cleaned up before it goes. Every cloud provider uses this one finalizer.
func HasFinalizer(svc *corev1.Service) bool { return servicehelper.HasLBFinalizer(svc) }

// Addrs returns the addresses in the status of a Service. What is no address, a
// host name of another provider, say, is passed over.
func Addrs(svc *corev1.Service) []netip.Addr {
	var out []netip.Addr
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(in.IP); err == nil {
			out = append(out, a.Unmap())
		}
	}
	return out
}

// Addr returns the address of a family that a Service has by its status; the
// zero Addr for none.
func Addr(svc *corev1.Service, family ipam.Family) netip.Addr {
	for _, a := range Addrs(svc) {
		if ipam.FamilyOf(a) == family {
			return a
		}
	}
	return netip.Addr{}
}

// Families returns the IP families of a Service, the primary one first. The API
// server always sets spec.ipFamilies; a Service without, as tests make them, is
// taken for IPv4.
func Families(svc *corev1.Service) []ipam.Family {
	var out []ipam.Family
	for _, f := range svc.Spec.IPFamilies {
		if f == corev1.IPv6Protocol {
			out = append(out, ipam.IPv6)
		} else {
			out = append(out, ipam.IPv4)
		}
	}
	if len(out) == 0 {
		out = append(out, ipam.IPv4)
	}
	return out
}

// PrefersDualStack reports whether a Service is content with one family where
// the second is not to be had (spec.ipFamilyPolicy: PreferDualStack).
func PrefersDualStack(svc *corev1.Service) bool {
	return svc.Spec.IPFamilyPolicy != nil && *svc.Spec.IPFamilyPolicy == corev1.IPFamilyPolicyPreferDualStack
}

// StatusOf returns the load balancer status for some addresses. IPMode is always
// set: the API server would default it, and upstream compare and write it for
// ever.
func StatusOf(addrs ...netip.Addr) *corev1.LoadBalancerStatus {
	status := &corev1.LoadBalancerStatus{}
	for _, a := range addrs {
		vip := corev1.LoadBalancerIPModeVIP
		status.Ingress = append(status.Ingress, corev1.LoadBalancerIngress{IP: a.String(), IPMode: &vip})
	}
	return status
}
