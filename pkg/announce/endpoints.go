// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package announce

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"
)

// endpointNodes is where the endpoints of a Service are that take traffic, for
// one IP family.
type endpointNodes struct {
	// any is true when there is at least one such endpoint in the cluster.
	any bool
	// nodes are the nodes that have one. Endpoints outside the cluster's nodes
	// are on none.
	nodes map[string]bool
}

// usableEndpoints finds the endpoints that kube-proxy sends traffic to: the
// ready ones, or while there is none the terminating ones that still serve
// (KEP-1669). Endpoints that are unready by their probes but belong to a
// Service with publishNotReadyAddresses are ready in the slices.
func usableEndpoints(slices []*discoveryv1.EndpointSlice, family discoveryv1.AddressType) endpointNodes {
	ready := nodesWith(slices, family, isReady)
	if ready.any {
		return ready
	}
	return nodesWith(slices, family, isServingTerminating)
}

// nodesWith finds the nodes that have an endpoint of a family for which is holds.
// The map is made when the first is found: most Services of a large cluster are
// asked about by every node and have few endpoints.
func nodesWith(slices []*discoveryv1.EndpointSlice, family discoveryv1.AddressType, is func(discoveryv1.EndpointConditions) bool) endpointNodes {
	found := endpointNodes{}
	for _, s := range slices {
		if s.AddressType != family {
			continue
		}
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			if !is(e.Conditions) {
				continue
			}
			found.any = true
			if name := ptr.Deref(e.NodeName, ""); name != "" {
				if found.nodes == nil {
					found.nodes = map[string]bool{}
				}
				found.nodes[name] = true
			}
		}
	}
	return found
}

// isReady reads an unknown readiness as ready, as the API asks of consumers.
func isReady(c discoveryv1.EndpointConditions) bool {
	return ptr.Deref(c.Ready, true)
}

// isServingTerminating reads a missing serving as the readiness, which it is equal
// to for endpoints that do not terminate.
func isServingTerminating(c discoveryv1.EndpointConditions) bool {
	return ptr.Deref(c.Terminating, false) && ptr.Deref(c.Serving, isReady(c))
}

// familyOf returns the address type of the EndpointSlices that serve an address:
// traffic to an IPv6 address never reaches an IPv4 endpoint.
func familyOf(a netip.Addr) discoveryv1.AddressType {
	if a.Is4() {
		return discoveryv1.AddressTypeIPv4
	}
	return discoveryv1.AddressTypeIPv6
}

// loadBalancerAddresses returns the addresses in the status of a Service that
// nodes answer on. One with ipMode Proxy belongs to a load balancer outside.
func loadBalancerAddresses(s *corev1.Service) []netip.Addr {
	var out []netip.Addr
	for _, in := range s.Status.LoadBalancer.Ingress {
		if ptr.Deref(in.IPMode, corev1.LoadBalancerIPModeVIP) != corev1.LoadBalancerIPModeVIP {
			continue
		}
		if a, err := netip.ParseAddr(in.IP); err == nil && a.Zone() == "" {
			out = append(out, a.Unmap())
		}
	}
	return out
}
