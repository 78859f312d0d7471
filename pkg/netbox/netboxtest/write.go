// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// objectView answers the URL of one row.
func (s *Server) objectView(q *request, m *model, id int64) *response {
	switch q.Method {
	case http.MethodGet, http.MethodHead:
		s.mu.RLock()
		defer s.mu.RUnlock()
		o, fail := s.find(q, m, id, "view")
		if fail != nil {
			return fail
		}
		return &response{status: http.StatusOK, body: s.answerFor(q).row(s.tables[m], o, s.selected(q, m)), etag: etag(m, o)}
	case http.MethodPatch, http.MethodPut:
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.updateOne(q, m, id)
	case http.MethodDelete:
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.deleteOne(q, m, id)
	case http.MethodOptions:
		return notImplemented("OPTIONS")
	}
	return methodNotAllowed(q)
}

// find gets a row that the request may act on. One that it may not act on does
// not exist for it.
func (s *Server) find(q *request, m *model, id int64, action string) (*object, *response) {
	visible, fail := s.may(q, m, action)
	if fail != nil {
		return nil, fail
	}
	o := s.tables[m].rows[id]
	if o == nil || visible != nil && !visible(o) {
		return nil, detail(http.StatusNotFound, "No %s matches the given query.", m.name)
	}
	return o, nil
}

// newTx begins a transaction of a request.
func (s *Server) newTx(q *request) *tx { return &tx{s: s, by: q.id, user: q.who.username} }

// permitted checks that rows still are what the request may write, after they
// were written.
func permitted(visible func(*object) bool, rows ...*object) bool {
	return visible == nil || !slices.ContainsFunc(rows, func(o *object) bool { return !visible(o) })
}

// badRequest refuses a body.
func badRequest(body any) *response { return &response{status: http.StatusBadRequest, body: body} }

// preconditionFailed checks If-Match.
func (s *Server) preconditionFailed(q *request, m *model, o *object) *response {
	h := q.Header.Get("If-Match")
	if h == "" || h == "*" || !s.version.etags() {
		return nil
	}
	current := etag(m, o)
	for tag := range strings.SplitSeq(h, ",") {
		if strings.TrimSpace(tag) == current {
			return nil
		}
	}
	r := detail(http.StatusPreconditionFailed, "The object has been modified since it was last retrieved.")
	r.etag = current
	return r
}

// updateOne changes a row. The permission is checked twice, as in NetBox: the row must
// be one that may be changed, before and after.
func (s *Server) updateOne(q *request, m *model, id int64) *response {
	old, fail := s.find(q, m, id, "change")
	if fail != nil {
		return fail
	}
	if fail := s.preconditionFailed(q, m, old); fail != nil {
		return fail
	}
	o, errs := s.decode(m, old, q.body, q.Method == http.MethodPatch)
	if errs != nil {
		return badRequest(errs)
	}
	visible, _ := s.may(q, m, "change")
	x := s.newTx(q)
	x.update(s.tables[m], o)
	if !permitted(visible, o) {
		x.rollback()
		return forbidden()
	}
	x.commit()
	return &response{status: http.StatusOK, body: s.answerFor(q).row(s.tables[m], o, s.selected(q, m)), etag: etag(m, o)}
}

// deleteOne deletes a row, if nothing protects it.
func (s *Server) deleteOne(q *request, m *model, id int64) *response {
	o, fail := s.find(q, m, id, "delete")
	if fail != nil {
		return fail
	}
	if fail := s.preconditionFailed(q, m, o); fail != nil {
		return fail
	}
	x := s.newTx(q)
	if deps := s.remove(x, m, o); len(deps) > 0 {
		x.rollback()
		return detail(http.StatusConflict, "Unable to delete object. %d dependent objects were found: %s",
			len(deps), strings.Join(deps, ", "))
	}
	x.commit()
	return &response{status: http.StatusNoContent}
}

