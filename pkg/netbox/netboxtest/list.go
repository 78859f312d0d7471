// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// listView answers the list URL of a model.
func (s *Server) listView(q *request, m *model) *response {
	switch q.Method {
	case http.MethodGet, http.MethodHead:
		s.mu.RLock()
		defer s.mu.RUnlock()
		return s.list(q, m)
	case http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
		if q.URL.Query().Get("background") == "true" {
			return notImplemented("background=true")
		}
		return s.writeList(q, m)
	case http.MethodOptions:
		return notImplemented("OPTIONS")
	}
	return methodNotAllowed(q)
}

// page is the part of a list that was asked for.
type page struct {
	limit, offset int
	// start is the first id in cursor mode, else -1.
	start int64
}

// list answers a list: filtered, sorted, and one page of it.
func (s *Server) list(q *request, m *model) *response {
	visible, fail := s.may(q, m, "view")
	if fail != nil {
		return fail
	}
	params := q.URL.Query()
	match, narrowed, errs := s.filters(m, params)
	if key, ok := errs[unimplementedKey]; ok {
		return notImplemented("the filter %s of /api/%s/", key, m.path)
	}
	if len(errs) > 0 {
		return &response{status: http.StatusBadRequest, body: errs}
	}
	pg, fail := s.paging(params)
	if fail != nil {
		return fail
	}
	rows := s.matching(m, narrowed, func(o *object) bool {
		return (visible == nil || visible(o)) && match(o) && o.id >= pg.start
	})
	if pg.start >= 0 {
		slices.SortFunc(rows, func(a, b *object) int { return cmp.Compare(a.id, b.id) })
	} else {
		s.sort(m, rows, params)
	}
	return ok(s.pageOf(q, m, rows, pg))
}

// matching are the rows that a predicate accepts, by id; narrowed, if not nil,
// are the only ids that can match.
func (s *Server) matching(m *model, narrowed []int64, match func(*object) bool) []*object {
	t := s.tables[m]
	ids := t.ids
	if narrowed != nil {
		ids = narrowed
	}
	var rows []*object
	for _, id := range ids {
		if o := t.rows[id]; o != nil && match(o) {
			rows = append(rows, o)
		}
	}
	return rows
}

// paging reads limit, offset and start. Nonsense in limit and offset is
// ignored, as in NetBox.
func (s *Server) paging(p url.Values) (page, *response) {
	pg := page{limit: resultsLimit(p), start: -1}
	if n, err := strconv.Atoi(p.Get("offset")); err == nil && n > 0 {
		pg.offset = n
	}
	if !p.Has("start") || !s.version.cursorPaging() {
		return pg, nil
	}
	bad := func(text string) (page, *response) {
		return pg, &response{status: http.StatusBadRequest, body: []string{text}}
	}
	n, err := strconv.ParseInt(p.Get("start"), 10, 64)
	switch {
	case err != nil || n < 0:
		return bad("Invalid 'start' parameter: must be a non-negative integer.")
	case p.Has("offset"):
		return bad("'start' and 'offset' are mutually exclusive.")
	case p.Has("ordering"):
		return bad("Ordering cannot be specified in conjunction with cursor-based pagination.")
	}
	pg.start = n
	return pg, nil
}

// resultsLimit reads limit: 50 by default, 1000 at most and for 0.
func resultsLimit(p url.Values) int {
	n, err := strconv.Atoi(p.Get("limit"))
	switch {
	case err != nil || n < 0:
		return pageSize
	case n == 0:
		return maxPageSize
	}
	return min(n, maxPageSize)
}

// pageOf is a page in an answer, with the URLs of its neighbours.
func (s *Server) pageOf(q *request, m *model, rows []*object, pg page) doc {
	lo, hi := min(pg.offset, len(rows)), min(pg.offset+pg.limit, len(rows))
	if pg.start >= 0 {
		lo, hi = 0, min(pg.limit, len(rows))
	}
	a, sel, t := s.answerFor(q), s.selected(q, m), s.tables[m]
	results := make([]doc, 0, hi-lo)
	for _, o := range rows[lo:hi] {
		results = append(results, a.row(t, o, sel))
	}
	if pg.start >= 0 {
		var next any
		if len(results) == pg.limit {
			next = q.link(map[string]int64{"limit": int64(pg.limit), "start": rows[hi-1].id + 1})
		}
		return doc{{"count", nil}, {"next", next}, {"previous", nil}, {"results", results}}
	}
	var next, previous any
	if pg.offset+pg.limit < len(rows) {
		next = q.link(map[string]int64{"limit": int64(pg.limit), "offset": int64(pg.offset + pg.limit)})
	}
	if pg.offset > 0 {
		previous = q.link(map[string]int64{"limit": int64(pg.limit), "offset": int64(max(0, pg.offset-pg.limit))})
	}
	return doc{{"count", len(rows)}, {"next", next}, {"previous", previous}, {"results", results}}
}

// link is the URL of a request with other paging; an offset of 0 is left out.
func (q *request) link(set map[string]int64) string {
	v := q.URL.Query()
	for k, n := range set {
		v.Set(k, strconv.FormatInt(n, 10))
		if k == "offset" && n == 0 {
			v.Del(k)
		}
	}
	return q.base() + q.URL.Path + "?" + v.Encode()
}

// sort orders rows by ordering=, whose unknown names are ignored, else by the
// model's own order.
func (s *Server) sort(m *model, rows []*object, p url.Values) {
	var by []func(a, b *object) int
	for name := range strings.SplitSeq(p.Get("ordering"), ",") {
		key, desc := strings.CutPrefix(strings.TrimSpace(name), "-")
		c := s.comparing(m, key)
		if c == nil {
			continue
		}
		if desc {
			asc := c
			c = func(a, b *object) int { return asc(b, a) }
		}
		by = append(by, c)
	}
	if len(by) == 0 && m.order != nil {
		by = append(by, func(a, b *object) int { return m.order(s, a, b) })
	}
	slices.SortStableFunc(rows, func(a, b *object) int {
		for _, c := range by {
			if n := c(a, b); n != 0 {
				return n
			}
		}
		return cmp.Compare(a.id, b.id)
	})
}

// comparing sorts by one key; nil if there is no such key, which NetBox ignores.
func (s *Server) comparing(m *model, key string) func(a, b *object) int {
	switch key {
	case "id", "pk":
		return func(a, b *object) int { return cmp.Compare(a.id, b.id) }
	case "created":
		return func(a, b *object) int { return a.created.Compare(b.created) }
	case "last_updated":
		return func(a, b *object) int { return a.updated.Compare(b.updated) }
	}
	f := m.field(key)
	if f == nil {
		return nil
	}
	switch f.kind { //nolint:exhaustive // the rest is below
	case textField, slugField, choiceField:
		return func(a, b *object) int { return cmp.Compare(a.str(key), b.str(key)) }
	case intField, refField:
		return func(a, b *object) int { return cmp.Compare(a.num(key), b.num(key)) }
	case prefixField, addressField:
		return func(a, b *object) int { return comparePrefix(a.prefix(key), b.prefix(key)) }
	}
	return nil
}
