// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// batch is how many routes one call to gobgp changes. A call holds up
// everything else in it, keepalives excepted: with all of 10,000 routes in one,
// a session that comes up meanwhile would wait for them.
const batch = 500

// SetRoutes makes routes what is announced, each prefix at most once: the
// difference is sent, nothing else. If it fails, a later call mends it.
func (s *Speaker) SetRoutes(ctx context.Context, routes []Route) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	wanted := make(map[netip.Prefix]Route, len(routes))
	var add, remove []Route
	for _, r := range routes {
		r = r.normal()
		wanted[r.Prefix] = r
		if have, ok := s.routes[r.Prefix]; !ok || !have.Equal(r) {
			add = append(add, r)
		}
	}
	for prefix := range s.routes {
		if _, ok := wanted[prefix]; !ok {
			// gobgp finds what to withdraw by the prefix alone.
			remove = append(remove, Route{Prefix: prefix})
		}
	}
	if len(add) > 0 {
		// A mark that the policy does not know yet would leave with the route,
		// to all routers.
		if err := s.applyPolicy(ctx, s.subsetsInUse(wanted)); err != nil {
			return err
		}
	}
	// What is new first: an address that moves between prefixes or peers is
	// then never without a route.
	if err := s.change(ctx, "announcing", add, s.announce); err != nil {
		return err
	}
	return s.change(ctx, "withdrawing", remove, s.withdraw)
}

// change hands routes to gobgp in batches. What was done stays done when one
// fails: s.routes holds what gobgp was given, so that the next SetRoutes goes on
// from there.
func (s *Speaker) change(ctx context.Context, doing string, routes []Route, apply func([]Route, []*apiutil.Path) error) error {
	for chunk := range slices.Chunk(routes, batch) {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%s %d routes: %w", doing, len(routes), err)
		}
		paths := make([]*apiutil.Path, len(chunk))
		for i, r := range chunk {
			path, err := s.path(r)
			if err != nil {
				return fmt.Errorf("%s %s: %w", doing, r.Prefix, err)
			}
			paths[i] = path
		}
		if err := apply(chunk, paths); err != nil {
			return fmt.Errorf("%s %s and %d more: %w", doing, chunk[0].Prefix, len(chunk)-1, err)
		}
	}
	return nil
}

func (s *Speaker) announce(routes []Route, paths []*apiutil.Path) error {
	if _, err := s.bgp.AddPath(apiutil.AddPathRequest{Paths: paths}); err != nil {
		return err
	}
	for _, r := range routes {
		s.routes[r.Prefix] = r
	}
	return nil
}

func (s *Speaker) withdraw(routes []Route, paths []*apiutil.Path) error {
	if err := s.bgp.DeletePath(apiutil.DeletePathRequest{Paths: paths}); err != nil {
		return err
	}
	for _, r := range routes {
		delete(s.routes, r.Prefix)
	}
	return nil
}

// originIGP is the ORIGIN of routes that come from inside (RFC 4271 section
// 5.1.1). Routers prefer it to INCOMPLETE, so all nodes must give the same for
// their routes to be of equal cost.
const originIGP = 0

// path is a route as gobgp wants it. The unspecified next hop stands for the
// local address of each session: one path then serves routers on several links,
// each of which must get an address that it can reach.
func (s *Speaker) path(r Route) (*apiutil.Path, error) {
	nlri, err := bgp.NewIPAddrPrefix(r.Prefix)
	if err != nil {
		return nil, fmt.Errorf("encoding the prefix: %w", err)
	}
	fam, hop := bgp.RF_IPv4_UC, netip.IPv4Unspecified()
	if r.Prefix.Addr().Is6() {
		fam, hop = bgp.RF_IPv6_UC, netip.IPv6Unspecified()
	}
	next, err := nextHopAttribute(fam, nlri, hop)
	if err != nil {
		return nil, fmt.Errorf("encoding the next hop: %w", err)
	}
	attrs := []bgp.PathAttributeInterface{bgp.NewPathAttributeOrigin(originIGP), next}
	if len(r.Communities) > 0 {
		attrs = append(attrs, bgp.NewPathAttributeCommunities(r.Communities))
	}
	if id, ok := r.subset(); ok {
		mark := bgp.NewLargeCommunity(markASN, 1, s.subsets[id])
		attrs = append(attrs, bgp.NewPathAttributeLargeCommunities([]*bgp.LargeCommunity{mark}))
	}
	return &apiutil.Path{Family: fam, Nlri: nlri, Attrs: attrs}, nil
}

// nextHopAttribute is NEXT_HOP for IPv4 (RFC 4271 section 5.1.3). Other families
// have the next hop in MP_REACH_NLRI, together with the prefix (RFC 4760).
func nextHopAttribute(fam bgp.Family, nlri bgp.NLRI, hop netip.Addr) (bgp.PathAttributeInterface, error) {
	if fam == bgp.RF_IPv4_UC {
		return bgp.NewPathAttributeNextHop(hop)
	}
	return bgp.NewPathAttributeMpReachNLRI(fam, []bgp.PathNLRI{{NLRI: nlri}}, hop)
}

// Routes reads back what is announced, ordered by prefix: from gobgp's table, not
// from what was set, because a path that gobgp dropped or rejected shows in the
// difference only. The table is the global one, before the export policy: what
// each router gets is counted by Sessions.
func (s *Speaker) Routes(context.Context) ([]Route, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	// The marks in the table are turned back into the peers that they stand for.
	subsets := make(map[uint32]string, len(s.subsets))
	for id, mark := range s.subsets {
		subsets[mark] = id
	}
	var out []Route
	for _, fam := range []bgp.Family{bgp.RF_IPv4_UC, bgp.RF_IPv6_UC} {
		err := s.bgp.ListPath(apiutil.ListPathRequest{TableType: api.TableType_TABLE_TYPE_GLOBAL, Family: fam},
			func(nlri bgp.NLRI, paths []*apiutil.Path) {
				if r, ok := readRoute(nlri, paths, subsets); ok {
					out = append(out, r)
				}
			})
		if err != nil {
			return nil, fmt.Errorf("reading the BGP table: %w", err)
		}
	}
	slices.SortFunc(out, func(a, b Route) int {
		return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), a.Prefix.Bits()-b.Prefix.Bits())
	})
	return out, nil
}

// readRoute turns a path of the table back into the Route that it was made from.
// Only the first path counts: we are the only source of paths, and a second one
// for a prefix replaces the first.
func readRoute(nlri bgp.NLRI, paths []*apiutil.Path, subsets map[uint32]string) (Route, bool) {
	prefix, ok := nlri.(*bgp.IPAddrPrefix)
	if !ok || len(paths) == 0 {
		return Route{}, false
	}
	r := Route{Prefix: prefix.Prefix}
	for _, attr := range paths[0].Attrs {
		switch a := attr.(type) {
		case *bgp.PathAttributeCommunities:
			r.Communities = sortedSet(a.Value)
		case *bgp.PathAttributeLargeCommunities:
			r.Peers = readSubset(a, subsets)
		}
	}
	return r, true
}

// readSubset is never nil: a mark that nobody knows goes to no peer.
func readSubset(a *bgp.PathAttributeLargeCommunities, subsets map[uint32]string) []string {
	for _, c := range a.Values {
		if id := subsets[c.LocalData2]; c.ASN == markASN && id != "" {
			return strings.Split(id, ",")
		}
	}
	return []string{}
}
