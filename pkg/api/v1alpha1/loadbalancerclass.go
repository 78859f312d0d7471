// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// LoadBalancerClass says what `spec.loadBalancerClass: bm-ccm.io/<name>` means
// on a Service: where its addresses come from and how they are announced.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=lbclass;lbc,categories=bm-ccm
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Pools",type=string,JSONPath=`.spec.pools`
// +kubebuilder:printcolumn:name="Default",type=boolean,JSONPath=`.spec.default`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Services",type=integer,JSONPath=`.status.services`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 63",message="metadata.name must have at most 63 characters: a Service could not name the class otherwise"
type LoadBalancerClass struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec LoadBalancerClassSpec `json:"spec"`
	// +optional
	Status LoadBalancerClassStatus `json:"status,omitempty"`
}

// LoadBalancerClassSpec is what the administrator wants of a class.
type LoadBalancerClassSpec struct {
	// pools names the AddressPools of this class, in the order in which they
	// are tried. An address that a Service already has stays, whatever changes
	// here.
	//
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.all(p, self.exists_one(q, q == p))",message="must not name a pool twice: list each AddressPool once, in the order to try them"
	Pools []string `json:"pools"`

	// default makes this class also serve Services of type LoadBalancer that
	// name no class at all. Set it on one LoadBalancerClass at most: with two,
	// neither is used and both say so in their Ready condition.
	//
	// +optional
	Default bool `json:"default,omitempty"`

	// namespaceSelector limits the class to Services in namespaces with these
	// labels. Without it every namespace may use the class.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || self.matchExpressions.all(e, e.operator in ['In', 'NotIn'] ? has(e.values) && size(e.values) > 0 : e.operator in ['Exists', 'DoesNotExist'] && (!has(e.values) || size(e.values) == 0))",message="matchExpressions: operator must be In or NotIn with values, or Exists or DoesNotExist without"
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`

	// nodeSelector limits announcing to nodes with these labels. Without it
	// every node may announce.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || self.matchExpressions.all(e, e.operator in ['In', 'NotIn'] ? has(e.values) && size(e.values) > 0 : e.operator in ['Exists', 'DoesNotExist'] && (!has(e.values) || size(e.values) == 0))",message="matchExpressions: operator must be In or NotIn with values, or Exists or DoesNotExist without"
	NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`

	// bgp announces the addresses of this class over BGP. Without it bm-ccm
	// assigns addresses and leaves announcing them to others.
	//
	// +optional
	BGP *BGPAnnouncement `json:"bgp,omitempty"`
}

// BGPAnnouncement says how addresses are announced over BGP (RFC 4271).
type BGPAnnouncement struct {
	// peers names the BGPPeers to announce the addresses to. Without it they
	// are announced to all.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	Peers []string `json:"peers,omitempty"`

	// communities are attached to every route, as "asn:value" (RFC 1997), for
	// example "64500:120".
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=11
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^[0-9]{1,5}:[0-9]{1,5}$') && self.split(':').all(n, int(n) <= 65535)",message="must be two numbers from 0 to 65535 with a colon between them, for example 64500:120"
	Communities []string `json:"communities,omitempty"`
}

// LoadBalancerClassStatus is what the controller reports of a class.
type LoadBalancerClassStatus struct {
	// services counts the Services that have an address by this class.
	//
	// +optional
	Services int32 `json:"services,omitempty"`

	// conditions: Ready is True when the class can serve Services; its message
	// says what is missing otherwise.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// LoadBalancerClassList is a list of LoadBalancerClass.
//
// +kubebuilder:object:root=true
type LoadBalancerClassList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []LoadBalancerClass `json:"items"`
}
