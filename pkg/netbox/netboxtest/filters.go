// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// rowFilter accepts or refuses a row.
type rowFilter func(*object) bool

// filterFunc makes a filter from the values of one parameter, which are
// alternatives; msg says what is wrong with them. A nil filter without a
// message means that the parameter is ignored.
type filterFunc func(s *Server, values []string) (f rowFilter, msg string)

// notFilters are parameters of lists that select no rows.
var notFilters = map[string]bool{
	"limit": true, "offset": true, "start": true, "ordering": true, "fields": true, "omit": true, "brief": true,
	"exclude": true, "format": true,
}

// filters reads the filters of a list. Unknown parameters are ignored, as in
// NetBox: all rows are returned then. narrowed, if not nil, are the ids of the
// only rows that can match.
func (s *Server) filters(m *model, params url.Values) (match rowFilter, narrowed []int64, errs fieldErrors) {
	var all []rowFilter
	errs = fieldErrors{}
	for key, values := range params {
		if notFilters[key] {
			continue
		}
		if missingFilter(m, key) {
			return nil, nil, fieldErrors{unimplementedKey: key}
		}
		f, msg := s.filter(m, key, values)
		if msg != "" {
			errs[key] = []string{msg}
		}
		if f != nil {
			all = append(all, f)
			if ids := s.narrow(m, key, values); ids != nil {
				narrowed = ids
			}
		}
	}
	return func(o *object) bool {
		return !slices.ContainsFunc(all, func(f rowFilter) bool { return !f(o) })
	}, narrowed, errs
}

// unimplementedKey marks a filter that NetBox has and the double has not.
const unimplementedKey = "\x00unimplemented"

// missing are filters of NetBox that the double lacks. To ignore them, as
// unknown ones are, would return all rows where NetBox returns a few.
var missing = map[string]bool{
	"region": true, "region_id": true, "site_group": true, "site_group_id": true, "tenant_group": true, "tenant_group_id": true,
	"contact": true, "contact_group": true, "contact_role": true, "owner": true, "owner_id": true, "owner_group": true,
	"modified_by_request": true, "updated_by_request": true, "vlan_id": true, "vlan_vid": true, "vlan_group": true,
	"present_in_vrf": true, "present_in_vrf_id": true, "fhrpgroup_id": true, "service_id": true, "nat_outside": true,
	"mac_address": true, "has_oob_ip": true, "has_virtual_device_context": true, "virtual_chassis_id": true,
	"virtual_chassis_member": true, "manufacturer_slug": true, "device_type_manufacturer": true, "cluster_group": true,
	"cluster_group_id": true, "cluster_type": true, "cluster_type_id": true, "config_template_id": true,
	"local_context_data": true, "depth": true, "children": true, "import_target": true, "export_target": true,
	"import_target_id": true, "export_target_id": true, "parent_device_id": true, "parent_bay_id": true,
}

// missingFilter reports whether NetBox has a filter that the double lacks.
func missingFilter(m *model, key string) bool {
	base, _, _ := strings.Cut(key, "__")
	if m.special[key] != nil || m.field(base) != nil || m.field(strings.TrimSuffix(base, "_id")) != nil {
		return false
	}
	return missing[base]
}

