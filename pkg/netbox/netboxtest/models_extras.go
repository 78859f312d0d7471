// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

// fieldTypes are the types of custom fields that NetBox has; those without a
// check in customfields.go are refused with 501.
var fieldTypes = []string{
	"text", "longtext=Text (long)", "integer", "decimal", "boolean=Boolean (true/false)", "date", "datetime=Date & time",
	"url=URL", "json=JSON", "select=Selection", "multiselect=Multiple selection", "object", "multiobject=Multiple objects",
}

// newCustomField describes custom fields. Their definitions change what other models
// take and show, see fieldsChanged.
func newCustomField() *model {
	return &model{
		ctype: "extras.customfield", name: "CustomField", path: "extras/custom-fields", plain: true,
		brief: nameBrief, search: words("name label group_name description"),
		fields: join([]field{
			need(field{name: "object_types", kind: stringsField}),
			need(pick("type", "", fieldTypes...)),
		}, unset("related_object_type"), []field{
			computed("data_type", func(_ *Server, _ *answer, o *object) any { return dataType(o.str("type")) }),
			need(only1(field{name: "name", kind: textField, max: 50, pattern: cfName})),
			text("label", 50), text("group_name", 50), text("description", 200),
			flag("required", false), flag("unique", false), {name: "search_weight", kind: intField, def: int64(1000)},
			pick("filter_logic", "loose", "disabled", "loose", "exact"),
			pick("ui_visible", "always", "always", "if-set=If set", "hidden"),
			pick("ui_editable", "yes", "yes", "no", "hidden"),
			flag("is_cloneable", false), {name: "default", kind: jsonField, nullable: true},
		}, unset("related_object_filter"), []field{
			{name: "weight", kind: intField, def: int64(100)}, number("validation_minimum"), number("validation_maximum"),
			text("validation_regex", 500),
		}, unset("choice_set"), []field{text("comments", 0)}),
		order: byText("name"), clean: cleanCustomField, special: customFieldFilters,
		onWrite: func(s *Server) { s.fieldsChanged() },
	}
}

// dataType is what the API calls the JSON type of a custom field.
func dataType(typ string) string {
	switch typ {
	case "integer", "boolean", "decimal", "date", "datetime":
		return typ
	}
	return "string"
}

// newTag describes tags.
func newTag() *model {
	return &model{
		ctype: "extras.tag", name: "Tag", path: "extras/tags", plain: true,
		brief: words("id url display name slug color description"), search: words("name slug description"),
		fields: []field{
			need(only1(text("name", 100))), slug(), color(), text("description", 200),
			{name: "weight", kind: intField, def: int64(1000)}, {name: "object_types", kind: stringsField},
			computed("tagged_items", func(s *Server, _ *answer, o *object) any { return s.countTagged(o.id) }),
		},
		order: byText("name"),
	}
}
