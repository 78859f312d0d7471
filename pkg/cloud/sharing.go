// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"cmp"
	"context"
	"errors"
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

	mu sync.Mutex
	// known holds the groups by namespace and key.
	known map[string]map[string]*group
	// complete: the groups of the record of claims have been learnt.
	complete bool
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

// watch sets who returns the projected Services of a namespace.
func (gs *groups) watch(services func(namespace string) []*corev1.Service) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	gs.services = services
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
	g := gs.known[id.namespace][id.key]
	if g != nil {
		return g
	}
	if gs.known == nil {
		gs.known = map[string]map[string]*group{}
	}
	if gs.known[id.namespace] == nil {
		gs.known[id.namespace] = map[string]*group{}
	}
	g = &group{addrs: map[ipam.Family]netip.Addr{}, admitted: map[types.UID]string{}, left: map[types.UID]bool{}}
	gs.known[id.namespace][id.key] = g
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
	if len(g.left) > 0 {
		return
	}
	delete(gs.known[id.namespace], id.key)
	if len(gs.known[id.namespace]) == 0 {
		delete(gs.known, id.namespace)
	}
}

// learn remembers the shared addresses among some claims, where this process
// does not know better. complete says that these are all claims.
func (gs *groups) learn(claims []ipam.Claim, complete bool) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	gs.complete = gs.complete || complete
	for namespace, keys := range gs.known {
		for key, g := range keys {
			gs.forgetUnused(groupID{namespace, key}, g)
		}
	}
	for _, c := range claims {
		if key, ok := c.Key.Group(); ok && !c.Reserved {
			g := gs.get(groupID{c.Key.Namespace, key})
			if _, known := g.addrs[c.Key.Family]; !known {
				g.addrs[c.Key.Family] = c.Addr
			}
		}
	}
}

// found is told what is recorded for a group: just after a start that may not
// be known, and a Service that left may have taken the address along.
func (gs *groups) found(id groupID, claims []ipam.Claim) {
	gs.learn(claims, false)
	gs.mu.Lock()
	defer gs.mu.Unlock()
	maps.DeleteFunc(gs.get(id).addrs, func(f ipam.Family, _ netip.Addr) bool {
		return !slices.ContainsFunc(claims, func(c ipam.Claim) bool { return c.Key.Family == f })
	})
}

