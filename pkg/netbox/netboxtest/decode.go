// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"time"
	"unicode/utf8"
)

// fieldErrors are the errors of one object, by field; "__all__" are those of
// no field. The value is a list of texts, or an object for custom fields.
type fieldErrors map[string]any

// fieldError is one error of one field. The texts are those of NetBox and Django,
// letter by letter: clients have nothing else to go by.
func fieldError(name, format string, args ...any) fieldErrors {
	return fieldErrors{name: []string{fmt.Sprintf(format, args...)}}
}

// modelError is an error of a row as a whole.
func modelError(format string, args ...any) fieldErrors {
	return fieldError("__all__", format, args...)
}

// asError makes field errors usable where seeding fails.
func (e fieldErrors) asError() error {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(e)) {
		parts = append(parts, fmt.Sprintf("%s: %v", k, e[k]))
	}
	return errors.New(strings.Join(parts, "; "))
}

// decode makes the row that data asks for: a new one, or old as changed by
// data. A full replacement (PUT) differs from a PATCH only in that required
// fields must be there, as in NetBox.
func (s *Server) decode(m *model, old *object, data any, partial bool) (*object, fieldErrors) {
	in, isObject := data.(map[string]any)
	if !isObject {
		return nil, fieldError(s.version.nonFieldKey(), "Invalid data. Expected a dictionary, but got %s.", pyType(data))
	}
	o := s.blank(m)
	if old != nil {
		o = old.clone()
	}
	errs := fieldErrors{}
	for i := range m.fields {
		f := &m.fields[i]
		v, given := in[f.name]
		switch {
		case f.kind == computedField || !f.in(s.version):
		case given:
			s.decodeField(f, o, v, errs)
		case f.required && !partial:
			errs[f.name] = []string{"This field is required."}
		}
	}
	if !m.plain {
		s.decodeTags(o, old, in, errs)
		s.decodeCustomFields(m, o, old == nil, in, errs)
	}
	if len(errs) > 0 {
		return nil, errs
	}
	if errs := s.check(m, o, old); errs != nil {
		return nil, errs
	}
	return o, nil
}

// check does what NetBox does in full_clean: what needs the whole row.
func (s *Server) check(m *model, o, old *object) fieldErrors {
	if m.clean != nil {
		if errs := m.clean(s, o, old); errs != nil {
			return errs
		}
	}
	if errs := s.checkUnique(m, o); errs != nil {
		return errs
	}
	return s.checkCustomFields(m, o)
}

// blank is a new row with its defaults.
func (s *Server) blank(m *model) *object {
	o := &object{vals: map[string]any{}, cf: map[string]any{}}
	for i := range m.fields {
		f := &m.fields[i]
		switch {
		case f.kind == computedField:
		case f.def != nil:
			o.vals[f.name] = f.def
		case f.kind == refField:
			o.vals[f.name] = int64(0)
		}
	}
	return o
}

// decodeField reads the value of one field into a row.
func (s *Server) decodeField(f *field, o *object, v any, errs fieldErrors) {
	if v == nil {
		s.decodeNull(f, o, errs)
		return
	}
	got, msg := s.decodeValue(f, v)
	if msg != "" {
		errs[f.name] = []string{msg}
		return
	}
	o.vals[f.name] = got
}

// decodeNull clears a field, where it may be empty.
func (s *Server) decodeNull(f *field, o *object, errs fieldErrors) {
	if !f.nullable || f.required {
		errs[f.name] = []string{"This field may not be null."}
		return
	}
	switch f.kind {
	case refField:
		o.vals[f.name] = int64(0)
	case textField, choiceField:
		o.vals[f.name] = ""
	default:
		delete(o.vals, f.name)
	}
}

