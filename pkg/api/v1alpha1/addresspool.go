// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// AddressPool says where the addresses of Services come from: from NetBox, where
// every claim is recorded with its owner, or from a list in the pool itself.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=apool,categories=bm-ccm
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Source",type=string,JSONPath=`.status.source`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="IPv4-Used",type=integer,JSONPath=`.status.ipv4.used`
// +kubebuilder:printcolumn:name="IPv4-Free",type=integer,JSONPath=`.status.ipv4.free`
// +kubebuilder:printcolumn:name="IPv6-Used",type=integer,JSONPath=`.status.ipv6.used`
// +kubebuilder:printcolumn:name="IPv6-Free",type=integer,priority=1,JSONPath=`.status.ipv6.free`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type AddressPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec AddressPoolSpec `json:"spec"`
	// +optional
	Status AddressPoolStatus `json:"status,omitempty"`
}

// AddressPoolSpec is what the administrator wants of a pool. A change never
// moves an address that a Service already has.
//
// +kubebuilder:validation:XValidation:rule="has(self.netbox) != has(self.addresses)",message="set exactly one of netbox (addresses in NetBox) and addresses (CIDRs and ranges listed here)"
type AddressPoolSpec struct {
	// netbox takes addresses from NetBox IPAM.
	//
	// +optional
	NetBox *NetBoxSource `json:"netbox,omitempty"`

	// addresses lists the pool's addresses here: CIDRs ("192.0.2.0/28") and
	// ranges with both ends included ("192.0.2.10-192.0.2.20"). One address is
	// a CIDR too ("192.0.2.1/32"). The first and the last address of an IPv4
	// CIDR are used like the others.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=91
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self) ? cidr(self) == cidr(self).masked() : self.split('-').size() == 2 && self.split('-').all(e, isIP(e)) && ip(self.split('-')[0]).family() == ip(self.split('-')[1]).family()",message="must be a CIDR without host bits (192.0.2.0/28, 2001:db8::/120, one address: 192.0.2.1/32) or a range of one IP family (192.0.2.10-192.0.2.20)"
	Addresses []string `json:"addresses,omitempty"`

	// autoAssign lets Services that ask for no pool take addresses from here.
	// With false only Services with the annotation bm-ccm.io/pool, or asking
	// for an address of this pool, get one.
	//
	// +optional
	// +kubebuilder:default=true
	AutoAssign *bool `json:"autoAssign,omitempty"`

	// avoidBuggyIPs keeps IPv4 addresses that end in .0 or .255 from being
	// assigned, because some old devices take them for network and broadcast
	// addresses. A Service that asks for such an address gets it.
	//
	// +optional
	AvoidBuggyIPs bool `json:"avoidBuggyIPs,omitempty"`

	// namespaceSelector limits the pool to Services in namespaces with these
	// labels. Without it every namespace may use the pool.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || self.matchExpressions.all(e, e.operator in ['In', 'NotIn'] ? has(e.values) && size(e.values) > 0 : e.operator in ['Exists', 'DoesNotExist'] && (!has(e.values) || size(e.values) == 0))",message="matchExpressions: operator must be In or NotIn with values, or Exists or DoesNotExist without"
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
}

// NetBoxSource says which addresses in NetBox a pool has: prefixes and IP ranges
// that it names, and those that a selector finds, tried in this order; or
// addresses that are reserved there.
//
// +kubebuilder:validation:XValidation:rule="has(self.reserved) ? !has(self.prefixes) && !has(self.ranges) && !has(self.selector) : has(self.prefixes) || has(self.ranges) || has(self.selector)",message="set prefixes, ranges, selector or several of these; or reserved alone (a pool of addresses that an engineer has reserved in NetBox)"
type NetBoxSource struct {
	// prefixes are prefixes that exist in NetBox, in the order in which they
	// are tried.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Prefixes []NetBoxPrefix `json:"prefixes,omitempty"`

	// ranges are IP ranges that exist in NetBox, in the order in which they are
	// tried, after the prefixes.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Ranges []NetBoxRange `json:"ranges,omitempty"`

	// selector finds prefixes and IP ranges in NetBox, so that one that gets
	// the tag there joins the pool within a minute. They are tried by their
	// addresses, after those in prefixes and ranges.
	//
	// +optional
	Selector *NetBoxSelector `json:"selector,omitempty"`

	// reserved takes only addresses that an engineer has made in NetBox with
	// status reserved. A claimed one becomes active, and reserved again when its
	// Service releases it. Needs NetBox 4.6 or newer.
	//
	// +optional
	Reserved *NetBoxReserved `json:"reserved,omitempty"`
}

// NetBoxPrefix identifies one prefix in NetBox.
type NetBoxPrefix struct {
	// prefix is the CIDR as it stands in NetBox, for example 203.0.113.0/24.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=43
	// +kubebuilder:validation:XValidation:rule="isCIDR(self) && cidr(self).masked() == cidr(self)",message="must be a CIDR without host bits, as it stands in NetBox, for example 203.0.113.0/24"
	Prefix string `json:"prefix"`

	// vrf is the name of the VRF in NetBox that the prefix is in. Without it
	// the prefix is looked for in the global table.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=100
	VRF string `json:"vrf,omitempty"`
}

