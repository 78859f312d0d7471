// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package assign

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/bm-ccm/bm-ccm/pkg/cloud/service"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// Restored reads back which addresses of inline pools are assigned: the
// Services' statuses are the only record of them. Addresses of NetBox pools are
// NetBox's to say, and so are those of no pool while the addresses of a NetBox
// pool are not known. Of two claims on one address the first one counts, so
// those of named groups come first.
func Restored(cluster string, services []*corev1.Service, pools []ipam.Pool) []ipam.Claim {
	var inNetBox, listed []ipam.Pool
	known := true
	for _, p := range pools {
		if p.NetBox() {
			inNetBox = append(inNetBox, p)
		} else {
			listed = append(listed, p)
		}
		known = known && p.Problem == nil
	}
	netbox, inline := ipam.AddressSet(inNetBox), ipam.AddressSet(listed)
	h := holdersOf(cluster, services)
	var named, others []ipam.Claim
	for _, svc := range h.services {
		for _, addr := range service.Addrs(svc) {
			if netbox.Contains(addr) || !known && !inline.Contains(addr) {
				continue
			}
			if c := h.claim(svc, addr); h.shared[c.Key].IsValid() {
				named = append(named, c)
			} else {
				others = append(others, c)
			}
		}
	}
	return append(named, others...)
}

// holders knows whose the addresses are that several Services have.
type holders struct {
	cluster string
	// services are the load balancers, the oldest first.
	services []*corev1.Service
	// count has how many Services of a namespace have an address.
	count map[holding]int
	// shared has the address of each group, by its claim key.
	shared map[ipam.Key]netip.Addr
}

// holding is an address in a namespace.
type holding struct {
	namespace string
	addr      netip.Addr
}

func holdersOf(cluster string, services []*corev1.Service) *holders {
	h := &holders{cluster: cluster, count: map[holding]int{}, shared: map[ipam.Key]netip.Addr{}}
	for _, svc := range services {
		if !service.IsLoadBalancer(svc) {
			continue
		}
		h.services = append(h.services, svc)
		for _, a := range service.Addrs(svc) {
			h.count[holding{svc.Namespace, a}]++
		}
	}
	slices.SortFunc(h.services, func(a, b *corev1.Service) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	taken := map[netip.Addr]bool{}
	for _, svc := range h.services {
		for _, a := range service.Addrs(svc) {
			h.choose(svc, a, taken)
		}
	}
	return h
}

// choose takes an address for that of a Service's group if more Services have
// it than the one chosen so far.
func (h *holders) choose(svc *corev1.Service, a netip.Addr, taken map[netip.Addr]bool) {
	g, ok := service.GroupOf(svc)
	if !ok || taken[a] {
		return
	}
	key := g.ClaimKey(h.cluster, ipam.FamilyOf(a))
	before, ok := h.shared[key]
	if ok && h.count[holding{svc.Namespace, before}] >= h.count[holding{svc.Namespace, a}] {
		return
	}
	delete(taken, before)
	h.shared[key], taken[a] = a, true
}

// claim returns the claim of an address that a Service has: that of its group,
// or its own one where the group has another address. Where Services have one
// address together without a key (any more), they are taken for a group that
// has no name, so that all but the last of them get an address of their own.
func (h *holders) claim(svc *corev1.Service, addr netip.Addr) ipam.Claim {
	family := ipam.FamilyOf(addr)
	if g, ok := service.GroupOf(svc); ok {
		if key := g.ClaimKey(h.cluster, family); h.shared[key] == addr {
			return ipam.Claim{Key: key, Owner: ipam.Owner{UID: ipam.SharedUID}, Addr: addr}
		}
	}
	if h.count[holding{svc.Namespace, addr}] > 1 {
		// "~" is in no sharing key that a user can write.
		unnamedGroup := service.Group{Namespace: svc.Namespace, SharingKey: "~" + addr.String()}
		return ipam.Claim{Key: unnamedGroup.ClaimKey(h.cluster, family), Owner: ipam.Owner{UID: ipam.SharedUID}, Addr: addr}
	}
	return ipam.Claim{Key: service.ClaimKey(h.cluster, svc, family), Owner: ipam.Owner{UID: string(svc.UID)}, Addr: addr}
}
