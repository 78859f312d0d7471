// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// groupID names the Services of a namespace that give one sharing key.
type groupID struct{ namespace, key string }

func (g groupID) claimant() string { return g.namespace + "/" + g.service() }

// service is what stands for the group where a claim names a Service.
func (g groupID) service() string { return ipam.GroupKey("", g.namespace, g.key, "").Service }

// groupOf returns the group that a Service wants to be in; ok is false for none.
func groupOf(svc *corev1.Service) (g groupID, ok bool) {
	key := sharingKey(svc)
	return groupID{svc.Namespace, key}, key != ""
}

// groups knows which Services share which address. Who is in a group follows
// from the live Services alone, so that a crash forgets nothing; what this
// process has just done, which the informer may not show yet, is remembered
// beside them.
type groups struct {
	// services returns the projected Services of a namespace.
	services func(namespace string) []*corev1.Service

	mu    sync.Mutex
	known map[groupID]*group
}

// group is the memory of one group. Its fields, but for work and users, are
// guarded by groups.mu.
type group struct {
	// work is held while claims of the group are being changed.
	work  sync.Mutex
	users int

	// addrs are the shared addresses as far as this process knows.
	addrs map[ipam.Family]netip.Addr
	// admitted holds what was admitted of each Service, see fingerprint.
	admitted map[types.UID]string
	// left are the Services that this process has taken out, though the informer
	// may still show them with the shared address.
	left map[types.UID]bool
}

// lock gives the caller some groups to itself, until unlock is called.
func (gs *groups) lock(ids ...groupID) (unlock func()) {
	slices.SortFunc(ids, func(a, b groupID) int {
		return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.key, b.key))
	})
	ids = slices.Compact(ids)
	locked := make([]*group, len(ids))
	for i, id := range ids {
		gs.mu.Lock()
		locked[i] = gs.get(id)
		locked[i].users++
		gs.mu.Unlock()
		locked[i].work.Lock()
	}
	return func() {
		for i, id := range ids {
			locked[i].work.Unlock()
			gs.mu.Lock()
			locked[i].users--
			gs.forgetUnused(id, locked[i])
			gs.mu.Unlock()
		}
	}
}

// get is called with gs.mu held.
func (gs *groups) get(id groupID) *group {
	g := gs.known[id]
	if g == nil {
		g = &group{addrs: map[ipam.Family]netip.Addr{}, admitted: map[types.UID]string{}, left: map[types.UID]bool{}}
		if gs.known == nil {
			gs.known = map[groupID]*group{}
		}
		gs.known[id] = g
	}
	return g
}

// forgetUnused is called with gs.mu held.
func (gs *groups) forgetUnused(id groupID, g *group) {
	if g.users > 0 || len(g.addrs) > 0 || len(g.admitted) > 0 {
		return
	}
	present := map[types.UID]bool{}
	for _, svc := range gs.services(id.namespace) {
		present[svc.UID] = true
	}
	maps.DeleteFunc(g.left, func(uid types.UID, _ bool) bool { return !present[uid] })
	if len(g.left) == 0 {
		delete(gs.known, id)
	}
}

// learn remembers the shared addresses among some claims, where this process
// does not know better.
func (gs *groups) learn(claims []ipam.Claim) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	for _, c := range claims {
		if key, ok := c.Key.Group(); ok && !c.Reserved {
			g := gs.get(groupID{c.Key.Namespace, key})
			if _, known := g.addrs[c.Key.Family]; !known {
				g.addrs[c.Key.Family] = c.Addr
			}
		}
	}
}

// sharing returns the groups whose address a Service has in its status, other
// than the one it wants to be in.
func (gs *groups) sharing(svc *corev1.Service) []groupID {
	wanted, _ := groupOf(svc)
	addrs := statusAddrs(svc)
	gs.mu.Lock()
	defer gs.mu.Unlock()
	var out []groupID
	for id, g := range gs.known {
		if id.namespace != svc.Namespace || id == wanted || g.left[svc.UID] {
			continue
		}
		for _, a := range addrs {
			if g.addrs[ipam.FamilyOf(a)] == a {
				out = append(out, id)
				break
			}
		}
	}
	return out
}

// addr is the shared address of a group; the zero Addr if it is not known.
func (gs *groups) addr(id groupID, f ipam.Family) netip.Addr {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	return gs.get(id).addrs[f]
}

