// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import "strings"

// ClassPrefix precedes the name of a LoadBalancerClass in
// spec.loadBalancerClass of a Service: "bm-ccm.io/public" names the
// LoadBalancerClass "public". Every class with this prefix is ours, also one
// for which no LoadBalancerClass exists yet: such a Service waits and an Event
// on it says so.
//
// It must not change: spec.loadBalancerClass of a Service is immutable, so every
// Service that names a class would have to be deleted and created again.
const ClassPrefix = Group + "/"

// ClassName returns the name of the LoadBalancerClass that a Service's
// spec.loadBalancerClass means; ok is false for the class of another provider.
// Controller and agents both go by it, because one that served a Service which
// the other leaves alone would assign an address that nobody announces.
func ClassName(loadBalancerClass string) (name string, ok bool) {
	return strings.CutPrefix(loadBalancerClass, ClassPrefix)
}

// Annotations that users may set on a Service of type LoadBalancer whose class
// is ours. On other Services, and on other objects, they mean nothing. A value
// that cannot be read keeps the Service from getting an address, or leaves it
// the one it has, and an Event on it names the annotation.
//
// The comments of these constants are the reference for users: each says the
// meaning, the values and the default.
const (
	// AnnotationAddresses asks for certain addresses. Value: one address per IP
	// family at most, separated by commas ("192.0.2.10,2001:db8::10"), each of
	// a pool of the Service's class. Default: spec.loadBalancerIP, over which
	// the annotation wins; without both, any free address of the class. Setting
	// it on a Service that has another address moves the Service.
	AnnotationAddresses = Group + "/addresses"
	// AnnotationPool restricts the Service to one AddressPool. Value: the name
	// of a pool that its class lists; also one with autoAssign: false, which
	// serves nobody who does not ask for it. Default: the pools of the class
	// that assign by themselves, in the order in which the class lists them.
	AnnotationPool = Group + "/pool"
	// AnnotationSharingKey lets the Services of one namespace that give the same
	// key share one address per IP family. Value: 1 to 63 letters, digits, dots,
	// dashes or underscores. Their ports must differ, and either all have
	// externalTrafficPolicy Cluster or all have Local and the same selector:
	// otherwise a node could attract traffic for a Service that it has no
	// endpoint of. Default: the address is shared with nobody.
	AnnotationSharingKey = Group + "/sharing-key"
	// AnnotationRetain keeps the address when the Service is deleted. Value:
	// "true" leaves the record in NetBox, reserved for the next Service of this
	// namespace and name; "false" frees it. Default: "false". Pools that list
	// their addresses themselves remember nothing, so it has no effect there.
	AnnotationRetain = Group + "/retain"
	// AnnotationHostname is recorded in NetBox as the DNS name of the addresses;
	// nothing is written to a DNS server. Value: a DNS name of at most 255
	// characters, kept in lower case. Default: no name is recorded.
	AnnotationHostname = Group + "/hostname"
)

// Types of the conditions in the status of our objects and of Services. A
// condition says True, False or nothing yet; its message says what to do.
const (
	// ConditionReady of a LoadBalancerClass or an AddressPool is True when the
	// object is valid and in use. False: the message names the field to change,
	// or what cannot be reached. Services that have an address keep it.
	ConditionReady = "Ready"
	// ConditionNetBoxReachable of an AddressPool in NetBox reports whether the
	// last request to NetBox for this pool was answered. While it is False no
	// new address comes from the pool; those assigned stay announced.
	ConditionNetBoxReachable = "NetBoxReachable"
	// ConditionExhausted of an AddressPool is True when no address of one of its
	// IP families is free. Services then take from the next pool of their
	// class, or wait.
	ConditionExhausted = "Exhausted"
	// ConditionConflict of an AddressPool is True when the records of its
	// addresses contradict each other, or another cluster uses the name of this
	// one. Nothing is repaired by force: somebody must correct NetBox. A pool
	// that never had a conflict does not have the condition.
	ConditionConflict = "Conflict"
	// ConditionAddressConflict of a Service is True when NetBox says something
	// about its address that only a human can correct. The Service keeps the
	// address meanwhile. The type has a domain because conditions of Services
	// are shared with other controllers.
	ConditionAddressConflict = Group + "/AddressConflict"
	// ConditionInSync of a NodeAnnouncement is True when the node announces
	// what it should to every router that it should. False: the reason is one
	// of pkg/announce, the message names the first differences.
	ConditionInSync = "InSync"
)
