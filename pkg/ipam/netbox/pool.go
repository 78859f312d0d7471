// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go4.org/netipx"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// claimAny takes the next free address of the first pool that has one. A source
// that does not work is passed over while another one serves: one prefix with a
// mistake must not stop a class that has others. If none serves, its mistake is
// reported before what is full, because it can be corrected.
func (a *Allocator) claimAny(ctx context.Context, r ipam.Request) (record, error) {
	exhausted := &ipam.ExhaustedError{Family: r.Key.Family}
	var wrong *sourceError
	for _, p := range r.Pools {
		got, err := a.claimIn(ctx, r, p)
		var full *fullError
		var here *sourceError
		switch {
		case errors.As(err, &full):
			exhausted.Pools = append(exhausted.Pools, full.sentence)
		case errors.As(err, &here):
			if wrong == nil {
				wrong = here
			}
		default:
			return got, err
		}
	}
	if wrong == nil {
		return record{}, exhausted
	}
	if len(exhausted.Pools) > 0 {
		return record{}, &ipam.ConfigError{Problem: wrong.Error() + "; " + exhausted.Error()}
	}
	return record{}, wrong
}

// fullError says that a pool has no free address of a family.
type fullError struct{ sentence string }

// Error is the sentence, with the pool's name.
func (e *fullError) Error() string { return e.sentence }

// claimIn takes the next free address of a pool, from its sources in order. Errors: *fullError,
// *sourceError when the pool has no address that can be reached and something
// must be set right, or what Claim returns.
func (a *Allocator) claimIn(ctx context.Context, r ipam.Request, p ipam.Pool) (record, error) {
	if p.NetBox() && p.Spec.NetBox.Reserved != nil {
		return a.claimReserved(ctx, r, p)
	}
	sources, err := a.sourcesOf(ctx, p, foundTTL)
	var wrong *sourceError
	if err != nil && !errors.As(err, &wrong) {
		return record{}, err
	}
	// Each source is tried even if it was full a moment ago: addresses are freed at
	// any time, by others too, and NetBox answers a full one quickly.
	sources = ofFamily(sources, r.Key.Family)
	for _, src := range sources {
		got, err := a.waiting.claim(ctx, src, a.item(r, r.Key.String()))
		var gone *sourceError
		switch {
		case errors.As(err, &gone):
			wrong = gone
		case !errors.Is(err, errFull):
			return got, err
		}
	}
	if wrong != nil {
		return record{}, wrong
	}
	return record{}, &fullError{fullSentence(p, sources)}
}

// fullSentence says how full a pool is, naming its first few sources.
func fullSentence(p ipam.Pool, sources []source) string {
	const shown = 4
	if len(sources) == 0 {
		return fmt.Sprintf("pool %q: has no addresses of this IP family", p.Name)
	}
	var where []string
	for _, s := range sources[:min(len(sources), shown)] {
		where = append(where, s.String())
	}
	text := strings.Join(where, ", ")
	if more := len(sources) - shown; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Sprintf("pool %q: 0 of %d addresses free in %s", p.Name,
		ipam.Count(usableRanges(sources), sources[0].family(), p.Spec.AvoidBuggyIPs), text)
}

// sourcesOf returns the sources of a pool in the order in which they are tried:
// prefixes, ranges, and what the selector has found since maxAge. With a
// *sourceError it also returns those that work; with any other error it is not
// known which they are. What a pool names and its selector finds counts once.
func (a *Allocator) sourcesOf(ctx context.Context, p ipam.Pool, maxAge time.Duration) ([]source, error) {
	if !p.NetBox() {
		return nil, newSourceError("pool %q: lists its addresses itself: NetBox keeps no claims of it", p.Name)
	}
	var out []source
	var first *sourceError
	add := func(err error, found ...source) error {
		var wrong *sourceError
		switch {
		case errors.As(err, &wrong):
			if first == nil {
				first = wrong
			}
		case err != nil:
			return err
		}
		for _, src := range found {
			if !slices.ContainsFunc(out, func(s source) bool { return s.key() == src.key() }) {
				out = append(out, src)
			}
		}
		return nil
	}
	networks, fields := networksOf(p)
	for i, network := range networks {
		src, err := a.sources.find(ctx, p, network, fields[i])
		if err != nil {
			if err := add(err); err != nil {
				return nil, err
			}
			continue
		}
		if err := add(nil, src); err != nil {
			return nil, err
		}
	}
	if p.Spec.NetBox.Selector != nil {
		found, err := a.sources.selected(ctx, p, maxAge)
		if err := add(err, found...); err != nil {
			return nil, err
		}
	}
	if x, y, shared := sharedAcrossVRFs(out); shared {
		return nil, newSourceError("pool %q: %s (%s) and %s (%s) have addresses in common, and one address must not be assigned twice: take one of them off",
			p.Name, x, x.field, y, y.field)
	}
	if first != nil {
		return out, first
	}
	return out, nil
}