// narrow finds the rows that a filter can accept by an index, if there is one.
func (s *Server) narrow(m *model, key string, values []string) []int64 {
	ids := []int64{}
	switch name, isCF := strings.CutPrefix(key, "cf_"); {
	case isCF && s.cfs[m.ctype][name] != nil && s.cfs[m.ctype][name].str("filter_logic") == "exact" && !slices.Contains(values, "null"):
		for _, v := range values {
			for id := range s.tables[m].byCF[cfValue{name, v}] {
				ids = append(ids, id)
			}
		}
	case key == "id":
		for _, v := range values {
			if n, err := strconv.ParseInt(v, 10, 64); err == nil {
				ids = append(ids, n)
			}
		}
	case key == "address" && m == ipAddress:
		for _, v := range values {
			if p, _, err := hostOrNet(v); err == nil {
				for vrf := range s.space.hosts {
					ids = append(ids, s.space.taken(vrf, p.Addr())...)
				}
			}
		}
	default:
		return nil
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// filter makes the filter of one parameter.
func (s *Server) filter(m *model, key string, values []string) (rowFilter, string) {
	if name, isCF := strings.CutPrefix(key, "cf_"); isCF {
		return s.cfFilter(m, name, values)
	}
	if f := m.special[key]; f != nil {
		return f(s, values)
	}
	base, op, _ := strings.Cut(key, "__")
	switch base {
	case "q":
		return searchFilter(m, values), ""
	case "id":
		return numberFilter(op, values, func(o *object) (int64, bool) { return o.id, true })
	case "created", "last_updated":
		return timeFilter(base, op, values)
	case "created_by_request":
		return func(o *object) bool { return slices.Contains(values, o.createdBy) }, ""
	case "tag", "tag_id":
		return s.tagFilter(base, op, values)
	}
	return s.fieldFilter(m, base, op, values)
}

// fieldFilter filters by a field of the model: <field>, <reference> (by slug),
// <reference>_id.
func (s *Server) fieldFilter(m *model, base, op string, values []string) (rowFilter, string) {
	if f := m.field(strings.TrimSuffix(base, "_id")); f != nil && f.kind == refField {
		return s.refFilter(f, strings.HasSuffix(base, "_id"), op, values)
	}
	f := m.field(base)
	if f == nil {
		return nil, ""
	}
	switch f.kind { //nolint:exhaustive // the rest is below
	case textField, slugField:
		return textFilter(op, values, f.foldCase, func(o *object) string { return o.str(f.name) })
	case choiceField:
		return s.choiceFilter(f, op, values)
	case boolField:
		return boolFilter(values, func(o *object) bool { return o.yes(f.name) })
	case intField:
		return numberFilter(op, values, func(o *object) (int64, bool) {
			n, ok := o.vals[f.name].(int64)
			return n, ok
		})
	}
	return nil, ""
}

// invalidChoice is what NetBox says of a slug or a choice that does not exist. That
// is a 400, while an unknown parameter is none.
func invalidChoice(v string) string {
	return fmt.Sprintf("Select a valid choice. %s is not one of the available choices.", v)
}

// choiceFilter filters by a choice, which must be one.
func (s *Server) choiceFilter(f *field, op string, values []string) (rowFilter, string) {
	for _, v := range values {
		if v != "null" && op != "empty" && !slices.ContainsFunc(s.choicesOf(f), func(c choice) bool { return c.value == v }) {
			return nil, invalidChoice(v)
		}
	}
	return textFilter(op, values, false, func(o *object) string { return o.str(f.name) })
}

// refFilter filters by a reference. NetBox finds the target by slug, by route
// distinguisher for VRFs, by name for what has neither.
func (s *Server) refFilter(f *field, byID bool, op string, values []string) (rowFilter, string) {
	if op != "" && op != "n" {
		return nil, ""
	}
	var want []int64
	for _, v := range values {
		if v == "null" {
			want = append(want, 0)
			continue
		}
		ids := s.targets(byPath[f.to], byID, v)
		if len(ids) == 0 {
			return nil, invalidChoice(v)
		}
		want = append(want, ids...)
	}
	return func(o *object) bool { return slices.Contains(want, o.num(f.name)) != (op == "n") }, ""
}

// targets finds the rows that a filter by reference means.
func (s *Server) targets(to *model, byID bool, v string) []int64 {
	t := s.tables[to]
	if byID {
		if id, err := strconv.ParseInt(v, 10, 64); err == nil && t.rows[id] != nil {
			return []int64{id}
		}
		return nil
	}
	key := "name"
	switch {
	case to == vrf:
		key = "rd"
	case to == user:
		key = "username"
	case to.field("slug") != nil:
		key = "slug"
	}
	var ids []int64
	for _, id := range t.ids {
		if t.rows[id].str(key) == v {
			ids = append(ids, id)
		}
	}
	return ids
}

// tagFilter filters by tags: several must all be there, but for tag__any.
func (s *Server) tagFilter(base, op string, values []string) (rowFilter, string) {
	var want []int64
	for _, v := range values {
		ids := s.targets(tag, base == "tag_id", v)
		if len(ids) == 0 {
			return nil, invalidChoice(v)
		}
		want = append(want, ids...)
	}
	has := func(o *object) func(int64) bool { return func(id int64) bool { return slices.Contains(o.tags, id) } }
	switch op {
	case "":
		return func(o *object) bool {
			return !slices.ContainsFunc(want, func(id int64) bool { return !slices.Contains(o.tags, id) })
		}, ""
	case "n":
		return func(o *object) bool { return !slices.ContainsFunc(want, has(o)) }, ""
	case "any":
		if s.version.atLeast(4, 6, 8) {
			return func(o *object) bool { return slices.ContainsFunc(want, has(o)) }, ""
		}
	}
	return nil, ""
}

// cfFilter filters by a custom field. Its plain form compares exactly or
// loosely by the field's definition; an unknown or disabled field is ignored.
func (s *Server) cfFilter(m *model, key string, values []string) (rowFilter, string) {
	name, op := key, ""
	f := s.cfs[m.ctype][name]
	if f == nil {
		name, op, _ = strings.Cut(key, "__")
		f = s.cfs[m.ctype][name]
	}
	if f == nil || f.str("filter_logic") == "disabled" {
		return nil, ""
	}
	if op == "" && f.str("filter_logic") == "loose" && f.str("type") != "integer" && f.str("type") != "boolean" {
		op = "ic"
	}
	return textFilter(op, values, false, func(o *object) string {
		if v := o.cf[name]; v != nil {
			return fmt.Sprint(v)
		}
		return ""
	})
}

// searchFilter is q=: text in any of the model's search fields, or in the text
// form of an address or prefix.
func searchFilter(m *model, values []string) rowFilter {
	q := strings.TrimSpace(values[len(values)-1])
	if q == "" {
		return nil
	}
	return func(o *object) bool {
		for _, n := range m.search {
			if containsFold(o.str(n), q) {
				return true
			}
		}
		for _, n := range []string{"address", "prefix", "start_address", "end_address"} {
			if p := o.prefix(n); p.IsValid() && strings.HasPrefix(p.String(), q) {
				return true
			}
		}
		return false
	}
}

// textOps compare a text with a wanted one; with "n" before them they negate.
var textOps = map[string]func(v, want string) bool{
	"":       func(v, w string) bool { return v == w },
	"ie":     strings.EqualFold,
	"ic":     containsFold,
	"isw":    func(v, w string) bool { return strings.HasPrefix(strings.ToLower(v), strings.ToLower(w)) },
	"iew":    func(v, w string) bool { return strings.HasSuffix(strings.ToLower(v), strings.ToLower(w)) },
	"regex":  func(v, w string) bool { ok, err := regexp.MatchString(w, v); return err == nil && ok },
	"iregex": func(v, w string) bool { ok, err := regexp.MatchString("(?i)"+w, v); return err == nil && ok },
}

// textFilter filters by a text. The values are alternatives; negated, none of them
// may match.
func textFilter(op string, values []string, foldCase bool, get func(*object) string) (rowFilter, string) {
	if op == "empty" {
		return boolFilter(values, func(o *object) bool { return get(o) == "" })
	}
	cmp, negate := textOps[op], false
	if cmp == nil && strings.HasPrefix(op, "n") {
		cmp, negate = textOps[op[1:]], true
	}
	if cmp == nil {
		return nil, "" // an unknown comparison is an unknown parameter
	}
	if foldCase && (op == "" || op == "n") {
		cmp = strings.EqualFold
	}
	return func(o *object) bool {
		v := get(o)
		return negate != slices.ContainsFunc(values, func(w string) bool {
			if w == "null" {
				return v == ""
			}
			return cmp(v, w)
		})
	}, ""
}

// boolFilter filters by a truth value; of several the last one counts.
func boolFilter(values []string, get func(*object) bool) (rowFilter, string) {
	v, msg := decodeBool(values[len(values)-1])
	if msg != "" {
		return nil, "" // Django takes what it cannot read for "unknown", which selects all
	}
	return func(o *object) bool { return get(o) == v }, ""
}

// numberFilter filters by a number. Several values are alternatives to equality only.
func numberFilter(op string, values []string, get func(*object) (int64, bool)) (rowFilter, string) {
	var want []int64
	for _, v := range values {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return nil, "Enter a whole number."
		}
		want = append(want, n)
	}
	cmp := map[string]func(n int64) bool{
		"":    func(n int64) bool { return slices.Contains(want, n) },
		"n":   func(n int64) bool { return !slices.Contains(want, n) },
		"gt":  func(n int64) bool { return n > want[0] },
		"gte": func(n int64) bool { return n >= want[0] },
		"lt":  func(n int64) bool { return n < want[0] },
		"lte": func(n int64) bool { return n <= want[0] },
	}[op]
	if cmp == nil {
		return nil, ""
	}
	return func(o *object) bool { n, ok := get(o); return ok && cmp(n) }, ""
}

// timeFilter filters by the time of creation or of the last change. Deleted rows are
// no longer there to be found by it.
func timeFilter(base, op string, values []string) (rowFilter, string) {
	v, msg := decodeTime(values[len(values)-1])
	if msg != "" {
		return nil, "Enter a valid date/time."
	}
	want := v.(time.Time)
	get := func(o *object) time.Time { return o.updated }
	if base == "created" {
		get = func(o *object) time.Time { return o.created }
	}
	cmp := map[string]func(int) bool{
		"":   func(c int) bool { return c == 0 },
		"gt": func(c int) bool { return c > 0 }, "gte": func(c int) bool { return c >= 0 },
		"lt": func(c int) bool { return c < 0 }, "lte": func(c int) bool { return c <= 0 },
		"n": func(c int) bool { return c != 0 },
	}[op]
	if cmp == nil {
		return nil, ""
	}
	return func(o *object) bool { return cmp(get(o).Compare(want)) }, ""
}
