// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package inline

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"go4.org/netipx"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// Allocator implements ipam.Store in memory. An address is given once,
// also where pools overlap.
type Allocator struct {
	cluster string

	// mu guards all that follows. One lock will do: nothing here waits for anybody,
	// and a claim takes microseconds.
	mu sync.Mutex
	// restored: before, an address that a Service has would pass for free.
	restored bool
	byKey    map[ipam.Key]ipam.Claim
	// byAddr has the same claims by address; an address is in it once, whatever
	// pools it lies in.
	byAddr map[netip.Addr]ipam.Key
	// used has the same addresses once more, to find the lowest free one.
	used map[ipam.Family]*usedSet
}

var _ ipam.Store = (*Allocator)(nil)

// New returns an allocator for the claims of a cluster. Until Restore it
// answers *ipam.UnavailableError.
func New(cluster string) *Allocator {
	return &Allocator{cluster: cluster}
}

// Restore replaces everything known by these claims. Of two claims on one
// address, or of one key, the first one counts.
func (a *Allocator) Restore(claims []ipam.Claim) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.restored = true
	a.byKey = make(map[ipam.Key]ipam.Claim, len(claims))
	a.byAddr = make(map[netip.Addr]ipam.Key, len(claims))
	a.used = map[ipam.Family]*usedSet{ipam.IPv4: newUsedSet(), ipam.IPv6: newUsedSet()}
	for _, c := range claims {
		_, taken := a.byAddr[c.Addr.Unmap()]
		_, has := a.byKey[c.Key]
		if !taken && !has && c.Addr.IsValid() {
			a.hold(c)
		}
	}
}

var errNotRestored = errors.New("the Services have not been read yet")

// ready is called with mu held, as all methods below that begin with a small
// letter are.
func (a *Allocator) ready() error {
	if !a.restored {
		return &ipam.UnavailableError{Doing: "looking up assigned addresses", Err: errNotRestored}
	}
	return nil
}

// hold records a claim on an address that is free.
func (a *Allocator) hold(c ipam.Claim) {
	c.Addr = c.Addr.Unmap()
	a.byKey[c.Key] = c
	a.byAddr[c.Addr] = c.Key
	a.used[ipam.FamilyOf(c.Addr)].add(numberOf(c.Addr))
}

// free takes back a claim that is recorded.
func (a *Allocator) free(c ipam.Claim) {
	delete(a.byKey, c.Key)
	delete(a.byAddr, c.Addr)
	a.used[ipam.FamilyOf(c.Addr)].remove(numberOf(c.Addr))
}

// Claim implements ipam.Claims. Of an existing claim it refreshes the owner: the
// Service may have been created anew under its name. A new address is held before
// the former one is freed, so that a Service which moves never has none.
func (a *Allocator) Claim(_ context.Context, r ipam.Request) (ipam.Claim, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.ready(); err != nil {
		return ipam.Claim{}, err
	}
	if r.Key.Cluster != a.cluster {
		return ipam.Claim{}, fmt.Errorf("claim key %s: this allocator keeps the claims of cluster %s", r.Key, a.cluster)
	}
	existing, ok := a.takeOver(r)
	if ok && (!r.Addr.IsValid() || r.Addr.Unmap() == existing.Addr) {
		existing.Owner = r.Owner
		a.byKey[r.Key] = existing
		return existing, nil
	}
	if !ok && !r.Addr.IsValid() && ipam.PoolOf(r.Held, r.Pools) != "" {
		r.Addr = r.Held // its address was given elsewhere before
	}
	addr, pool, err := a.pick(r)
	if err != nil {
		return ipam.Claim{}, err
	}
	if ok {
		a.free(existing)
	}
	c := ipam.Claim{Key: r.Key, Owner: r.Owner, Addr: addr, Pool: pool}
	a.hold(c)
	return c, nil
}

// takeOver returns the existing claim of a request, which may come from a
// former key.
func (a *Allocator) takeOver(r ipam.Request) (ipam.Claim, bool) {
	if c, ok := a.byKey[r.Key]; ok {
		return c, true
	}
	for _, former := range r.Former {
		if c, ok := a.byKey[former]; ok {
			a.free(c)
			c.Key, c.Owner = r.Key, r.Owner
			a.hold(c)
			return c, true
		}
	}
	return ipam.Claim{}, false
}

// pick chooses the address of a new claim.
func (a *Allocator) pick(r ipam.Request) (netip.Addr, string, error) {
	if r.Addr.IsValid() {
		return a.pickAsked(r)
	}
	exhausted := &ipam.ExhaustedError{Family: r.Key.Family}
	for _, p := range r.Pools {
		ranges, err := p.Ranges()
		if err != nil {
			return netip.Addr{}, "", err
		}
		for _, rg := range ranges {
			if ipam.FamilyOf(rg.From()) != r.Key.Family {
				continue
			}
			if addr, ok := a.lowestFree(rg, p.Spec.AvoidBuggyIPs); ok {
				return addr, p.Name, nil
			}
		}
		exhausted.Pools = append(exhausted.Pools, sentence(p, ranges, r.Key.Family))
	}
	return netip.Addr{}, "", exhausted
}

