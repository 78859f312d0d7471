// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package service

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// Group names the Services of a namespace that give one sharing key. They have
// one address per IP family together.
type Group struct{ Namespace, SharingKey string }

// GroupOf returns the group that a Service wants to be in; ok is false for none.
func GroupOf(svc *corev1.Service) (g Group, ok bool) {
	key := SharingKey(svc.Annotations)
	return Group{svc.Namespace, key}, key != ""
}

// GroupOfClaim returns the group that a claim is for; ok is false for the claim
// of a single Service.
func GroupOfClaim(key ipam.Key) (g Group, ok bool) {
	sharing, ok := key.Group()
	return Group{key.Namespace, sharing}, ok
}

// ClaimKey is the key of the group's claim on an address of a family.
func (g Group) ClaimKey(cluster string, family ipam.Family) ipam.Key {
	return ipam.GroupKey(cluster, g.Namespace, g.SharingKey, family)
}

// ClaimName stands for the group where a claim names a Service.
func (g Group) ClaimName() string { return g.ClaimKey("", "").Service }

// ClaimKey is the key of a Service's own claim on an address of a family.
func ClaimKey(cluster string, svc *corev1.Service, family ipam.Family) ipam.Key {
	return ipam.Key{Cluster: cluster, Namespace: svc.Namespace, Service: svc.Name, Family: family}
}

// Claimant is what stands for a Service in claim keys, in the form of Key:
// "namespace/name", or "namespace/+key" where it shares an address.
func Claimant(svc *corev1.Service) string {
	if g, ok := GroupOf(svc); ok {
		return ClaimantOf(g.ClaimKey("", ""))
	}
	return Key(svc)
}

// ClaimantOf is the Claimant that a claim is for.
func ClaimantOf(key ipam.Key) string {
	return cache.ObjectName{Namespace: key.Namespace, Name: key.Service}.String()
}
