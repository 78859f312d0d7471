// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package servicetest

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	servicehelper "k8s.io/cloud-provider/service/helpers"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/service"
)

// Class is what the Services of Served ask for.
const Class = v1alpha1.ClassPrefix + "public"

// Edit changes a Service that is being made.
type Edit = func(*corev1.Service)

// Live is a Service "web" of type LoadBalancer that has 192.0.2.1, as the API
// server has it. class is its spec.loadBalancerClass; "" for none.
func Live(class string, edits ...Edit) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: "web", UID: "uid-1", Annotations: map[string]string{"a": "b"},
			Finalizers: []string{servicehelper.LoadBalancerCleanupFinalizer, "other/one"},
		},
		Spec:   corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}},
		Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}}},
	}
	if class != "" {
		svc.Spec.LoadBalancerClass = &class
	}
	for _, edit := range edits {
		edit(svc)
	}
	return svc
}

// Served is a projected Service of class public without an address.
func Served(name string, edits ...Edit) *corev1.Service {
	svc := Live("", append([]Edit{func(s *corev1.Service) {
		s.Name, s.UID, s.Status.LoadBalancer = name, types.UID("uid-"+name), corev1.LoadBalancerStatus{}
	}}, edits...)...)
	svc.Annotations[service.ClassAnnotation] = Class
	return svc
}

// WithAddrs adds addresses to the status.
func WithAddrs(addrs ...string) Edit {
	return func(s *corev1.Service) {
		for _, a := range addrs {
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: a})
		}
	}
}

// WithPort makes a TCP port the only one.
func WithPort(port int32) Edit {
	return func(s *corev1.Service) {
		s.Spec.Ports = []corev1.ServicePort{{Protocol: corev1.ProtocolTCP, Port: port}}
	}
}

// Annotated sets an annotation.
func Annotated(annotation, value string) Edit {
	return func(s *corev1.Service) {
		if s.Annotations == nil {
			s.Annotations = map[string]string{}
		}
		s.Annotations[annotation] = value
	}
}

// Sharing sets the sharing key; "" takes it away.
func Sharing(key string) Edit {
	if key == "" {
		return func(s *corev1.Service) { delete(s.Annotations, v1alpha1.AnnotationSharingKey) }
	}
	return Annotated(v1alpha1.AnnotationSharingKey, key)
}

// DualStack asks for IPv4 and IPv6.
func DualStack(policy corev1.IPFamilyPolicy) Edit {
	return func(s *corev1.Service) {
		s.Spec.IPFamilyPolicy = &policy
		s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	}
}

// Deleted is a Service on its way out.
func Deleted(s *corev1.Service) { s.DeletionTimestamp = &metav1.Time{} }
