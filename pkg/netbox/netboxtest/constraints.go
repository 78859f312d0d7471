// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// constraint compiles a permission's constraints: a Django filter as JSON
// object, or a list of them of which one must match.
func (s *Server) constraint(m *model, c any, userID int64) (func(*object) bool, error) {
	switch c := c.(type) {
	case map[string]any:
		return s.allOf(m, c, userID)
	case []any:
		var some []func(*object) bool
		for _, e := range c {
			f, err := s.constraint(m, e, userID)
			if err != nil {
				return nil, err
			}
			some = append(some, f)
		}
		return func(o *object) bool {
			return slices.ContainsFunc(some, func(f func(*object) bool) bool { return f(o) })
		}, nil
	}
	return nil, fmt.Errorf("constraints are a JSON object or a list of them, not %T", c)
}

// allOf compiles a filter as JSON object: all of its terms must hold. $user stands for
// who asks, as in NetBox.
func (s *Server) allOf(m *model, c map[string]any, userID int64) (func(*object) bool, error) {
	var all []func(*object) bool
	for key, want := range c {
		if want == "$user" {
			want = userID
		}
		f, err := s.lookup(m, strings.Split(key, "__"), want)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		all = append(all, f)
	}
	return func(o *object) bool {
		return !slices.ContainsFunc(all, func(f func(*object) bool) bool { return !f(o) })
	}, nil
}

// lookup compiles one term of a Django filter: a path of names that may end in
// the name of a comparison.
func (s *Server) lookup(m *model, path []string, want any) (func(*object) bool, error) {
	values, rest, err := s.resolve(m, path)
	if err != nil {
		return nil, err
	}
	op := "exact"
	if len(rest) == 1 {
		op = rest[0]
	} else if len(rest) > 1 {
		return nil, fmt.Errorf("unknown path %q", strings.Join(rest, "__"))
	}
	match, err := comparison(op, want)
	if err != nil {
		return nil, err
	}
	return func(o *object) bool { return slices.ContainsFunc(values(o), match) }, nil
}

// resolve finds what a path leads to: a function that gives the values, of
// which there may be several, and the part of the path that is left.
func (s *Server) resolve(m *model, path []string) (func(*object) []any, []string, error) {
	switch path[0] {
	case "id", "pk":
		return func(o *object) []any { return []any{o.id} }, path[1:], nil
	case "custom_field_data":
		if len(path) < 2 {
			return nil, nil, fmt.Errorf("custom_field_data without the name of a field")
		}
		return func(o *object) []any { return []any{o.cf[path[1]]} }, path[2:], nil
	case "tags":
		return s.through(tag, path[1:], func(o *object) []int64 { return o.tags })
	}
	f := m.field(path[0])
	if f == nil || f.kind == computedField {
		return nil, nil, fmt.Errorf("%s has no field %q", m.name, path[0])
	}
	switch f.kind { //nolint:exhaustive // the rest is below
	case refField:
		return s.through(byPath[f.to], path[1:], func(o *object) []int64 { return []int64{o.num(f.name)} })
	case refListField:
		return s.through(byPath[f.to], path[1:], func(o *object) []int64 { return o.ints(f.name) })
	case prefixField, addressField:
		return func(o *object) []any { return []any{o.prefix(f.name).String()} }, path[1:], nil
	}
	return func(o *object) []any { return []any{o.vals[f.name]} }, path[1:], nil
}

// through follows a reference; without more of a path its value is the id.
func (s *Server) through(to *model, path []string, ids func(*object) []int64) (func(*object) []any, []string, error) {
	if len(path) == 0 || comparisons[path[0]] {
		return func(o *object) []any {
			var out []any
			for _, id := range ids(o) {
				if id == 0 {
					out = append(out, nil)
				} else {
					out = append(out, id)
				}
			}
			return out
		}, path, nil
	}
	next, rest, err := s.resolve(to, path)
	if err != nil {
		return nil, nil, err
	}
	return func(o *object) []any {
		var out []any
		for _, id := range ids(o) {
			if r := s.tables[to].rows[id]; r != nil {
				out = append(out, next(r)...)
			}
		}
		return out
	}, rest, nil
}

// comparisons are the comparisons that a path may end in.
var comparisons = map[string]bool{
	"exact": true, "iexact": true, "in": true, "contains": true, "icontains": true, "startswith": true,
	"istartswith": true, "endswith": true, "isnull": true,
}

// comparison compiles what a value is compared with. A custom field that was never
// set is null to exact and isnull here, while PostgreSQL tells the two apart; what
// depends on that is tried on a real NetBox (conformance/netbox).
func comparison(op string, want any) (func(any) bool, error) {
	want = plainNumber(want)
	str := func(v any) string { t, _ := v.(string); return t }
	w := str(want)
	switch op {
	case "exact":
		return func(v any) bool { return equal(v, want) }, nil
	case "in":
		list, ok := want.([]any)
		if !ok {
			return nil, fmt.Errorf("in wants a list, not %T", want)
		}
		return func(v any) bool {
			return slices.ContainsFunc(list, func(e any) bool { return equal(v, plainNumber(e)) })
		}, nil
	case "isnull":
		return func(v any) bool { return (v == nil) == (want == true) }, nil
	}
	texts := map[string]func(string) bool{
		"iexact":      func(v string) bool { return strings.EqualFold(v, w) },
		"contains":    func(v string) bool { return strings.Contains(v, w) },
		"icontains":   func(v string) bool { return containsFold(v, w) },
		"startswith":  func(v string) bool { return strings.HasPrefix(v, w) },
		"istartswith": func(v string) bool { return strings.HasPrefix(strings.ToLower(v), strings.ToLower(w)) },
		"endswith":    func(v string) bool { return strings.HasSuffix(v, w) },
	}
	f, ok := texts[op]
	if !ok {
		return nil, fmt.Errorf("unknown comparison or field %q", op)
	}
	return func(v any) bool { t, isText := v.(string); return isText && f(t) }, nil
}

// containsFold reports whether s holds part, without regard to case.
func containsFold(s, part string) bool {
	return strings.Contains(strings.ToLower(s), strings.ToLower(part))
}

// plainNumber makes JSON numbers comparable with ids.
func plainNumber(v any) any {
	switch n := v.(type) {
	case json.Number, int, float64:
		if i, ok := integer(n); ok {
			return i
		}
	}
	return v
}

// equal compares a value of a row with one of JSON.
func equal(a, b any) bool { return reflect.DeepEqual(plainNumber(a), b) }