// others returns the live Services, except one, that want the address of a
// group or have it.
func (gs *groups) others(id groupID, except types.UID) []*corev1.Service {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	g := gs.get(id)
	var out []*corev1.Service
	for _, svc := range gs.services(id.namespace) {
		if svc.UID == except || svc.Spec.Type != corev1.ServiceTypeLoadBalancer || g.left[svc.UID] {
			continue
		}
		if wanted, ok := groupOf(svc); ok && wanted == id || len(g.heldBy(svc)) > 0 {
			out = append(out, svc)
		}
	}
	return out
}

// heldBy returns the shared addresses that a Service has by its status.
func (g *group) heldBy(svc *corev1.Service) map[ipam.Family]netip.Addr {
	out := map[ipam.Family]netip.Addr{}
	for _, a := range statusAddrs(svc) {
		if g.addrs[ipam.FamilyOf(a)] == a {
			out[ipam.FamilyOf(a)] = a
		}
	}
	return out
}

// needed tells whether one of these Services wants an address of a family from
// the group, or has it.
func (gs *groups) needed(id groupID, others []*corev1.Service, f ipam.Family) bool {
	shared := gs.addr(id, f)
	for _, svc := range others {
		wanted, ok := groupOf(svc)
		if ok && wanted == id && slices.Contains(families(svc), f) || shared.IsValid() && held(svc, f) == shared {
			return true
		}
	}
	return false
}

// admit judges a Service that wants to be in a group together with the others,
// and returns why it may not. Who is on the way out is in the way until it has
// let go of the address.
func (gs *groups) admit(id groupID, svc *corev1.Service, others []*corev1.Service, class func(*corev1.Service) string) *ipam.SharingError {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	g := gs.get(id)
	var sharers []ipam.Sharer
	for _, s := range append([]*corev1.Service{svc}, others...) {
		shared := g.heldBy(s)
		print, admitted := g.admitted[s.UID]
		if admitted {
			maps.Copy(shared, g.addrs) // its status may not show it yet
		}
		sharer := sharerOf(s, class(s), shared)
		sharer.Changed = admitted && print != fingerprint(s)
		sharers = append(sharers, sharer)
	}
	return ipam.Admit(id.key, sharers)[svc.Name]
}

// joined remembers that a Service has the address of a group, and returns
// whether it was not like that before.
func (gs *groups) joined(id groupID, svc *corev1.Service, claims []ipam.Claim) (news bool) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	g := gs.get(id)
	for _, c := range claims {
		g.addrs[c.Key.Family] = c.Addr
	}
	before, known := g.admitted[svc.UID]
	g.admitted[svc.UID] = fingerprint(svc)
	delete(g.left, svc.UID)
	return known && before != fingerprint(svc)
}

// parted remembers that a Service is in a group no longer.
func (gs *groups) parted(id groupID, uid types.UID) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	g := gs.get(id)
	delete(g.admitted, uid)
	g.left[uid] = true
}

// emptied remembers that a group has no address of a family any longer.
func (gs *groups) emptied(id groupID, f ipam.Family) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	delete(gs.get(id).addrs, f)
}

// sharerOf is what the rules of sharing look at in a Service.
func sharerOf(svc *corev1.Service, class string, shared map[ipam.Family]netip.Addr) ipam.Sharer {
	s := ipam.Sharer{
		Name: svc.Name, Created: svc.CreationTimestamp.Time, Class: class,
		Local:    svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
		Selector: svc.Spec.Selector, Held: shared,
	}
	if ask, err := ipam.ParseAsk(svc.Annotations, svc.Spec.LoadBalancerIP); err == nil {
		s.Asked = ask.Addrs
	}
	for _, p := range svc.Spec.Ports {
		protocol := cmp.Or(p.Protocol, corev1.ProtocolTCP)
		s.Ports = append(s.Ports, ipam.SharedPort{Protocol: string(protocol), Port: p.Port})
	}
	return s
}

// fingerprint is equal for two versions of a Service that the rules of sharing
// treat alike.
func fingerprint(svc *corev1.Service) string {
	s := sharerOf(svc, requestedClass(svc), nil)
	return fmt.Sprint(s.Class, s.Ports, s.Local, s.Selector, s.Asked)
}
