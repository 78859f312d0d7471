// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/osrg/gobgp/v4/api"
)

// markASN is the autonomous system of marks.
//
// How a route goes to some peers only: gobgp has one table for all of them and
// one export policy. A route for a subset of the peers carries a mark, a large
// community (RFC 8092) under the reserved AS 4294967295 (RFC 7300). The policy
// rejects a marked route for peers outside the subset and takes the mark off
// before a route leaves. A mark is in the policy before the first route has it.
const markASN = 4294967295

// Names of the policies in gobgp; they appear in its log only.
const (
	// importPolicy takes nothing but our own routes into the table. A route of a
	// router would otherwise be sent on to the others: every node would be a
	// transit between them.
	importPolicy = "own-routes"
	// exportPolicy holds back marked routes and sets next hops.
	exportPolicy = "to-peers"
)

// applyPolicy makes the policy fit the peers and the subsets of peers that
// routes may have. It does nothing if that is the case already.
func (s *Speaker) applyPolicy(ctx context.Context, subsets []string) error {
	marks := make(map[string]uint32, len(subsets))
	for _, id := range subsets {
		marks[id] = s.markOf(id)
	}
	req := s.buildPolicy(marks)
	// SetPolicies replaces every set and statement in gobgp, and most calls would
	// change nothing.
	text := req.String()
	if text == s.policy {
		return nil
	}
	if err := s.bgp.SetPolicies(ctx, req); err != nil {
		return fmt.Errorf("setting the export policy: %w", err)
	}
	s.policy, s.subsets = text, marks
	return nil
}

// markOf returns the mark of a subset, a new one if it has none. Numbers are not
// given out again: a route in gobgp's queue may still carry an old one, and would
// go to the peers of another subset.
func (s *Speaker) markOf(id string) uint32 {
	if m, ok := s.subsets[id]; ok {
		return m
	}
	s.nextMark++
	return s.nextMark
}