// decodeValue reads a value that is not null; msg says what is wrong with it.
func (s *Server) decodeValue(f *field, v any) (got any, msg string) {
	switch f.kind { //nolint:exhaustive // the rest is below
	case textField, slugField:
		return decodeText(f, v)
	case boolField:
		return decodeBool(v)
	case intField:
		if n, ok := integer(v); ok {
			return n, ""
		}
		return nil, "A valid integer is required."
	case floatField:
		return decodeFloat(v)
	case choiceField:
		return s.decodeChoice(f, v)
	case refField:
		return s.decodeRef(byPath[f.to], v)
	case refListField:
		return s.decodeRefs(byPath[f.to], v)
	case prefixField, addressField:
		return decodeNetwork(f, v)
	case stringsField:
		return decodeStrings(v)
	case timeField:
		return decodeTime(v)
	}
	return v, ""
}

// decodeText reads a text. Django strips blanks and takes numbers too.
func decodeText(f *field, v any) (any, string) {
	t, ok := v.(string)
	if !ok {
		n, isNumber := v.(fmt.Stringer) // json.Number, which Django takes as text
		if !isNumber {
			return nil, "Not a valid string."
		}
		t = n.String()
	}
	t = strings.TrimSpace(t)
	switch {
	case t == "" && f.required:
		return nil, "This field may not be blank."
	case f.max > 0 && utf8.RuneCountInString(t) > f.max:
		return nil, fmt.Sprintf("Ensure this field has no more than %d characters.", f.max)
	case t != "" && f.pattern != nil && !f.pattern.MatchString(t):
		return nil, patternMessage(f)
	}
	if f.lower {
		t = strings.ToLower(t)
	}
	return t, ""
}

// patternMessage is what NetBox says of a text that does not fit.
func patternMessage(f *field) string {
	switch f.pattern {
	case slugPattern:
		return "Enter a valid “slug” consisting of letters, numbers, underscores or hyphens."
	case dnsPattern:
		return "Only alphanumeric characters, asterisks, hyphens, periods, and underscores are allowed in DNS names"
	case cfName:
		return "Only alphanumeric characters and underscores are allowed."
	}
	return "Enter a valid value."
}

// decodeBool reads a truth value in any form that Django takes.
func decodeBool(v any) (any, string) {
	switch fmt.Sprint(v) {
	case "true", "True", "1", "yes", "on":
		return true, ""
	case "false", "False", "0", "no", "off":
		return false, ""
	}
	return nil, "Must be a valid boolean."
}

// decodeFloat reads a number.
func decodeFloat(v any) (any, string) {
	var n float64
	if _, err := fmt.Sscanf(fmt.Sprint(v), "%g", &n); err != nil {
		return nil, "A valid number is required."
	}
	return n, ""
}

// decodeChoice reads a choice. Sent is the value alone, though answers hold an object:
// a client that sends back what it got is refused.
func (s *Server) decodeChoice(f *field, v any) (any, string) {
	switch v.(type) {
	case map[string]any, []any:
		return nil, `Value must be passed directly (e.g. "foo": 123); do not use a dictionary or list.`
	}
	t := fmt.Sprint(v)
	if t == "" {
		if f.nullable && !f.required {
			return "", ""
		}
		return nil, "This field may not be blank."
	}
	if !slices.ContainsFunc(s.choicesOf(f), func(c choice) bool { return c.value == t }) {
		return nil, t + " is not a valid choice."
	}
	return t, ""
}

// decodeRef finds the row that a reference names: by id, or by an object of
// attributes that only one row has.
func (s *Server) decodeRef(to *model, v any) (any, string) {
	t := s.tables[to]
	if attrs, ok := v.(map[string]any); ok {
		return s.decodeRefAttrs(t, attrs)
	}
	id, ok := integer(v)
	if !ok {
		return nil, fmt.Sprintf("Related objects must be referenced by numeric ID or by dictionary of attributes. "+
			"Received an unrecognized value: %v", v)
	}
	if t.rows[id] == nil {
		return nil, fmt.Sprintf("Related object not found using the provided numeric ID: %d", id)
	}
	return id, ""
}

