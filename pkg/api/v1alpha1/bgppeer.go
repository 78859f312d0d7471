// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BGPPeer is a router that node agents open a BGP session to (RFC 4271). The
// agents only send: nothing that the router announces enters a table. The state
// of each session is in the NodeAnnouncement of the node.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=bgpp,categories=bm-ccm
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.spec.address`
// +kubebuilder:printcolumn:name="Peer-ASN",type=integer,JSONPath=`.spec.peerASN`
// +kubebuilder:printcolumn:name="Local-ASN",type=integer,JSONPath=`.spec.localASN`
// +kubebuilder:printcolumn:name="Hold-Time",type=integer,priority=1,JSONPath=`.spec.holdTimeSeconds`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type BGPPeer struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec BGPPeerSpec `json:"spec"`
}

// BGPPeerSpec is how to reach a router.
//
// +kubebuilder:validation:XValidation:rule="!has(self.ebgpMultihop) || self.peerASN != self.localASN",message="ebgpMultihop is for external peers: leave it out when peerASN equals localASN"
type BGPPeerSpec struct {
	// address is the router's IPv4 or IPv6 address.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=39
	// +kubebuilder:validation:XValidation:rule="isIP(self) && (ip(self).isGlobalUnicast() || ip(self).isLoopback())",message="must be the router's IPv4 or IPv6 address, for example 192.0.2.1; host names, link-local and multicast addresses do not work here"
	Address string `json:"address"`

	// port is the router's TCP port.
	//
	// +optional
	// +kubebuilder:default=179
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`

	// peerASN is the autonomous system number of the router (RFC 6793).
	//
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967294
	PeerASN int64 `json:"peerASN"`

	// localASN is the autonomous system number that the nodes use with this
	// router (RFC 6793).
	//
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967294
	LocalASN int64 `json:"localASN"`

	// holdTimeSeconds is the proposed hold time (RFC 4271 section 4.2): the
	// session ends when no message from the other side has come for as long.
	// Keepalives are sent at a third of it.
	//
	// +optional
	// +kubebuilder:default=90
	// +kubebuilder:validation:Minimum=3
	// +kubebuilder:validation:Maximum=65535
	HoldTimeSeconds int32 `json:"holdTimeSeconds,omitempty"`

	// ebgpMultihop is the number of hops that an external peer may be away.
	// Without it the router must be directly connected.
	//
	// +optional
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=255
	EBGPMultihop *int32 `json:"ebgpMultihop,omitempty"`

	// nodeSelector limits the session to nodes with these labels. Without it
	// every node opens one.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || self.matchExpressions.all(e, e.operator in ['In', 'NotIn'] ? has(e.values) && size(e.values) > 0 : e.operator in ['Exists', 'DoesNotExist'] && (!has(e.values) || size(e.values) == 0))",message="matchExpressions: operator must be In or NotIn with values, or Exists or DoesNotExist without"
	NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`
}

// BGPPeerList is a list of BGPPeer.
//
// +kubebuilder:object:root=true
type BGPPeerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []BGPPeer `json:"items"`
}
