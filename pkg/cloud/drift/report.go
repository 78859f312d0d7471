// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package drift

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/bm-ccm/bm-ccm/pkg/cloud/service"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// Reason turns the kind of a finding into the reason of a condition:
// "duplicate-claim" becomes "DuplicateClaim".
func Reason(kind ipam.FindingKind) string {
	var b strings.Builder
	for word := range strings.SplitSeq(string(kind), "-") {
		if word != "" {
			b.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}
	return b.String()
}

// concernedServices returns the Services whose claim or address a finding is about.
func concernedServices(f ipam.Finding, services []*corev1.Service) []*corev1.Service {
	var out []*corev1.Service
	for _, svc := range services {
		claims := f.Key != ipam.Key{} && service.Claimant(svc) == service.ClaimantOf(f.Key)
		has := f.Addr.IsValid() && slices.Contains(service.Addrs(svc), f.Addr)
		if service.IsServed(svc) && (claims || has) {
			out = append(out, svc)
		}
	}
	return out
}

// concernedPools returns the pools whose addresses a finding is about: those
// that contain the address, or all in NetBox where it is about the cluster.
func concernedPools(f ipam.Finding, pools []ipam.Pool) []string {
	var out []string
	for _, p := range pools {
		if p.NetBox() && (f.Kind == ipam.SameClusterName || f.Addr.IsValid() && p.Contains(f.Addr)) {
			out = append(out, p.Name)
		}
	}
	return out
}