// prefixWith finds the source that holds an address: the VRF in which it is to be
// recorded is that of the source. The first pool that has it counts.
func (a *Allocator) prefixWith(ctx context.Context, addr netip.Addr, pools []ipam.Pool) (source, error) {
	addr = addr.Unmap()
	names := make([]string, len(pools))
	var wrong *sourceError
	for n, p := range pools {
		names[n] = p.Name
		if !p.NetBox() {
			continue
		}
		src, ok, err := a.sourceWith(ctx, addr, p)
		if ok {
			return src, nil
		}
		if err != nil && !errors.As(err, &wrong) {
			return source{}, err
		}
	}
	if wrong != nil {
		return source{}, wrong
	}
	return source{}, &ipam.NotInPoolsError{Addr: addr, Pools: names}
}

// sourceWith finds the source of a pool that holds an address, and asks about
// no other one: a mistake elsewhere in the pool does not matter for it.
func (a *Allocator) sourceWith(ctx context.Context, addr netip.Addr, p ipam.Pool) (source, bool, error) {
	if p.Spec.NetBox.Reserved != nil {
		return a.reservedAt(ctx, addr, p)
	}
	networks, fields := networksOf(p)
	for i, network := range networks {
		named := a.sources.entry(network)
		if named.invalid != nil {
			return source{}, false, newSourceError("pool %q: %s: %v", p.Name, fields[i], named.invalid)
		}
		if named.addrs.Contains(addr) {
			src, err := a.sources.find(ctx, p, network, fields[i])
			return src, err == nil, err
		}
	}
	if p.Spec.NetBox.Selector == nil {
		return source{}, false, nil
	}
	found, err := a.sources.selected(ctx, p, foundTTL)
	if err != nil {
		return source{}, false, err
	}
	i := slices.IndexFunc(found, func(s source) bool { return s.all.Contains(addr) })
	if i < 0 {
		return source{}, false, nil
	}
	return found[i], true, nil
}

// Resolve implements ipam.Allocator. An error is also the pool's Problem, because
// a pool without addresses that says why is of more use than none.
func (a *Allocator) Resolve(ctx context.Context, p ipam.Pool) (ipam.Pool, error) {
	if !p.Dynamic() {
		return p, nil
	}
	var found []source
	var err error
	if p.Spec.NetBox.Reserved != nil {
		found, err = a.sources.reservedSources(ctx, p, foundTTL)
	} else {
		found, err = a.sources.selected(ctx, p, foundTTL)
	}
	p.Found, p.Problem = rangesOf(found), err
	return p, err
}

// rangesOf returns the addresses of sources, adjacent ones in one range.
func rangesOf(sources []source) []netipx.IPRange {
	var b netipx.IPSetBuilder
	for _, s := range sources {
		b.AddRange(s.all)
	}
	set, err := b.IPSet()
	if err != nil {
		return nil
	}
	return set.Ranges()
}

// SharedAcrossVRFs reports whether NetBox would hand out an address once for
// each of two pools, because they have it in different VRFs. A pool that cannot
// be resolved shares nothing: what is wrong with it is reported with it.
func (a *Allocator) SharedAcrossVRFs(ctx context.Context, p, q ipam.Pool) bool {
	ours, err1 := a.sourcesOf(ctx, p, foundTTL)
	theirs, err2 := a.sourcesOf(ctx, q, foundTTL)
	if errors.Join(err1, err2) != nil {
		return false
	}
	_, _, shared := sharedAcrossVRFs(slices.Concat(ours, theirs))
	return shared
}
