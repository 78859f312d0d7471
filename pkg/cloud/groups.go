// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/bm-ccm/bm-ccm/pkg/cloud/assign"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/service"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/keylock"
)

// groups remembers which Services share which address, for package assign to
// decide by. Who is in a group follows from the live Services alone, so that a
// crash forgets nothing; what this process has just done, which the informer may
// not show yet, is remembered beside them.
type groups struct {
	// services returns the projected Services of a namespace.
	services func(namespace string) []*corev1.Service
	// className returns the name of a Service's class, whether it exists or not.
	className func(*corev1.Service) string
	// locks are held while claims of a group are being changed.
	locks keylock.Locks[service.Group]

	mu sync.Mutex
	// known has the groups by namespace and key.
	known map[string]map[string]*group
	// complete: the groups among the records of claims have been learnt.
	complete bool
}

// group is the memory of one group, guarded by groups.mu.
type group struct {
	// locked counts those who have the group locked or wait for it.
	locked int
	// addrs are the shared addresses as far as this process knows.
	addrs map[ipam.Family]netip.Addr
	// admitted has what was admitted of each Service, see assign.Fingerprint.
	admitted map[types.UID]string
	// left are the Services that this process has taken out, though the informer
	// may still show them with the shared address.
	left map[types.UID]bool
}

func newGroups(services func(namespace string) []*corev1.Service, className func(*corev1.Service) string) *groups {
	return &groups{services: services, className: className, known: map[string]map[string]*group{}}
}

// Lock gives the caller some groups to itself, until unlock is called. They are
// locked in one order, so that two callers with the same groups do not wait for
// each other.
func (gs *groups) Lock(ctx context.Context, ids ...service.Group) (unlock func(), err error) {
	ids = slices.Clone(ids) // the caller's order is its own
	slices.SortFunc(ids, func(a, b service.Group) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.SharingKey, b.SharingKey))
	})
	ids = slices.Compact(ids)
	var unlocks []func()
	unlock = func() {
		for _, u := range unlocks {
			u()
		}
	}
	for _, id := range ids {
		gs.use(id, 1)
		release, err := gs.locks.Lock(ctx, id)
		if err != nil {
			gs.use(id, -1)
			unlock()
			return nil, fmt.Errorf("waiting for another Service of sharing key %q: %w", id.SharingKey, err)
		}
		unlocks = append(unlocks, func() { release(); gs.use(id, -1) })
	}
	return unlock, nil
}

// use counts the users of a group; without any, an empty one is forgotten.
func (gs *groups) use(id service.Group, n int) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	g := gs.get(id)
	g.locked += n
	gs.forgetUnused(id, g)
}

// get is called with gs.mu held.
func (gs *groups) get(id service.Group) *group {
	g := gs.known[id.Namespace][id.SharingKey]
	if g != nil {
		return g
	}
	if gs.known[id.Namespace] == nil {
		gs.known[id.Namespace] = map[string]*group{}
	}
	g = &group{addrs: map[ipam.Family]netip.Addr{}, admitted: map[types.UID]string{}, left: map[types.UID]bool{}}
	gs.known[id.Namespace][id.SharingKey] = g
	return g
}

// forgetUnused is called with gs.mu held.
func (gs *groups) forgetUnused(id service.Group, g *group) {
	if g.locked > 0 || len(g.addrs) > 0 || len(g.admitted) > 0 {
		return
	}
	present := map[types.UID]bool{}
	for _, svc := range gs.services(id.Namespace) {
		present[svc.UID] = true
	}
	maps.DeleteFunc(g.left, func(uid types.UID, _ bool) bool { return !present[uid] })
	if len(g.left) > 0 {
		return
	}
	delete(gs.known[id.Namespace], id.SharingKey)
	if len(gs.known[id.Namespace]) == 0 {
		delete(gs.known, id.Namespace)
	}
}

// Learn takes all claims of the cluster. It remembers the shared addresses among
// them, where this process does not know better.
func (gs *groups) Learn(claims []ipam.Claim) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	gs.complete = true
	for namespace, keys := range gs.known {
		for key, g := range keys {
			gs.forgetUnused(service.Group{Namespace: namespace, SharingKey: key}, g)
		}
	}
	gs.learn(claims)
}