// subsetsInUse returns the subsets of the routes that are set, and of more, in
// order: equal sets must give equal policies, or applyPolicy would set them anew.
func (s *Speaker) subsetsInUse(more map[netip.Prefix]Route) []string {
	found := map[string]bool{}
	for _, routes := range []map[netip.Prefix]Route{s.routes, more} {
		for _, r := range routes {
			if id, ok := r.subset(); ok {
				found[id] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// assignPolicies puts the policies in force: once, since changing them later
// keeps the assignment. What no statement of the import policy accepts is
// rejected; what no statement of the export policy rejects is sent.
func (s *Speaker) assignPolicies(ctx context.Context) error {
	for _, a := range []*api.PolicyAssignment{
		{
			Name: "global", Direction: api.PolicyDirection_POLICY_DIRECTION_IMPORT,
			Policies: []*api.Policy{{Name: importPolicy}}, DefaultAction: api.RouteAction_ROUTE_ACTION_REJECT,
		},
		{
			Name: "global", Direction: api.PolicyDirection_POLICY_DIRECTION_EXPORT,
			Policies: []*api.Policy{{Name: exportPolicy}}, DefaultAction: api.RouteAction_ROUTE_ACTION_ACCEPT,
		},
	} {
		if err := s.bgp.SetPolicyAssignment(ctx, &api.SetPolicyAssignmentRequest{Assignment: a}); err != nil {
			return fmt.Errorf("putting the policy %s in force: %w", a.Policies[0].Name, err)
		}
	}
	return nil
}

// buildPolicy makes the policies from the marks and from what each session can
// carry. The order of the statements matters: marks are looked at before they are
// taken off, and a statement without a route action goes on to the next.
func (s *Speaker) buildPolicy(marks map[string]uint32) *api.SetPoliciesRequest {
	b := &policyBuilder{}
	for _, id := range slices.Sorted(maps.Keys(marks)) {
		b.rejectOutside(marks[id], s.members(id))
	}
	b.nextHops(s)
	if len(marks) > 0 {
		b.stripMarks()
	}
	return &api.SetPoliciesRequest{
		DefinedSets: b.sets,
		Policies: []*api.Policy{
			{Name: importPolicy, Statements: []*api.Statement{{
				Name:       "own",
				Conditions: &api.Conditions{RouteType: api.Conditions_ROUTE_TYPE_LOCAL},
				Actions:    &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_ACCEPT},
			}}},
			{Name: exportPolicy, Statements: b.statements},
		},
	}
}

// members returns the addresses of the peers in a subset that gobgp has.
func (s *Speaker) members(id string) []netip.Addr {
	var out []netip.Addr
	for name := range strings.SplitSeq(id, ",") {
		if p, ok := s.peers[name]; ok && s.byAddr[p.Address] == p {
			out = append(out, p.Address)
		}
	}
	return out
}

// policyBuilder collects the statements of the export policy and the sets that
// they refer to.
type policyBuilder struct {
	sets       []*api.DefinedSet
	statements []*api.Statement
}

func (b *policyBuilder) add(name string, c *api.Conditions, a *api.Actions) {
	b.statements = append(b.statements, &api.Statement{Name: name, Conditions: c, Actions: a})
}

// neighbors adds a set of peers, as host prefixes: gobgp matches the address of a
// session by prefix.
func (b *policyBuilder) neighbors(name string, addrs []netip.Addr, match api.MatchSet_Type) *api.MatchSet {
	list := make([]string, len(addrs))
	for i, a := range addrs {
		list[i] = netip.PrefixFrom(a, a.BitLen()).String()
	}
	slices.Sort(list)
	b.sets = append(b.sets, &api.DefinedSet{DefinedType: api.DefinedType_DEFINED_TYPE_NEIGHBOR, Name: name, List: list})
	return &api.MatchSet{Type: match, Name: name}
}

// marked adds a set of marks, as a regular expression on "asn:value1:value2".
func (b *policyBuilder) marked(name, pattern string) *api.MatchSet {
	b.sets = append(b.sets, &api.DefinedSet{
		DefinedType: api.DefinedType_DEFINED_TYPE_LARGE_COMMUNITY, Name: name, List: []string{pattern},
	})
	return &api.MatchSet{Type: api.MatchSet_TYPE_ANY, Name: name}
}

// rejectOutside keeps routes with a mark from all peers but members. It rejects
// outside rather than accepts inside, because an accept would end the policy
// before next hops are set and marks are taken off.
func (b *policyBuilder) rejectOutside(mark uint32, members []netip.Addr) {
	name := fmt.Sprintf("mark-%d", mark)
	c := &api.Conditions{LargeCommunitySet: b.marked(name, fmt.Sprintf("^%d:1:%d$", uint32(markASN), mark))}
	if len(members) > 0 {
		// An empty set of neighbors would match all of them, inverted or not.
		c.NeighborSet = b.neighbors("members-"+name, members, api.MatchSet_TYPE_INVERT)
	}
	b.add(name, c, &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_REJECT})
}

// nextHops sets the next hop of routes that travel over a session of the other
// address family. Routes of the session's own family have its local address.
func (b *policyBuilder) nextHops(s *Speaker) {
	var overIPv4, overIPv6 []netip.Addr
	for addr, p := range s.byAddr {
		if addr.Is4() {
			overIPv4 = append(overIPv4, addr)
		} else if p.noIPv4 {
			overIPv6 = append(overIPv6, addr)
		}
	}
	b.nextHop("ipv6-over-ipv4", overIPv4, api.Family_AFI_IP6, s.nodeAddress(netip.Addr.Is6))
	b.nextHop("ipv4-over-ipv6", overIPv6, api.Family_AFI_IP, s.nodeAddress(netip.Addr.Is4))
}

// nextHop sets hop for the routes of one family to peers, or holds them back if
// there is none: the local address of the session is of the wrong family, and a
// route without a valid next hop would be ignored (RFC 4271 section 6.3).
func (b *policyBuilder) nextHop(name string, peers []netip.Addr, afi api.Family_Afi, hop netip.Addr) {
	if len(peers) == 0 {
		return
	}
	actions := &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_REJECT}
	if hop.IsValid() {
		actions = &api.Actions{Nexthop: &api.NexthopAction{Address: hop.String()}}
	}
	b.add(name, &api.Conditions{
		NeighborSet: b.neighbors(name, peers, api.MatchSet_TYPE_ANY),
		AfiSafiIn:   []*api.Family{family(afi)},
	}, actions)
}

// stripMarks takes all marks off, as the last statement. They are of no use to
// anybody outside, and the reserved AS in them would look like a mistake.
func (b *policyBuilder) stripMarks() {
	pattern := fmt.Sprintf("^%d:1:[0-9]+$", uint32(markASN))
	b.add("strip-marks", &api.Conditions{LargeCommunitySet: b.marked("marks", pattern)}, &api.Actions{
		LargeCommunity: &api.CommunityAction{Type: api.CommunityAction_TYPE_REMOVE, Communities: []string{pattern}},
	})
}

// nodeAddress returns the first address of this node in a family, as kubelet
// orders them; the zero Addr if it has none.
func (s *Speaker) nodeAddress(is func(netip.Addr) bool) netip.Addr {
	for _, a := range s.nodes {
		if is(a) {
			return a
		}
	}
	return netip.Addr{}
}

// carries reports whether routes to addr can go over the session with p. It says
// in Go what nextHops says in gobgp's terms; the two must agree, or the counts in
// the status are wrong.
func (s *Speaker) carries(p *peer, addr netip.Addr) bool {
	switch {
	case p.Address.Is4() && addr.Is6():
		return s.nodeAddress(netip.Addr.Is6).IsValid()
	case p.Address.Is6() && addr.Is4():
		return !p.noIPv4 || s.nodeAddress(netip.Addr.Is4).IsValid()
	}
	return true
}
