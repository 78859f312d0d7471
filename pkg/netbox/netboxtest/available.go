// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

import (
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
)

// availableView answers /available-ips/ of a prefix or a range.
func (s *Server) availableView(q *request, m *model, id int64) *response {
	switch q.Method {
	case http.MethodGet, http.MethodHead:
		s.mu.RLock()
		defer s.mu.RUnlock()
		return s.listAvailable(q, m, id)
	case http.MethodPost:
		s.mu.Lock() // stands for NetBox's advisory lock
		defer s.mu.Unlock()
		return s.claim(q, m, id)
	}
	return methodNotAllowed(q)
}

// parent is a prefix or a range as a source of addresses.
type parent struct {
	vrf         int64
	first, last netip.Addr
	bits        int
	// closed parents yield nothing.
	closed bool
}

// parentOf finds which addresses of a prefix or range can be used. An IPv4
// prefix that is no pool keeps its first and last address, an IPv6 one its
// first (the subnet-router anycast address), unless it is too small for that.
func parentOf(m *model, o *object) parent {
	if m == ipRange {
		return parent{
			vrf: o.num("vrf"), first: o.prefix("start_address").Addr(), last: o.prefix("end_address").Addr(),
			bits: o.prefix("start_address").Bits(), closed: o.yes("mark_populated"),
		}
	}
	p := o.prefix("prefix")
	pa := parent{vrf: o.num("vrf"), first: p.Addr(), last: lastOf(p), bits: p.Bits()}
	if o.yes("is_pool") || p.Addr().BitLen()-p.Bits() < 2 {
		return pa
	}
	pa.first = pa.first.Next()
	if p.Addr().Is4() {
		pa.last = pa.last.Prev()
	}
	return pa
}

// free finds the first n free addresses of a parent: hosts that have no record
// in its VRF and lie in no range that is marked populated. Child prefixes,
// other ranges and utilisation marks do not count.
func (s *Server) free(p parent, n int) (found []netip.Addr, fullBelow netip.Addr) {
	if p.closed || n <= 0 {
		return nil, netip.Addr{}
	}
	closed := s.populatedRanges(p.vrf)
	for a := s.space.start(parentKey{p.vrf, p.first, p.last}); a.IsValid() && !p.last.Less(a) && len(found) < n; a = a.Next() {
		if i := slices.IndexFunc(closed, func(r *object) bool { return inRange(r, a) }); i >= 0 {
			a = closed[i].prefix("end_address").Addr()
			continue
		}
		if len(s.space.taken(p.vrf, a)) == 0 {
			found = append(found, a)
		}
	}
	if len(found) > 0 {
		return found, found[0]
	}
	return nil, p.last
}

// populatedRanges are the ranges of a VRF that NetBox takes for used up, by their mark
// (4.3). It refuses to create any address in them.
func (s *Server) populatedRanges(vrfID int64) []*object {
	var out []*object
	for _, r := range s.tables[ipRange].rows {
		if r.yes("mark_populated") && r.num("vrf") == vrfID {
			out = append(out, r)
		}
	}
	return out
}

// listAvailable lists what is free, without paging: the limit is all there is.
func (s *Server) listAvailable(q *request, m *model, id int64) *response {
	o, fail := s.find(q, m, id, "view")
	if fail != nil {
		return fail
	}
	if _, fail := s.may(q, ipAddress, "view"); fail != nil {
		return fail
	}
	p := parentOf(m, o)
	found, _ := s.free(p, resultsLimit(q.URL.Query()))
	out, a := []doc{}, s.answerFor(q)
	for _, addr := range found {
		family := 6
		if addr.Is4() {
			family = 4
		}
		out = append(out, doc{
			{"family", family},
			{"address", netip.PrefixFrom(addr, p.bits).String()},
			{"vrf", a.ref(m.field("vrf"), p.vrf)},
		})
	}
	return ok(out)
}