// LearnSome takes some claims of the cluster.
func (gs *groups) LearnSome(claims []ipam.Claim) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	gs.learn(claims)
}

// learn is called with gs.mu held.
func (gs *groups) learn(claims []ipam.Claim) {
	for _, c := range claims {
		if id, ok := service.GroupOfClaim(c.Key); ok && !c.Reserved {
			g := gs.get(id)
			if _, known := g.addrs[c.Key.Family]; !known {
				g.addrs[c.Key.Family] = c.Addr
			}
		}
	}
}

// isComplete reports whether all shared addresses of the cluster are known.
func (gs *groups) isComplete() bool {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	return gs.complete
}

// noteRecorded is told what is recorded for a group: just after a start that may
// not be known, and a Service that left may have taken the address along.
func (gs *groups) noteRecorded(id service.Group, claims []ipam.Claim) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	gs.learn(claims)
	maps.DeleteFunc(gs.get(id).addrs, func(f ipam.Family, _ netip.Addr) bool {
		return !slices.ContainsFunc(claims, func(c ipam.Claim) bool { return c.Key.Family == f })
	})
}

// sharedBy returns the groups whose address a Service has in its status, other
// than the one it wants to be in.
func (gs *groups) sharedBy(svc *corev1.Service) []service.Group {
	wanted, _ := service.GroupOf(svc)
	gs.mu.Lock()
	defer gs.mu.Unlock()
	var out []service.Group
	for key, g := range gs.known[svc.Namespace] {
		id := service.Group{Namespace: svc.Namespace, SharingKey: key}
		if id != wanted && !g.left[svc.UID] && len(assign.HeldBy(svc, g.addrs)) > 0 {
			out = append(out, id)
		}
	}
	return out
}

// of returns all groups that a Service wants to be in, or is.
func (gs *groups) of(svc *corev1.Service) []service.Group {
	ids := gs.sharedBy(svc)
	if id, ok := service.GroupOf(svc); ok {
		ids = append(ids, id)
	}
	return ids
}

// facts returns what is known of a group for a decision about one Service.
func (gs *groups) facts(id service.Group, svc *corev1.Service) assign.Group {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	g := gs.get(id)
	out := assign.Group{Group: id, Addrs: maps.Clone(g.addrs), Self: gs.member(g, svc)}
	for _, other := range gs.services(id.Namespace) {
		if other.UID == svc.UID || !service.IsLoadBalancer(other) {
			continue
		}
		// One that left may want to come back, but not from its deletion.
		wanted, ok := service.GroupOf(other)
		wants := ok && wanted == id && (other.DeletionTimestamp == nil || !g.left[other.UID])
		if wants || !g.left[other.UID] && len(assign.HeldBy(other, g.addrs)) > 0 {
			out.Others = append(out.Others, gs.member(g, other))
		}
	}
	return out
}

// member is called with gs.mu held.
func (gs *groups) member(g *group, svc *corev1.Service) assign.Member {
	before, admitted := g.admitted[svc.UID]
	return assign.Member{
		Service: svc, Class: gs.className(svc),
		Admitted: admitted, Changed: admitted && before != assign.Fingerprint(svc),
	}
}

// noteJoined remembers that a Service has the addresses of a group, and returns
// whether the rules of sharing would treat it otherwise than when it joined.
func (gs *groups) noteJoined(id service.Group, svc *corev1.Service, claims []ipam.Claim) (changed bool) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	g := gs.get(id)
	for _, c := range claims {
		g.addrs[c.Key.Family] = c.Addr
	}
	now := assign.Fingerprint(svc)
	before, known := g.admitted[svc.UID]
	g.admitted[svc.UID] = now
	delete(g.left, svc.UID)
	return known && before != now
}

// noteLeft remembers that a Service is in a group no longer.
func (gs *groups) noteLeft(id service.Group, uid types.UID) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	g := gs.get(id)
	delete(g.admitted, uid)
	g.left[uid] = true
}

// NoteReleased remembers that a group has no address of a family any more.
func (gs *groups) NoteReleased(id service.Group, f ipam.Family) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	delete(gs.get(id).addrs, f)
}
