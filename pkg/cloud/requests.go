// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"context"
	"errors"
	"net/netip"

	corev1 "k8s.io/api/core/v1"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// request is a Request for one family of a Service.
type request struct {
	ipam.Request
	// optional: PreferDualStack is content without its second family.
	optional bool
	// fromElsewhere: the held address comes from another claim than the request's.
	fromElsewhere bool
}

// requests returns what a Service wants, one request for each family.
func (b *balancer) requests(ctx context.Context, svc *corev1.Service, class *v1alpha1.LoadBalancerClass, ask ipam.Ask, place *place) ([]request, error) {
	nsLabels, err := b.catalogue.namespaceLabels(svc.Namespace)
	if err != nil {
		return nil, err
	}
	if place.shares {
		ask.Addrs = place.asked // of whoever asks
	}
	pools := b.poolsOf(ctx, class)
	var out []request
	for i, family := range families(svc) {
		optional := i > 0 && prefersDualStack(svc)
		candidates, err := ipam.Candidates(ask, class, pools, nsLabels, family)
		var none *ipam.NoPoolError
		if optional && errors.As(err, &none) {
			continue
		}
		if err != nil {
			return nil, err
		}
		r := request{optional: optional, Request: ipam.Request{
			Key:      ipam.Key{Cluster: b.cluster, Namespace: svc.Namespace, Service: svc.Name, Family: family},
			Owner:    ipam.Owner{UID: string(svc.UID), Class: class.Name},
			Pools:    candidates,
			Addr:     ask.Addrs[family],
			Hostname: ask.Hostname,
		}}
		b.inherit(svc, place, &r)
		out = append(out, r)
	}
	return out, nil
}

// poolsOf returns the pools of a class as they are now.
func (b *balancer) poolsOf(ctx context.Context, class *v1alpha1.LoadBalancerClass) map[string]ipam.Pool {
	objects := b.catalogue.poolsByName()
	out := make(map[string]ipam.Pool, len(class.Spec.Pools))
	for _, name := range class.Spec.Pools {
		if obj, ok := objects[name]; ok {
			out[name] = resolvePool(ctx, b.allocator, obj)
		}
	}
	return out
}

// inherit says in a request for a Service's own claim what the Service has, and
// makes it one for the claim of its group where it shares.
func (b *balancer) inherit(svc *corev1.Service, place *place, r *request) {
	family, own := r.Key.Family, r.Key
	r.Held = held(svc, family)
	for _, id := range place.former {
		if shared := b.groups.addr(id, family); !shared.IsValid() || shared != r.Held {
			continue
		}
		if b.groups.needed(id, b.groups.others(id, svc.UID), family) {
			r.Held = netip.Addr{} // it stays with those that remain
			break
		}
		r.Former = append(r.Former, ipam.GroupKey(b.cluster, id.namespace, id.key, family))
		r.fromElsewhere = true
	}
	if !place.shares {
		return
	}
	r.Key = ipam.GroupKey(b.cluster, place.group.namespace, place.group.key, family)
	r.Owner.UID = ipam.SharedUID
	r.Hostname = place.hostname
	if shared := b.groups.addr(place.group, family); shared.IsValid() {
		r.Held, r.Former, r.fromElsewhere = shared, nil, false
	} else {
		r.Former = append(r.Former, own)
		r.fromElsewhere = true
	}
}

// held is the address of a family that a Service has; the zero Addr for none.
func held(svc *corev1.Service, family ipam.Family) netip.Addr {
	for _, a := range statusAddrs(svc) {
		if ipam.FamilyOf(a) == family {
			return a
		}
	}
	return netip.Addr{}
}

// statusAddrs returns the addresses in the status of a Service.
func statusAddrs(svc *corev1.Service) []netip.Addr {
	var out []netip.Addr
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(in.IP); err == nil {
			out = append(out, a.Unmap())
		}
	}
	return out
}

// families returns the IP families of a Service, the primary one first.
func families(svc *corev1.Service) []ipam.Family {
	var out []ipam.Family
	for _, f := range svc.Spec.IPFamilies {
		if f == corev1.IPv6Protocol {
			out = append(out, ipam.IPv6)
		} else {
			out = append(out, ipam.IPv4)
		}
	}
	if len(out) == 0 {
		out = append(out, ipam.IPv4)
	}
	return out
}

func prefersDualStack(svc *corev1.Service) bool {
	return svc.Spec.IPFamilyPolicy != nil && *svc.Spec.IPFamilyPolicy == corev1.IPFamilyPolicyPreferDualStack
}
