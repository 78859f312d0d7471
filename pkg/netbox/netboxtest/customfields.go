// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/bm-ccm/bm-ccm/pkg/netbox/schema"
)

// decodeCustomFields merges the custom fields of a body into a row; null
// clears one.
func (s *Server) decodeCustomFields(m *model, o *object, isNew bool, in map[string]any, errs fieldErrors) {
	known := s.cfs[m.ctype]
	if isNew {
		for name, f := range known {
			if d := f.vals["default"]; d != nil {
				o.cf[name] = d
			}
		}
	}
	v, given := in["custom_fields"]
	if !given {
		return
	}
	values, ok := v.(map[string]any)
	if !ok {
		errs["custom_fields"] = []string{"Invalid data format. Custom field data must be passed as a dictionary " +
			"mapping field names to their values."}
		return
	}
	if unknown := unknownFields(known, values); len(unknown) > 0 && s.version.rejectsUnknownCF() {
		errs["custom_fields"] = unknown
		return
	}
	for name, v := range values {
		switch {
		case known[name] == nil:
		case v == nil || v == "":
			// An empty text is kept by NetBox; it is as good as none.
			delete(o.cf, name)
			if v == "" {
				o.cf[name] = ""
			}
		default:
			o.cf[name] = v
		}
	}
}

// unknownFields has an error for each name that is not known.
func unknownFields(known map[string]*object, values map[string]any) doc {
	var d doc
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if known[name] == nil {
			d = append(d, kv{name, fmt.Sprintf("Custom field '%s' does not exist for this object type.", name)})
		}
	}
	return d
}

// checkCustomFields checks the values of a whole row against the fields'
// definitions.
func (s *Server) checkCustomFields(m *model, o *object) fieldErrors {
	if m.plain {
		return nil
	}
	known := s.cfs[m.ctype]
	for _, name := range slices.Sorted(maps.Keys(known)) {
		f, v := known[name], o.cf[name]
		if v == nil || v == "" {
			if f.yes("required") {
				return modelError("Missing required custom field '%s'.", name)
			}
			continue
		}
		if msg := checkValue(f, v); msg != "" {
			return modelError("Invalid value for custom field '%s': %s", name, msg)
		}
		if f.yes("unique") && s.cfTaken(m, o.id, name, v) {
			return modelError("Custom field '%s' must have a unique value.", name)
		}
	}
	return nil
}

// cfTaken reports whether another row than id holds a value.
func (s *Server) cfTaken(m *model, id int64, name string, v any) bool {
	t := s.tables[m]
	if text, ok := v.(string); ok {
		for other := range t.byCF[cfValue{name, text}] {
			if other != id {
				return true
			}
		}
		return false
	}
	for _, other := range t.rows {
		if other.id != id && reflect.DeepEqual(other.cf[name], v) {
			return true
		}
	}
	return false
}

// checkValue says what is wrong with a value, if anything.
func checkValue(f *object, v any) string {
	t, isText := v.(string)
	switch f.str("type") {
	case "text", "longtext", "url":
		if !isText {
			return "Value must be a string."
		}
		if re := f.str("validation_regex"); re != "" {
			if ok, err := regexp.MatchString("^(?:"+re+")", t); err != nil || !ok {
				return fmt.Sprintf("Value must match regex '%s'", re)
			}
		}
	case "integer":
		if _, ok := integer(v); !ok || isText {
			return "Value must be an integer."
		}
	case "decimal":
		if _, ok := v.(json.Number); !ok {
			return "Value must be a decimal."
		}
	case "boolean":
		if _, ok := v.(bool); !ok {
			return "Value must be true or false."
		}
	case "date":
		if _, err := time.Parse("2006-01-02", t); err != nil {
			return fmt.Sprintf("Date values must be in ISO 8601 format (YYYY-MM-DD): %v", v)
		}
	case "datetime":
		if _, msg := decodeTime(v); msg != "" {
			return fmt.Sprintf("Date and time values must be in ISO 8601 format (YYYY-MM-DD HH:MM:SS): %v", v)
		}
	}
	return ""
}

// cleanCustomField checks the definition of a custom field.
func cleanCustomField(s *Server, o, old *object) fieldErrors {
	name := o.str("name")
	switch {
	case strings.Contains(name, "__"):
		return fieldError("name", "Double underscores are not permitted in custom field names.")
	case old != nil && old.str("type") != o.str("type"):
		return fieldError("type", "Changing the type of custom fields is not supported.")
	case o.yes("unique") && o.str("type") == "boolean":
		return fieldError("unique", "Uniqueness cannot be enforced for boolean fields")
	case len(o.strs("object_types")) == 0:
		return fieldError("object_types", "This list may not be empty.")
	}
	for _, ct := range o.strs("object_types") {
		if byType[ct] == nil || byType[ct].plain {
			return fieldError("object_types", "Invalid content type: %s", ct)
		}
	}
	return nil
}

// unsupportedFieldType says why a custom field cannot be had here.
func unsupportedFieldType(data any) *response {
	in, _ := data.(map[string]any)
	switch t := in["type"]; t {
	case "select", "multiselect", "object", "multiobject":
		return notImplemented("custom fields of type %v", t)
	}
	return nil
}

// fieldsChanged rebuilds what finds custom fields, and drops the values of
// those that are gone.
func (s *Server) fieldsChanged() {
	s.cfs = map[string]map[string]*object{}
	for _, f := range s.tables[customField].rows {
		for _, ct := range f.strs("object_types") {
			if s.cfs[ct] == nil {
				s.cfs[ct] = map[string]*object{}
			}
			s.cfs[ct][f.str("name")] = f
		}
	}
}

// CustomField defines a custom field.
type CustomField struct {
	Name string `json:"name"`
	// Type is a type of NetBox; it defaults to "text".
	Type string `json:"type,omitempty"`
	// ObjectTypes default to ["ipam.ipaddress"].
	ObjectTypes []string `json:"objectTypes,omitempty"`
	Unique      bool     `json:"unique,omitempty"`
	// FilterLogic is disabled, loose or exact; NetBox's default is loose.
	FilterLogic string `json:"filterLogic,omitempty"`
	Label       string `json:"label,omitempty"`
	Description string `json:"description,omitempty"`
}

// ClaimFields are the custom fields that bm-ccm keeps its claims in.
func ClaimFields() []CustomField {
	var out []CustomField
	for _, f := range schema.Fields() {
		out = append(out, CustomField{
			Name: f.Name, Type: f.Type, ObjectTypes: f.ObjectTypes, Unique: f.Unique, FilterLogic: f.FilterLogic,
			Label: f.Label, Description: f.Description,
		})
	}
	return out
}
