// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 holds the API objects of bm-ccm.io/v1alpha1: what users
// write (LoadBalancerClass, AddressPool, BGPPeer) and what node agents report
// (NodeAnnouncement). All are cluster-scoped.
//
// Validation lives in the schema (OpenAPI and CEL), so there is no admission
// webhook to run or break. A field is here when it works, not before.
//
// +kubebuilder:object:generate=true
// +groupName=bm-ccm.io
package v1alpha1
