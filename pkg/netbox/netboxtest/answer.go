// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// answer makes the JSON form of rows.
type answer struct {
	s    *Server
	base string
}

// answerFor makes answers with URLs as this request has reached NetBox.
func (s *Server) answerFor(q *request) *answer { return &answer{s, q.base()} }

// selection is which fields a request asked for.
type selection struct {
	only, omit []string
}

// selected reads fields=, omit= and brief=, in this order of precedence.
func (s *Server) selected(q *request, m *model) selection {
	v := q.URL.Query()
	if f := v.Get("fields"); f != "" {
		return selection{only: strings.Split(f, ",")}
	}
	if f := v.Get("omit"); f != "" && s.version.omit() {
		return selection{omit: strings.Split(f, ",")}
	}
	if q.Method == http.MethodGet && v.Get("brief") != "" {
		return selection{only: m.brief}
	}
	return selection{}
}

// row is a row with the fields of a selection, in the model's order.
func (a *answer) row(t *table, o *object, sel selection) doc {
	want := func(n string) bool {
		return (sel.only == nil || slices.Contains(sel.only, n)) && !slices.Contains(sel.omit, n)
	}
	var d doc
	for _, n := range t.m.names(a.s.version) {
		if want(n) {
			d = append(d, kv{n, a.value(t, o, n)})
		}
	}
	return d
}

// brief is a row with few fields, as it is nested in others.
func (a *answer) brief(t *table, o *object) doc { return a.fields(t, o, t.m.brief) }

// fields is a row with these fields, in the model's order.
func (a *answer) fields(t *table, o *object, names []string) doc {
	return a.row(t, o, selection{only: names})
}

// names are the fields of answers, in order.
func (m *model) names(v version) []string {
	out := []string{"id", "url", "display_url", "display"}
	for i := range m.fields {
		if f := &m.fields[i]; !f.hidden && f.in(v) {
			out = append(out, f.name)
		}
	}
	if !m.plain {
		out = append(out, "tags", "custom_fields")
	}
	if !m.timeless {
		out = append(out, "created", "last_updated")
	}
	return out
}

// value is one field of an answer.
func (a *answer) value(t *table, o *object, name string) any {
	switch name {
	case "id":
		return o.id
	case "url":
		return fmt.Sprintf("%s/api/%s/%d/", a.base, t.m.path, o.id)
	case "display_url":
		return fmt.Sprintf("%s/%s/%d/", a.base, t.m.path, o.id)
	case "display":
		return t.m.display(a.s, o)
	case "tags":
		return a.tags(o.tags)
	case "custom_fields":
		return a.customFields(t.m, o)
	case "last_updated":
		return timeText(o.updated)
	}
	if f := t.m.field(name); f != nil {
		return a.fieldValue(f, o)
	}
	if name == "created" {
		return timeText(o.created)
	}
	panic("netboxtest: model " + t.m.name + " has no field " + name)
}

// fieldValue is the value of a field in an answer. What is empty is null or an empty
// text, depending on the field: clients that take one for the other break here.
func (a *answer) fieldValue(f *field, o *object) any {
	v := o.vals[f.name]
	switch f.kind { //nolint:exhaustive // the rest is below
	case computedField:
		return f.compute(a.s, a, o)
	case refField:
		return a.ref(f, o.num(f.name))
	case refListField:
		return a.refList(f, o.ints(f.name))
	case choiceField:
		return choiceValue(a.s.choicesOf(f), o.str(f.name))
	case prefixField, addressField:
		if p, ok := v.(netip.Prefix); ok && p.IsValid() {
			return p.String()
		}
		return nil
	case timeField:
		if t, ok := v.(time.Time); ok && !t.IsZero() {
			return timeText(t)
		}
		return nil
	case stringsField:
		return append([]string{}, o.strs(f.name)...)
	case textField:
		if f.nullable && o.str(f.name) == "" {
			return nil
		}
		return o.str(f.name)
	}
	return v
}

