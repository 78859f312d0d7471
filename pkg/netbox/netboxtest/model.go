// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

import (
	"regexp"
	"strings"
)

// kind is what a field holds, which decides how it is read, written and
// filtered.
type kind int

const (
	textField kind = iota
	slugField
	boolField
	intField
	floatField
	choiceField
	refField      // id of a row of another model; 0 = none
	refListField  // ids of rows of another model
	prefixField   // CIDR whose host bits are cleared
	addressField  // host with mask
	stringsField  // list of strings
	jsonField     // anything
	timeField     // RFC 3339 or null
	computedField // made for each answer; ignored when sent
)

// choice is a value that a choice field accepts.
type choice struct{ value, label string }

// field describes one field of a model.
type field struct {
	name     string
	kind     kind
	required bool
	// nullable means that null is accepted, and that an empty text is null in
	// answers (as for asset tags and route distinguishers).
	nullable bool
	// max is the longest text, in characters; 0 is unlimited.
	max int
	// def is the value of a new row that was given none.
	def     any
	choices []choice
	// to is the model that a reference points to; its path is used because
	// models refer to each other in circles.
	to string
	// protect keeps the target of a reference from being deleted (409);
	// otherwise the reference is cleared with it.
	protect bool
	// cascade deletes the row together with the target of the reference.
	cascade bool
	// nested are the fields of the target shown in answers; the target's brief
	// fields if empty.
	nested []string
	// lower makes text lower case.
	lower   bool
	pattern *regexp.Regexp
	unique  bool
	// foldCase makes the plain filter ignore case.
	foldCase bool
	// hidden keeps the field out of answers.
	hidden  bool
	since   func(version) bool
	compute func(s *Server, a *answer, o *object) any
}

// in reports whether a release has the field.
func (f *field) in(v version) bool { return f.since == nil || f.since(v) }

// model describes one kind of object.
type model struct {
	// ctype is the name in object_types, for example "ipam.ipaddress".
	ctype string
	// name is the name in messages, for example "IPAddress".
	name string
	// path is where the list lives below /api/ and below the web root.
	path   string
	fields []field
	// brief are the fields of nested objects and of brief=true.
	brief []string
	// plain models have neither tags nor custom fields.
	plain bool
	// timeless models show neither created nor last_updated.
	timeless bool
	// search are the text fields that q= looks into.
	search []string
	// order sorts lists that name no ordering; by id if nil.
	order func(s *Server, a, b *object) int
	// display is the text form of a row.
	display func(s *Server, o *object) string
	// clean checks a whole row, after its fields were found good; old is nil
	// for a new one. It may normalize o.
	clean func(s *Server, o, old *object) fieldErrors
	// special are filters beyond those that the fields give.
	special map[string]filterFunc
	// onWrite runs when any row of the model changed.
	onWrite func(s *Server)
	byName  map[string]*field
}

// touched tells the model that a row of it has changed.
func (m *model) touched(s *Server) {
	if m.onWrite != nil {
		m.onWrite(s)
	}
}

// field finds a field by its name; nil if there is none.
func (m *model) field(name string) *field { return m.byName[name] }

// The models. They refer to each other and to functions that refer to them,
// which is why init makes them.
var (
	user, token, permission, customField, tag, tenant, vrf, ipamRole, region, siteGroup, site, location, rack, manufacturer, platform, deviceRole, deviceType, clusterType, cluster, device, iface, virtualMachine, vmInterface, prefix, ipRange, ipAddress *model
)

// models are all of them, in the order in which they depend on each other;
// byPath and byType find them.
var (
	models         []*model
	byPath, byType = map[string]*model{}, map[string]*model{}
)