// sharing returns the groups whose address a Service has in its status, other
// than the one it wants to be in.
func (gs *groups) sharing(svc *corev1.Service) []groupID {
	wanted, _ := groupOf(svc)
	addrs := statusAddrs(svc)
	gs.mu.Lock()
	defer gs.mu.Unlock()
	var out []groupID
	for key, g := range gs.known[svc.Namespace] {
		id := groupID{svc.Namespace, key}
		if id == wanted || g.left[svc.UID] {
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

// addAddrs adds the addresses of a group to a set.
func (gs *groups) addAddrs(id groupID, to map[netip.Addr]bool) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	for _, a := range gs.get(id).addrs {
		to[a] = true
	}
}

// others returns the live Services, except one, that want the address of a
// group or have it.
func (gs *groups) others(id groupID, except types.UID) []*corev1.Service {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	g := gs.get(id)
	var out []*corev1.Service
	for _, svc := range gs.services(id.namespace) {
		if svc.UID == except || svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
			continue
		}
		// Who has left may want to come back, but not from its deletion.
		wanted, ok := groupOf(svc)
		wants := ok && wanted == id && (svc.DeletionTimestamp == nil || !g.left[svc.UID])
		if wants || !g.left[svc.UID] && len(g.heldBy(svc)) > 0 {
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

// admit judges the Services that want to be in a group or are, and returns why
// each of the refused ones may not. Who is on the way out is in the way until
// it has let go of the address.
func (gs *groups) admit(id groupID, members []*corev1.Service, class func(*corev1.Service) string) map[string]*ipam.SharingError {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	g := gs.get(id)
	sharers := make([]ipam.Sharer, len(members))
	for i, svc := range members {
		shared := g.heldBy(svc)
		before, admitted := g.admitted[svc.UID]
		if admitted {
			maps.Copy(shared, g.addrs) // its status may not show it yet
		}
		sharers[i] = sharerOf(svc, class(svc), shared)
		sharers[i].Changed = admitted && before != fingerprint(svc)
	}
	return ipam.Admit(id.key, sharers)
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

// place is where a Service stands among the groups of its namespace. The groups
// are the caller's own until unlock is called.
type place struct {
	unlock func()
	// former are the groups that the Service was in and is to leave.
	former []groupID

	// shares: the Service wants to be in group. The rest is about that one.
	shares bool
	group  groupID
	// others are the other live Services that want to be in it or are.
	others []*corev1.Service
	// refusal is why the Service may not; nil if it may.
	refusal *ipam.SharingError
	// asked are the addresses that somebody of the group asks for.
	asked map[ipam.Family]netip.Addr
	// hostname is that of the oldest Service that gives one.
	hostname string
}

// place finds out where a Service stands.
func (b *balancer) place(ctx context.Context, svc *corev1.Service, ask ipam.Ask) (*place, error) {
	p := &place{unlock: func() {}, shares: ask.SharingKey != "", group: groupID{svc.Namespace, ask.SharingKey}}
	if p.shares {
		if err := b.learnGroups(ctx); err != nil {
			return nil, err
		}
	}
	former := b.groups.sharing(svc)
	if !p.shares && len(former) == 0 {
		return p, nil
	}
	p.unlock = b.groups.lock(b.groupsOf(svc)...)
	for _, id := range b.groups.sharing(svc) {
		if slices.Contains(former, id) { // else it has not been locked
			p.former = append(p.former, id)
		}
	}
	if p.shares {
		p.others = b.groups.others(p.group, svc.UID)
		b.judge(svc, p)
	}
	return p, nil
}

// judge decides whether a Service may be in its group, and on what terms.
func (b *balancer) judge(svc *corev1.Service, p *place) {
	members := append([]*corev1.Service{svc}, p.others...)
	refused := b.groups.admit(p.group, members, b.classOfMember)
	p.refusal = refused[svc.Name]
	p.asked = map[ipam.Family]netip.Addr{}
	slices.SortFunc(members, func(a, b *corev1.Service) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	for _, s := range members {
		ask, err := ipam.ParseAsk(s.Annotations, s.Spec.LoadBalancerIP)
		if err != nil || ask.SharingKey != p.group.key || refused[s.Name] != nil {
			continue
		}
		maps.Copy(p.asked, ask.Addrs)
		p.hostname = cmp.Or(p.hostname, ask.Hostname)
	}
}

// learnGroups reads the groups from the record of claims, once: who has the
// address of a group cannot be told from the Services alone.
func (b *balancer) learnGroups(ctx context.Context) error {
	b.groups.mu.Lock()
	complete := b.groups.complete
	b.groups.mu.Unlock()
	if complete {
		return nil
	}
	claims, err := b.allocator.List(ctx)
	if err != nil {
		return fmt.Errorf("looking up which addresses are shared: %w", err)
	}
	b.groups.learn(claims, true)
	return nil
}

// recordedForGroup tells whether an error came from not knowing (just after a
// start) that a Service had its address from a group.
func (b *balancer) recordedForGroup(ctx context.Context, svc *corev1.Service, err error) bool {
	var taken *ipam.ConflictError
	if !errors.As(err, &taken) || !slices.Contains(statusAddrs(svc), taken.Addr) || len(b.groups.sharing(svc)) > 0 {
		return false
	}
	return b.learnGroups(ctx) == nil && len(b.groups.sharing(svc)) > 0
}

// groupsOf returns all groups that a Service wants to be in, or is.
func (b *balancer) groupsOf(svc *corev1.Service) []groupID {
	ids := b.groups.sharing(svc)
	if id, ok := groupOf(svc); ok {
		ids = append(ids, id)
	}
	return ids
}

// refuse says why a Service does not share. It keeps the address that it has,
// unless that is one of a group in which another Service has the same port.
func (b *balancer) refuse(svc *corev1.Service, p *place) (outcome, error) {
	clashes := map[netip.Addr]bool{}
	if p.refusal.Ports {
		b.groups.addAddrs(p.group, clashes)
	}
	for _, id := range p.former {
		members := append(b.groups.others(id, svc.UID), svc)
		if r := b.groups.admit(id, members, b.classOfMember)[svc.Name]; r != nil && r.Ports {
			b.groups.addAddrs(id, clashes)
		}
	}
	left := svc.Status.LoadBalancer.DeepCopy()
	left.Ingress = slices.DeleteFunc(left.Ingress, func(in corev1.LoadBalancerIngress) bool {
		a, err := netip.ParseAddr(in.IP)
		return err == nil && clashes[a.Unmap()]
	})
	if len(left.Ingress) == len(svc.Status.LoadBalancer.Ingress) {
		return outcome{}, p.refusal
	}
	return outcome{status: left, waits: p.refusal}, nil
}

// classOfMember is the name of the class of a Service, also of a class that
// does not exist.
func (b *balancer) classOfMember(svc *corev1.Service) string {
	if class, err := b.catalogue.classOf(svc); err == nil {
		return class.Name
	}
	return requestedClass(svc)
}

// leave takes a Service out of a group, whose address is freed with the last
// one. The group is locked.
func (b *balancer) leave(ctx context.Context, id groupID, svc *corev1.Service, free func(context.Context, ipam.Key) error) error {
	if err := b.releaseUnneeded(ctx, id, svc.UID, free); err != nil {
		return err
	}
	b.groups.parted(id, svc.UID)
	b.wake(b.groups.others(id, svc.UID))
	return nil
}

// releaseUnneeded frees the addresses of a group that no Service, except one,
// wants or has.
func (b *balancer) releaseUnneeded(ctx context.Context, id groupID, except types.UID, free func(context.Context, ipam.Key) error) error {
	claims, err := b.allocator.Find(ctx, id.namespace, id.service())
	if err != nil {
		return fmt.Errorf("looking for the addresses that this Service shares: %w", err)
	}
	b.groups.found(id, claims)
	others := b.groups.others(id, except)
	for _, c := range claims {
		if b.groups.needed(id, others, c.Key.Family) {
			continue
		}
		if err := free(ctx, c.Key); err != nil {
			return fmt.Errorf("releasing %s, which this Service was the last to share: %w", c.Addr, err)
		}
		b.groups.emptied(id, c.Key.Family)
		b.freed()
	}
	return nil
}

// wake has those of some Services tried again that wait.
func (b *balancer) wake(services []*corev1.Service) {
	for _, svc := range services {
		if b.waiting.has(svc) {
			b.replay(serviceKey(svc))
		}
	}
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