// choiceValue is a choice in an answer. A value without a label is what a site's own
// choice looks like after it was removed from the settings: rows keep it.
func choiceValue(cs []choice, v string) any {
	if v == "" {
		return nil
	}
	for _, c := range cs {
		if c.value == v {
			return doc{{"value", v}, {"label", c.label}}
		}
	}
	return doc{{"value", v}, {"label", ""}}
}

// choicesOf are the values that a field accepts, with those that the site
// added.
func (s *Server) choicesOf(f *field) []choice {
	if f == ipAddress.field("status") {
		return slices.Concat(f.choices, s.statuses)
	}
	return f.choices
}

// ref is the nested form of the row that a reference points to.
func (a *answer) ref(f *field, id int64) any {
	t := a.s.tables[byPath[f.to]]
	o := t.rows[id]
	if o == nil {
		return nil
	}
	names := f.nested
	if names == nil || slices.Contains(names, "nat_outside") && !a.s.version.primaryWithNAT() {
		names = t.m.brief
	}
	return a.fields(t, o, names)
}

// refList is a list of nested rows.
func (a *answer) refList(f *field, ids []int64) []doc {
	t, out := a.s.tables[byPath[f.to]], []doc{}
	for _, id := range ids {
		if o := t.rows[id]; o != nil {
			out = append(out, a.brief(t, o))
		}
	}
	return out
}

// generic is the nested form of a row that is named by type and id.
func (a *answer) generic(ctype string, id int64) any {
	m := byType[ctype]
	if m == nil || a.s.tables[m].rows[id] == nil {
		return nil
	}
	return a.brief(a.s.tables[m], a.s.tables[m].rows[id])
}

// tags is a list of nested tags.
func (a *answer) tags(ids []int64) []doc {
	t, out := a.s.tables[tag], []doc{}
	for _, id := range ids {
		if o := t.rows[id]; o != nil {
			out = append(out, a.fields(t, o, words("id url display_url display name slug color")))
		}
	}
	return out
}

// customFields lists every custom field of the type, null where unset.
func (a *answer) customFields(m *model, o *object) doc {
	d := doc{}
	for _, id := range a.s.tables[customField].ids {
		f := a.s.tables[customField].rows[id]
		if slices.Contains(f.strs("object_types"), m.ctype) {
			d = append(d, kv{f.str("name"), o.cf[f.str("name")]})
		}
	}
	return d
}

// permissionsOf is what a user is granted.
func (a *answer) permissionsOf(userID int64) []doc {
	t, out := a.s.tables[permission], []doc{}
	for _, id := range t.ids {
		if slices.Contains(t.rows[id].ints("users"), userID) {
			out = append(out, a.brief(t, t.rows[id]))
		}
	}
	return out
}

// timeText is a time as the API shows it.
func timeText(t time.Time) string {
	if t.Nanosecond() == 0 {
		return t.UTC().Format("2006-01-02T15:04:05Z")
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000Z")
}

// etag is the ETag of a row, made from the time of its last change.
func etag(m *model, o *object) string {
	if m.timeless {
		return ""
	}
	return `W/"` + strings.TrimSuffix(timeText(o.updated), "Z") + `+00:00"`
}

// displayOf is the text form of a row, empty if there is none.
func (s *Server) displayOf(path string, id int64) string {
	m := byPath[path]
	if o := s.tables[m].rows[id]; o != nil {
		return m.display(s, o)
	}
	return ""
}

// countRefs counts the rows of m whose field holds id.
func (s *Server) countRefs(m *model, name string, id int64) int {
	n := 0
	for _, o := range s.tables[m].rows {
		if o.num(name) == id {
			n++
		}
	}
	return n
}

// countTagged counts the rows that have a tag.
func (s *Server) countTagged(id int64) int {
	n := 0
	for _, t := range s.tables {
		for _, o := range t.rows {
			if slices.Contains(o.tags, id) {
				n++
			}
		}
	}
	return n
}
