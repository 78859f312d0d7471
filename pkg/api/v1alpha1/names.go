// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import "strings"

// ClassPrefix precedes the name of a LoadBalancerClass in
// spec.loadBalancerClass of a Service: "bm-ccm.io/public" names the
// LoadBalancerClass "public". Every class with this prefix is ours, also one
// for which no LoadBalancerClass exists (yet): such a Service waits and an
// Event on it says so.
const ClassPrefix = Group + "/"

// ClassName returns the name of the LoadBalancerClass that a Service's
// spec.loadBalancerClass means; ok is false for the class of another provider.
func ClassName(loadBalancerClass string) (name string, ok bool) {
	return strings.CutPrefix(loadBalancerClass, ClassPrefix)
}

// Annotations that users may set on a Service.
const (
	// AnnotationAddresses asks for addresses: one per IP family at most,
	// separated by commas. It wins over spec.loadBalancerIP.
	AnnotationAddresses = Group + "/addresses"
	// AnnotationPool restricts the Service to one AddressPool of its class.
	// It also reaches pools with autoAssign: false.
	AnnotationPool = Group + "/pool"
	// AnnotationSharingKey lets the Services of one namespace that give the same
	// key share one address per IP family. Their ports must differ, and either
	// all have externalTrafficPolicy Cluster or all have the same selector.
	AnnotationSharingKey = Group + "/sharing-key"
	// AnnotationRetain, with the value "true", keeps the address reserved in
	// NetBox for a Service of this name when the Service is deleted.
	AnnotationRetain = Group + "/retain"
	// AnnotationHostname is recorded in NetBox as the DNS name of the addresses.
	AnnotationHostname = Group + "/hostname"
)

// Types of the conditions in the status of our objects.
const (
	// ConditionReady is True when the object is valid and in use.
	ConditionReady = "Ready"
	// ConditionNetBoxReachable tells whether the last look at NetBox for this
	// pool was answered.
	ConditionNetBoxReachable = "NetBoxReachable"
	// ConditionExhausted is True when no address of a family is free.
	ConditionExhausted = "Exhausted"
	// ConditionConflict of an AddressPool is True when the records of its
	// addresses contradict each other, or another cluster goes by this one's
	// name.
	ConditionConflict = "Conflict"
	// ConditionAddressConflict of a Service is True when NetBox says something
	// about its address that only a human can set right. The address stays.
	ConditionAddressConflict = Group + "/AddressConflict"
)
