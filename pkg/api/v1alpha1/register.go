// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Group is the API group, and the domain of every label, annotation and
// load-balancer class of this project. It must not change: objects and annotations
// that exist would belong to nobody.
const Group = "bm-ccm.io"

// GroupVersion is the group and version of the objects in this package.
var GroupVersion = schema.GroupVersion{Group: Group, Version: "v1alpha1"}

// AddToScheme registers the objects of this package with a scheme. The error is
// always nil; its form is that of runtime.SchemeBuilder.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion,
		&LoadBalancerClass{}, &LoadBalancerClassList{},
		&AddressPool{}, &AddressPoolList{},
		&BGPPeer{}, &BGPPeerList{},
		&NodeAnnouncement{}, &NodeAnnouncementList{},
	)
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
