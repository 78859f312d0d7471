// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cloud is the cloud that upstream's controller manager works with:
// cloudprovider.Interface on NetBox and on pools that list their addresses.
//
//	provider.go, config.go   what is built at start, from --cloud-config
//	services.go              the service controller and what runs beside it
//	loadbalancer.go          LoadBalancer: gathers facts, has assign decide, carries out
//	groups.go                what this process knows of shared addresses
//	waiting.go               Services that wait, and who is tried again when
//	conditions.go, events.go what a Service's conditions and Events say
//	status.go                the status of pools and classes
//	objects.go               classes, pools and namespaces, as their informers have them
//	instances.go             InstancesV2: the machine of a Node
//	audit.go                 the comparison of drift, once, for `netbox audit`
//
// The rules are not here but in the rooms below: what a Service says (service),
// which Services upstream sees (classview), what a Service should have (assign),
// and NetBox against the cluster (drift).
package cloud