func init() {
	user = newUser()
	token = newToken()
	permission = newPermission()
	customField = newCustomField()
	tag = newTag()
	tenant = newTenant()
	vrf = newVrf()
	ipamRole = newIpamRole()
	region = newRegion()
	siteGroup = newSiteGroup()
	site = newSite()
	location = newLocation()
	rack = newRack()
	manufacturer = newManufacturer()
	platform = newPlatform()
	deviceRole = newDeviceRole()
	deviceType = newDeviceType()
	clusterType = newClusterType()
	cluster = newCluster()
	device = newDevice()
	iface = newIface()
	virtualMachine = newVirtualMachine()
	vmInterface = newVMInterface()
	prefix = newPrefix()
	ipRange = newIPRange()
	ipAddress = newIPAddress()
	models = index([]*model{
		user, token, permission, customField, tag, tenant, vrf, ipamRole, region, siteGroup, site, location, rack, manufacturer, platform, deviceRole, deviceType, clusterType, cluster, device, iface, virtualMachine, vmInterface, prefix, ipRange, ipAddress,
	})
	for _, m := range models {
		byPath[m.path], byType[m.ctype] = m, m
	}
}

// index lets models find their fields, and completes them.
func index(ms []*model) []*model {
	for _, m := range ms {
		m.byName = map[string]*field{}
		for i := range m.fields {
			m.byName[m.fields[i].name] = &m.fields[i]
		}
		if m.display == nil {
			m.display = func(_ *Server, o *object) string { return o.str("name") }
		}
	}
	return ms
}

// Patterns of texts.
var (
	slugPattern = regexp.MustCompile(`^[-a-zA-Z0-9_]+$`)
	dnsPattern  = regexp.MustCompile(`^([0-9A-Za-z_-]+|\*)(\.[0-9A-Za-z_-]+)*\.?$`)
	cfName      = regexp.MustCompile(`(?i)^[a-z0-9_]+$`)
	hexColor    = regexp.MustCompile(`^[0-9a-f]{6}$`)
)

// The constructors below keep the tables of fields readable.

func text(name string, limit int) field {
	return field{name: name, kind: textField, max: limit, def: ""}
}

// need makes a field one that every row must have.
func need(f field) field    { f.required = true; return f }
func orNull(f field) field  { f.nullable = true; return f }
func only1(f field) field   { f.unique = true; return f }
func protect(f field) field { f.protect = true; return f }
func cascade(f field) field { f.cascade = true; return f }

// slug is the short name that most models have, unique among their rows.
func slug() field {
	return field{name: "slug", kind: slugField, required: true, max: 100, pattern: slugPattern, unique: true}
}

// flag is a truth value with a default.
func flag(name string, def bool) field { return field{name: name, kind: boolField, def: def} }

// number is a whole number, or none.
func number(name string) field { return field{name: name, kind: intField, nullable: true} }

// ref is a reference to a row of the model with this path, or none.
func ref(name, to string) field {
	return field{name: name, kind: refField, to: to, nullable: true, def: int64(0)}
}

// refs is a list of references.
func refs(name, to string) field { return field{name: name, kind: refListField, to: to} }

// pick is a choice field; with a default of "" it may be empty, and is null
// then.
func pick(name, def string, values ...string) field {
	f := field{name: name, kind: choiceField, def: def, nullable: def == ""}
	for _, v := range values {
		value, label, ok := strings.Cut(v, "=")
		if !ok {
			label = strings.ToUpper(v[:1]) + v[1:]
		}
		f.choices = append(f.choices, choice{value, label})
	}
	return f
}

// computed is a field that is made for each answer.
func computed(name string, fn func(*Server, *answer, *object) any) field {
	return field{name: name, kind: computedField, compute: fn}
}

// unset is a field that this double always leaves empty.
func unset(names ...string) []field {
	var fs []field
	for _, n := range names {
		fs = append(fs, computed(n, func(*Server, *answer, *object) any { return nil }))
	}
	return fs
}

// counts are numbers of things that the double does not keep; always 0.
func counts(names ...string) []field {
	var fs []field
	for _, n := range names {
		fs = append(fs, computed(n, func(*Server, *answer, *object) any { return 0 }))
	}
	return fs
}

// common ends the field list of nearly every model.
func common() []field {
	owner := unset("owner")[0]
	owner.since = version.owner
	return []field{text("description", 200), owner, text("comments", 0)}
}

// join puts lists of fields one behind the other.
func join(lists ...[]field) []field {
	var all []field
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// words splits a list of field names.
func words(s string) []string { return strings.Fields(s) }
