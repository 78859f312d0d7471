// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

import (
	"fmt"
	"net/http"
)

// writeList answers writes to a list URL. Only the creation of one object
// holds NetBox's lock on addresses; lists of changes are validated first and
// stored afterwards, so that two of them can pass each other (4.6 and older
// validate a whole list before they store any of it).
func (s *Server) writeList(q *request, m *model) *response {
	if fail := s.refuse(q, m); fail != nil {
		return fail
	}
	if _, isList := q.body.([]any); !isList && q.Method == http.MethodPost {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.createOne(q, m)
	} else if !isList {
		if q.empty {
			return detail(http.StatusBadRequest, "Expected a list of objects, but no data was submitted.")
		}
		return detail(http.StatusBadRequest, "Expected a list of objects, but got %s.", pyType(q.body))
	}
	switch q.Method {
	case http.MethodPost:
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.createMany(q, m)
	case http.MethodDelete:
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.deleteMany(q, m)
	}
	return s.updateMany(q, m)
}

// refuse answers what the double cannot write.
func (s *Server) refuse(q *request, m *model) *response {
	if m == customField && q.Method == http.MethodPost {
		list, isList := q.body.([]any)
		if !isList {
			list = []any{q.body}
		}
		for _, e := range list {
			if r := unsupportedFieldType(e); r != nil {
				return r
			}
		}
	}
	return nil
}

// itemError is the error of one item of a list.
type itemError struct {
	key   string // "index" or "id"
	value int64
	errs  fieldErrors
}

// itemErrors is the answer of 4.7 to a list of which some items are bad; older
// releases send a list of errors that has an entry for every item.
func (s *Server) itemErrors(verb string, total int, failed []itemError) *response {
	if !s.version.bulkItemErrors() {
		list := make([]fieldErrors, total)
		for i := range list {
			list[i] = fieldErrors{}
		}
		for _, f := range failed {
			list[f.value] = f.errs
		}
		return badRequest(list)
	}
	var out []doc
	for _, f := range failed {
		out = append(out, doc{{f.key, f.value}, {"errors", f.errs}})
	}
	return badRequest(doc{
		{"detail", fmt.Sprintf("%d of %d objects could not be %s.", len(failed), total, verb)},
		{"errors", out},
	})
}

// createMany creates the rows of a list, all or none. From 4.7 on each item is
// checked against those before it; older releases check all of them first.
func (s *Server) createMany(q *request, m *model) *response {
	visible, fail := s.may(q, m, "add")
	if fail != nil {
		return fail
	}
	items := q.body.([]any)
	x := s.newTx(q)
	var failed []itemError
	var rows []*object
	for i, item := range items {
		o, errs := s.decode(m, nil, item, false)
		if errs != nil {
			failed = append(failed, itemError{"index", int64(i), errs})
			continue
		}
		if s.version.bulkItemErrors() {
			x.create(s.tables[m], o)
		}
		rows = append(rows, o)
	}
	if len(failed) > 0 {
		x.rollback()
		return s.itemErrors("created", len(items), failed)
	}
	return s.finishCreate(q, x, m, rows, visible)
}

// finishCreate stores what is not stored yet, and checks that the token may
// have made all of it.
func (s *Server) finishCreate(q *request, x *tx, m *model, rows []*object, visible func(*object) bool) *response {
	for _, o := range rows {
		if o.id == 0 {
			x.create(s.tables[m], o)
		}
	}
	if !permitted(visible, rows...) {
		x.rollback()
		return forbidden()
	}
	x.commit()
	return &response{status: http.StatusCreated, body: s.rows(q, m, rows)}
}

// rows is the answer to a list of writes, in the order of the request.
func (s *Server) rows(q *request, m *model, rows []*object) []doc {
	a, sel, out := s.answerFor(q), s.selected(q, m), []doc{}
	for _, o := range rows {
		out = append(out, a.row(s.tables[m], o, sel))
	}
	return out
}