// decodeRefAttrs finds the one row with these attributes, for example a slug.
func (s *Server) decodeRefAttrs(t *table, attrs map[string]any) (any, string) {
	var found []int64
	match, err := s.allOf(t.m, attrs, 0)
	if err != nil {
		return nil, fmt.Sprintf("Related object not found using the provided attributes: %s", pyDict(attrs))
	}
	for _, id := range t.ids {
		if match(t.rows[id]) {
			found = append(found, id)
		}
	}
	switch len(found) {
	case 0:
		return nil, "Related object not found using the provided attributes: " + pyDict(attrs)
	case 1:
		return found[0], ""
	}
	return nil, "Multiple objects match the provided attributes: " + pyDict(attrs)
}

// decodeRefs reads a list of references.
func (s *Server) decodeRefs(to *model, v any) (any, string) {
	list, ok := v.([]any)
	if !ok {
		return nil, fmt.Sprintf("Expected a list of items but got type %q.", pyType(v))
	}
	ids := []int64{}
	for _, e := range list {
		id, msg := s.decodeRef(to, e)
		if msg != "" {
			return nil, msg
		}
		ids = append(ids, id.(int64))
	}
	return ids, ""
}

// decodeNetwork reads a CIDR, or a host alone, which then gets its full mask.
func decodeNetwork(f *field, v any) (any, string) {
	t, ok := v.(string)
	if !ok {
		return nil, fmt.Sprintf("Invalid IP address format: %v", v)
	}
	p, err := netip.ParsePrefix(t)
	if err != nil {
		a, err := netip.ParseAddr(t)
		if err != nil || a.Zone() != "" {
			return nil, "Invalid IP address format: " + t
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if f.kind == prefixField {
		p = p.Masked()
	}
	return p, ""
}

// decodeStrings reads a list of texts.
func decodeStrings(v any) (any, string) {
	list, ok := v.([]any)
	if !ok {
		return nil, fmt.Sprintf("Expected a list of items but got type %q.", pyType(v))
	}
	out := []string{}
	for _, e := range list {
		t, ok := e.(string)
		if !ok {
			return nil, "Not a valid string."
		}
		out = append(out, t)
	}
	return out, ""
}

// decodeTime reads a time in any form that Django takes.
func decodeTime(v any) (any, string) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.Parse(layout, fmt.Sprint(v)); err == nil {
			return t, ""
		}
	}
	return nil, "Datetime has wrong format. Use one of these formats instead: YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z]."
}

// checkUnique checks the fields that no two rows may share.
func (s *Server) checkUnique(m *model, o *object) fieldErrors {
	for i := range m.fields {
		f := &m.fields[i]
		if !f.unique || o.str(f.name) == "" {
			continue
		}
		for _, other := range s.tables[m].rows {
			if other.id != o.id && other.str(f.name) == o.str(f.name) {
				return fieldError(f.name, "%s with this %s already exists.", verbose(m), strings.ReplaceAll(f.name, "_", " "))
			}
		}
	}
	return nil
}

// verbose is the name of a model in Django's own messages.
func verbose(m *model) string {
	return strings.ToLower(m.name)
}

// pyType and pyDict write values as Python does, because messages hold them.

// pyType is the name of a value's type in Python.
func pyType(v any) string {
	switch v.(type) {
	case nil:
		return "NoneType"
	case string:
		return "str"
	case bool:
		return "bool"
	case []any:
		return "list"
	case map[string]any:
		return "dict"
	}
	return "int"
}

// pyDict is an object as Python prints it.
func pyDict(m map[string]any) string {
	var parts []string
	for k, v := range m {
		if t, ok := v.(string); ok {
			v = "'" + t + "'"
		}
		parts = append(parts, fmt.Sprintf("'%s': %v", k, v))
	}
	sort.Strings(parts)
	return "{" + strings.Join(parts, ", ") + "}"
}