// pickAsked returns the asked-for address and its pool, if it is free.
func (a *Allocator) pickAsked(r ipam.Request) (netip.Addr, string, error) {
	addr := r.Addr.Unmap()
	pool := ipam.PoolOf(addr, r.Pools)
	if pool == "" {
		names := make([]string, len(r.Pools))
		for i, p := range r.Pools {
			names[i] = p.Name
		}
		return netip.Addr{}, "", &ipam.NotInPoolsError{Addr: addr, Pools: names}
	}
	if holder, ok := a.byAddr[addr]; ok {
		return netip.Addr{}, "", &ipam.ConflictError{
			Addr: addr, Holder: fmt.Sprintf("Service %s/%s", holder.Namespace, holder.Service)}
	}
	return addr, pool, nil
}

// lowestFree finds the lowest free address of a range, past those that end in
// .0 or .255 if they are to be avoided.
func (a *Allocator) lowestFree(r netipx.IPRange, avoidBuggy bool) (netip.Addr, bool) {
	used := a.used[ipam.FamilyOf(r.From())]
	// At most one address in 128 is avoided, so few free ones are passed over.
	for n, ok := used.free(numberOf(r.From())); ok && !numberOf(r.To()).less(n); {
		addr := n.addr(r.From().Is4())
		if !avoidBuggy || !ipam.Buggy(addr) {
			return addr, true
		}
		if n, ok = n.next(); ok {
			n, ok = used.free(n)
		}
	}
	return netip.Addr{}, false
}

// sentence says how full a pool is, naming its first few ranges.
func sentence(p ipam.Pool, ranges []netipx.IPRange, f ipam.Family) string {
	const shown = 4
	var where []string
	for i, r := range ranges {
		if ipam.FamilyOf(r.From()) == f {
			where = append(where, p.Spec.Addresses[i])
		}
	}
	if len(where) > shown {
		where = append(where[:shown], fmt.Sprintf("and %d more", len(where)-shown))
	}
	return fmt.Sprintf("pool %q: 0 of %d addresses free in %s", p.Name, ipam.Count(ranges, f, p.Spec.AvoidBuggyIPs), strings.Join(where, ", "))
}

// Find implements ipam.Claims.
func (a *Allocator) Find(_ context.Context, namespace, service string) ([]ipam.Claim, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.ready(); err != nil {
		return nil, err
	}
	var out []ipam.Claim
	for _, f := range []ipam.Family{ipam.IPv4, ipam.IPv6} {
		key := ipam.Key{Cluster: a.cluster, Namespace: namespace, Service: service, Family: f}
		if c, ok := a.byKey[key]; ok {
			out = append(out, c)
		}
	}
	return out, nil
}

// Known implements ipam.Claims: everything is known here.
func (a *Allocator) Known(_ context.Context, key ipam.Key) (ipam.Claim, bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.ready(); err != nil {
		return ipam.Claim{}, false, err
	}
	c, ok := a.byKey[key]
	return c, ok, nil
}

// Release implements ipam.Claims.
func (a *Allocator) Release(_ context.Context, key ipam.Key) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.ready(); err != nil {
		return err
	}
	if c, ok := a.byKey[key]; ok {
		a.free(c)
	}
	return nil
}

// Retain implements ipam.Claims: claims live in the status of Services here
// and end with them.
func (a *Allocator) Retain(ctx context.Context, key ipam.Key) error { return a.Release(ctx, key) }

// Resolve implements ipam.Pools: such pools name their addresses.
func (a *Allocator) Resolve(_ context.Context, p ipam.Pool) (ipam.Pool, error) { return p, nil }

// Audit implements ipam.Records: there is no record apart from the Services.
func (a *Allocator) Audit(ctx context.Context, _ []ipam.Pool) (ipam.Report, error) {
	claims, err := a.List(ctx)
	return ipam.Report{Claims: claims}, err
}

// List implements ipam.Records. The order is that of the keys, so that two lists
// of the same claims are equal.
func (a *Allocator) List(context.Context) ([]ipam.Claim, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.ready(); err != nil {
		return nil, err
	}
	out := make([]ipam.Claim, 0, len(a.byKey))
	for _, c := range a.byKey {
		out = append(out, c)
	}
	slices.SortFunc(out, func(x, y ipam.Claim) int { return strings.Compare(x.Key.String(), y.Key.String()) })
	return out, nil
}

// Usage implements ipam.Pools. It walks over all claims: pools are counted every
// few seconds at most, and a count for each would have to follow every edit of a
// pool.
func (a *Allocator) Usage(_ context.Context, p ipam.Pool) (map[ipam.Family]ipam.Usage, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.ready(); err != nil {
		return nil, err
	}
	ranges, err := p.Ranges()
	if err != nil {
		return nil, err
	}
	used := map[ipam.Family]int64{}
	for addr := range a.byAddr {
		counts := !p.Spec.AvoidBuggyIPs || !ipam.Buggy(addr)
		if counts && slices.ContainsFunc(ranges, func(r netipx.IPRange) bool { return r.Contains(addr) }) {
			used[ipam.FamilyOf(addr)]++
		}
	}
	out := map[ipam.Family]ipam.Usage{}
	for _, r := range ranges {
		f := ipam.FamilyOf(r.From())
		total := ipam.Count(ranges, f, p.Spec.AvoidBuggyIPs)
		out[f] = ipam.Usage{Capacity: total, Used: used[f], Free: total - used[f]}
	}
	return out, nil
}