// targetsOf finds the rows that the items of a list name by id. From 4.7 on
// all must exist and none twice; older releases pass over what they do not
// find.
func (s *Server) targetsOf(q *request, m *model, action string) (rows []*object, items []map[string]any, fail *response) {
	visible, fail := s.may(q, m, action)
	if fail != nil {
		return nil, nil, fail
	}
	list := q.body.([]any)
	seen := map[int64]int{}
	var bad, missing []itemError
	for i, e := range list {
		item, _ := e.(map[string]any)
		id, ok := integer(item["id"])
		if !ok {
			bad = append(bad, itemError{"index", int64(i), fieldError("id", "This field is required.")})
			continue
		}
		if seen[id]++; seen[id] > 1 {
			continue
		}
		o := s.tables[m].rows[id]
		if o == nil || visible != nil && !visible(o) {
			missing = append(missing, itemError{"id", id, fieldError("id", "Object with ID %d could not be found", id)})
			continue
		}
		rows, items = append(rows, o), append(items, item)
	}
	return rows, items, s.badTargets(bad, missing, seen, len(list))
}

// badTargets says what is wrong with the ids of a list. Before 4.7 only an item
// without one is: a DELETE that names a row that is gone deletes the others.
func (s *Server) badTargets(bad, missing []itemError, seen map[int64]int, total int) *response {
	if len(bad) > 0 {
		return s.itemErrors("identified", total, bad)
	}
	if !s.version.bulkItemErrors() {
		return nil
	}
	for id, n := range seen {
		if n > 1 {
			return badRequest(doc{
				{"detail", fmt.Sprintf("1 of %d objects are listed more than once.", total)},
				{"errors", []doc{{{"id", id}, {"errors", fieldError("id",
					"Each object may be specified only once; ID %d is listed %d times", id, n)}}}},
			})
		}
	}
	if len(missing) > 0 {
		var out []doc
		for _, f := range missing {
			out = append(out, doc{{f.key, f.value}, {"errors", f.errs}})
		}
		return badRequest(doc{
			{"detail", fmt.Sprintf("%d of %d objects could not be found.", len(missing), total)}, {"errors", out},
		})
	}
	return nil
}

// deleteMany deletes the rows of a list, all or none. It takes no ETags.
func (s *Server) deleteMany(q *request, m *model) *response {
	rows, _, fail := s.targetsOf(q, m, "delete")
	if fail != nil {
		return fail
	}
	x := s.newTx(q)
	var failed []doc
	for _, o := range rows {
		if deps := s.remove(x, m, o); len(deps) > 0 {
			failed = append(failed, doc{{"id", o.id}, {"errors", modelError(
				"Unable to delete: %d dependent object(s) prevent deletion.", len(deps))}})
		}
	}
	if len(failed) > 0 {
		x.rollback()
		return &response{status: http.StatusConflict, body: doc{
			{"detail", fmt.Sprintf("%d of %d objects could not be deleted.", len(failed), len(rows))}, {"errors", failed},
		}}
	}
	x.commit()
	return &response{status: http.StatusNoContent}
}

// updateMany changes the rows of a list, all or none. It holds the lock while
// it validates and while it commits, but not in between: two of them at a time
// can both find a unique value free.
func (s *Server) updateMany(q *request, m *model) *response {
	rows, fail := s.validateMany(q, m)
	if fail != nil {
		return fail
	}
	if err := q.gap(); err != nil {
		return detail(http.StatusInternalServerError, "%v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	visible, _ := s.may(q, m, "change")
	x := s.newTx(q)
	for _, o := range rows {
		x.update(s.tables[m], o)
	}
	if !permitted(visible, rows...) {
		x.rollback()
		return forbidden()
	}
	x.commit()
	return ok(s.rows(q, m, rows))
}

// validateMany makes the changed rows of a list, and stores none of them.
func (s *Server) validateMany(q *request, m *model) ([]*object, *response) {
	s.mu.Lock()
	defer s.mu.Unlock()
	olds, items, fail := s.targetsOf(q, m, "change")
	if fail != nil {
		return nil, fail
	}
	// From 4.7 on each item sees the changes of those before it.
	x := s.newTx(q)
	defer x.rollback()
	var rows []*object
	var failed []itemError
	for i, old := range olds {
		o, errs := s.decode(m, old, items[i], q.Method == http.MethodPatch)
		if errs != nil {
			e := itemError{"id", old.id, errs}
			if !s.version.bulkItemErrors() {
				e = itemError{"index", int64(i), errs}
			}
			failed = append(failed, e)
			continue
		}
		if s.version.bulkItemErrors() {
			x.put(s.tables[m], o)
		}
		rows = append(rows, o)
	}
	if len(failed) > 0 {
		return nil, s.itemErrors("updated", len(olds), failed)
	}
	return rows, nil
}