// claim creates addresses in a parent: as many as the body has items, all or
// none. The items are checked against what was there before, not against each
// other: two with one claim key are both created, as in NetBox.
func (s *Server) claim(q *request, m *model, id int64) *response {
	visible, fail := s.may(q, ipAddress, "add")
	if fail != nil {
		return fail
	}
	o, fail := s.find(q, m, id, "view")
	if fail != nil {
		return fail
	}
	items, isList := q.body.([]any)
	if !isList {
		items = []any{q.body}
	}
	if len(items) == 0 {
		return s.claimNothing()
	}
	p := parentOf(m, o)
	lengths, fail := s.prefixLengths(items, p)
	if fail != nil {
		return fail
	}
	found, fullBelow := s.free(p, len(items))
	if fullBelow.IsValid() {
		s.space.full[parentKey{p.vrf, p.first, p.last}] = fullBelow
	}
	if len(found) < len(items) {
		return detail(http.StatusConflict, "Insufficient resources are available to satisfy the request")
	}
	rows, fail := s.prepare(items, isList, found, lengths, p)
	if fail != nil {
		return fail
	}
	resp := s.finishCreate(q, s.newTx(q), ipAddress, rows, visible)
	if docs, ok := resp.body.([]doc); ok && !isList {
		resp.body = docs[0]
	}
	return resp
}

// claimNothing answers an empty list. Before 4.7 NetBox then walks through the
// whole prefix, which nobody should ever ask of it.
func (s *Server) claimNothing() *response {
	s.log.violation("POST of an empty list to available-ips: NetBox before 4.7 enumerates the whole prefix")
	if s.version.emptyClaimHarmless() {
		return &response{status: http.StatusCreated, body: []doc{}}
	}
	return notImplemented("POST of an empty list to available-ips, on which NetBox %s enumerates the whole prefix", s.version)
}

// prefixLengths reads the masks that items ask for. Releases before 4.5.1
// ignore them.
func (s *Server) prefixLengths(items []any, p parent) ([]int, *response) {
	out, errs, bad := make([]int, len(items)), make([]fieldErrors, len(items)), false
	for i, e := range items {
		out[i], errs[i] = p.bits, fieldErrors{}
		item, isObject := e.(map[string]any)
		if !isObject {
			errs[i], bad = fieldError(s.version.nonFieldKey(), "Invalid data. Expected a dictionary, but got %s.", pyType(e)), true
			continue
		}
		v, given := item["prefix_length"]
		if !given || v == nil || !s.version.prefixLength() {
			continue
		}
		n, msg := prefixLength(v, p)
		if msg != "" {
			errs[i], bad = fieldErrors{"prefix_length": []string{msg}}, true
		}
		out[i] = n
	}
	if bad {
		return nil, badRequest(errs)
	}
	return out, nil
}

// prefixLength checks the mask that an item asks for, within the parent's.
func prefixLength(v any, p parent) (int, string) {
	n, ok := integer(v)
	switch {
	case !ok:
		return 0, "A valid integer is required."
	case n < int64(p.bits):
		return 0, "Prefix length must be greater than or equal to the parent mask length (" + strconv.Itoa(p.bits) + ")"
	case n > int64(p.first.BitLen()):
		return 0, "Invalid prefix length (" + strconv.Itoa(int(n)) + ")"
	}
	return int(n), ""
}

// prepare validates the items, with address and VRF of the parent's in place
// of whatever was sent.
func (s *Server) prepare(items []any, isList bool, found []netip.Addr, lengths []int, p parent) ([]*object, *response) {
	rows, errs, bad := make([]*object, len(items)), make([]fieldErrors, len(items)), false
	for i, e := range items {
		item := map[string]any{}
		maps.Copy(item, e.(map[string]any))
		item["address"] = netip.PrefixFrom(found[i], lengths[i]).String()
		item["vrf"] = nil
		if p.vrf != 0 {
			item["vrf"] = p.vrf
		}
		o, e := s.decode(ipAddress, nil, item, false)
		rows[i], errs[i] = o, fieldErrors{}
		if e != nil {
			errs[i], bad = e, true
		}
	}
	switch {
	case !bad:
		return rows, nil
	case isList:
		return nil, badRequest(errs)
	}
	return nil, badRequest(errs[0])
}
