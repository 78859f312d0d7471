// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// NodeAnnouncement shows what one node announces. Its name is the node's, and
// that node's agent writes it; nobody else does.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=nodeann,categories=bm-ccm
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Addresses",type=integer,JSONPath=`.status.addressCount`
// +kubebuilder:printcolumn:name="BGP",type=string,JSONPath=`.status.bgpSummary`
// +kubebuilder:printcolumn:name="In-Sync",type=string,JSONPath=`.status.conditions[?(@.type=="InSync")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="InSync")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type NodeAnnouncement struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Status NodeAnnouncementStatus `json:"status,omitempty"`
}

// MaxListedAddresses is how many addresses a NodeAnnouncement lists per class.
// It keeps the object far below what etcd stores (1.5 MiB) and what hundreds
// of nodes may write; addressCount always counts them all.
const MaxListedAddresses = 1000

// NodeAnnouncementStatus is what the agent reports.
type NodeAnnouncementStatus struct {
	// addressCount counts the addresses that this node announces.
	//
	// +optional
	AddressCount int32 `json:"addressCount"`

	// bgpSummary is "established/configured" BGP sessions, for kubectl get.
	//
	// +optional
	BGPSummary string `json:"bgpSummary,omitempty"`

	// bgp lists the BGP sessions of this node, by peer.
	//
	// +optional
	// +listType=map
	// +listMapKey=peer
	BGP []BGPSession `json:"bgp,omitempty"`

	// classes lists the addresses that this node announces, by class.
	//
	// +optional
	// +listType=map
	// +listMapKey=class
	Classes []AnnouncedClass `json:"classes,omitempty"`

	// conditions: InSync compares what the node should announce with what its
	// BGP table holds.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// BGPSession is one session of a node.
type BGPSession struct {
	// peer is the name of the BGPPeer.
	Peer string `json:"peer"`
	// address is the router's address.
	Address string `json:"address"`
	// state is the state of the session's state machine (RFC 4271 section 8):
	// Idle, Connect, Active, OpenSent, OpenConfirm or Established.
	State string `json:"state"`
	// since is when the session entered this state.
	//
	// +optional
	Since metav1.Time `json:"since,omitempty"`
	// announced counts the addresses announced over this session.
	//
	// +optional
	Announced int32 `json:"announced"`
	// message says why the session is down, and what to do about it.
	//
	// +optional
	Message string `json:"message,omitempty"`
}

// AnnouncedClass is what a node announces for one class.
type AnnouncedClass struct {
	// class is the name of the LoadBalancerClass.
	Class string `json:"class"`
	// addresses are announced by this node; at most the first 1000 are listed.
	//
	// +optional
	// +listType=atomic
	Addresses []string `json:"addresses,omitempty"`
}

// NodeAnnouncementList is a list of NodeAnnouncement.
//
// +kubebuilder:object:root=true
type NodeAnnouncementList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NodeAnnouncement `json:"items"`
}