// NetBoxRange identifies one IP range in NetBox.
type NetBoxRange struct {
	// range is the first and the last address as they stand in NetBox, without
	// masks, for example 192.0.2.10-192.0.2.20.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=91
	// +kubebuilder:validation:XValidation:rule="self.split('-').size() == 2 && self.split('-').all(e, isIP(e)) && ip(self.split('-')[0]).family() == ip(self.split('-')[1]).family()",message="must be the first and the last address of an IP range, as they stand in NetBox, for example 192.0.2.10-192.0.2.20"
	Range string `json:"range"`

	// vrf is the name of the VRF in NetBox that the range is in. Without it the
	// range is looked for in the global table.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=100
	VRF string `json:"vrf,omitempty"`
}

// NetBoxSelector describes prefixes and IP ranges in NetBox. All that is set
// must be true of one. Those of status container or deprecated, and ranges that
// are marked populated, are passed over.
//
// +kubebuilder:validation:XValidation:rule="has(self.tag) || has(self.role) || has(self.tenant) || has(self.site)",message="set at least one of tag, role, tenant and site: the pool would be everything in NetBox"
type NetBoxSelector struct {
	// tag is the slug of a tag.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=100
	// +kubebuilder:validation:XValidation:rule="self.matches('^[-a-zA-Z0-9_]+$')",message="must be the slug of a tag in NetBox (letters, digits, - and _), not its name"
	Tag string `json:"tag,omitempty"`

	// role is the slug of a prefix and VLAN role (IPAM > Roles).
	//
	// +optional
	// +kubebuilder:validation:MaxLength=100
	// +kubebuilder:validation:XValidation:rule="self.matches('^[-a-zA-Z0-9_]+$')",message="must be the slug of a role in NetBox (letters, digits, - and _), not its name"
	Role string `json:"role,omitempty"`

	// tenant is the slug of a tenant.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=100
	// +kubebuilder:validation:XValidation:rule="self.matches('^[-a-zA-Z0-9_]+$')",message="must be the slug of a tenant in NetBox (letters, digits, - and _), not its name"
	Tenant string `json:"tenant,omitempty"`

	// site is the slug of a site that prefixes are scoped to. IP ranges have
	// none, so that with site only prefixes are found.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=100
	// +kubebuilder:validation:XValidation:rule="self.matches('^[-a-zA-Z0-9_]+$')",message="must be the slug of a site in NetBox (letters, digits, - and _), not its name"
	Site string `json:"site,omitempty"`

	// vrf is the name of a VRF. Without it prefixes and ranges of every VRF and
	// of the global table are found.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=100
	VRF string `json:"vrf,omitempty"`
}

// NetBoxReserved describes addresses in NetBox: those of a tenant with status
// reserved.
type NetBoxReserved struct {
	// tenant is the slug of the tenant that the addresses have.
	//
	// +required
	// +kubebuilder:validation:MaxLength=100
	// +kubebuilder:validation:XValidation:rule="self.matches('^[-a-zA-Z0-9_]+$')",message="must be the slug of a tenant in NetBox (letters, digits, - and _), not its name"
	Tenant string `json:"tenant"`

	// tag is the slug of a tag that the addresses must also have.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=100
	// +kubebuilder:validation:XValidation:rule="self.matches('^[-a-zA-Z0-9_]+$')",message="must be the slug of a tag in NetBox (letters, digits, - and _), not its name"
	Tag string `json:"tag,omitempty"`

	// vrf is the name of the VRF that the addresses must also be in. Without it
	// those of every VRF and of the global table count.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=100
	VRF string `json:"vrf,omitempty"`
}

// AddressPoolStatus is what the controller reports of a pool.
type AddressPoolStatus struct {
	// source is "netbox" or "inline".
	//
	// +optional
	Source string `json:"source,omitempty"`

	// ipv4 counts the IPv4 addresses of the pool; absent if it has none.
	//
	// +optional
	IPv4 *AddressCount `json:"ipv4,omitempty"`

	// ipv6 counts the IPv6 addresses of the pool; absent if it has none.
	//
	// +optional
	IPv6 *AddressCount `json:"ipv6,omitempty"`

	// conditions: Ready, NetBoxReachable (pools in NetBox only), Exhausted.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// AddressCount counts the addresses of one IP family. Counts above 2^63-1 are
// shown as 2^63-1.
type AddressCount struct {
	// capacity is how many addresses can be assigned at all.
	Capacity int64 `json:"capacity"`
	// used is how many of them are taken, in NetBox by anybody.
	Used int64 `json:"used"`
	// free is how many are left.
	Free int64 `json:"free"`
}

// AddressPoolList is a list of AddressPool.
//
// +kubebuilder:object:root=true
type AddressPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []AddressPool `json:"items"`
}