// remove deletes a row, clears what refers to it and deletes what goes with
// it. It returns the rows that forbid it.
func (s *Server) remove(x *tx, m *model, o *object) (dependents []string) {
	for _, other := range models {
		for i := range other.fields {
			f := &other.fields[i]
			if f.kind == refField && f.to == m.path {
				dependents = append(dependents, s.unref(x, other, f, o.id)...)
			}
		}
	}
	s.removeGeneric(x, m, o.id)
	x.remove(s.tables[m], o.id)
	return dependents
}

// unref handles one field that may refer to a row that goes.
func (s *Server) unref(x *tx, m *model, f *field, id int64) (dependents []string) {
	t := s.tables[m]
	referrers := t.ids
	if m == ipAddress && f.name == "nat_inside" {
		referrers = s.natOutside[id] // spares every release a look at every address
	}
	for _, rid := range slices.Clone(referrers) {
		r := t.rows[rid]
		switch {
		case r == nil || r.num(f.name) != id:
		case f.protect:
			dependents = append(dependents, fmt.Sprintf("%s (%d)", m.display(s, r), r.id))
		case f.cascade:
			dependents = append(dependents, s.remove(x, m, r)...)
		default:
			c := r.clone()
			c.vals[f.name] = int64(0)
			x.put(t, c)
		}
	}
	return dependents
}

// removeGeneric deletes the addresses of an interface and the marks of a tag.
func (s *Server) removeGeneric(x *tx, m *model, id int64) {
	switch m {
	case iface, vmInterface:
		for _, aid := range slices.Clone(s.tables[ipAddress].ids) {
			a := s.tables[ipAddress].rows[aid]
			if a != nil && a.str("assigned_object_type") == m.ctype && a.num("assigned_object_id") == id {
				s.remove(x, ipAddress, a)
			}
		}
	case tag:
		for _, t := range s.tables {
			for _, o := range t.rows {
				if slices.Contains(o.tags, id) {
					c := o.clone()
					c.tags = slices.DeleteFunc(c.tags, func(n int64) bool { return n == id })
					x.put(t, c)
				}
			}
		}
	case customField:
		s.dropValues(x, s.tables[customField].rows[id])
	}
}

// dropValues deletes the values of a custom field that goes.
func (s *Server) dropValues(x *tx, f *object) {
	for _, ct := range f.strs("object_types") {
		t := s.tables[byType[ct]]
		for _, o := range t.rows {
			if _, has := o.cf[f.str("name")]; has {
				c := o.clone()
				delete(c.cf, f.str("name"))
				x.put(t, c)
			}
		}
	}
}

// createOne creates one row from a body that is an object.
func (s *Server) createOne(q *request, m *model) *response {
	visible, fail := s.may(q, m, "add")
	if fail != nil {
		return fail
	}
	o, errs := s.decode(m, nil, q.body, false)
	if errs != nil {
		return badRequest(errs)
	}
	x := s.newTx(q)
	x.create(s.tables[m], o)
	if !permitted(visible, o) {
		x.rollback()
		return forbidden()
	}
	x.commit()
	body := s.answerFor(q).row(s.tables[m], o, s.selected(q, m))
	if m == token {
		body = append(body, kv{"token", o.str("token")}) // shown once, at creation
	}
	return &response{
		status: http.StatusCreated, body: body, etag: etag(m, o),
		header: map[string]string{"Location": fmt.Sprintf("%s/api/%s/%d/", q.base(), m.path, o.id)},
	}
}

// store creates or changes a row from Go, past all permissions.
func (s *Server) store(x *tx, m *model, old *object, data map[string]any) (*object, error) {
	o, errs := s.decode(m, old, data, old != nil)
	if errs != nil {
		return nil, errs.asError()
	}
	if old == nil {
		x.create(s.tables[m], o)
	} else {
		x.update(s.tables[m], o)
	}
	return o, nil
}
