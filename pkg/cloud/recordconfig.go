// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"text/template"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/schema"
)

// RecordConfig is what a new record of an address in NetBox holds besides its
// owner.
type RecordConfig struct {
	// Status is the value of the status; "active" if absent. It may be one that
	// your NetBox defines, but not "reserved" or "deprecated": those say that
	// nobody has the address.
	Status string `json:"status,omitempty"`
	// Tenant is the slug of a tenant.
	Tenant string `json:"tenant,omitempty"`
	// Description is a Go template over .Cluster, .Namespace, .Service, .Class
	// and .Family; "k8s <cluster> <namespace>/<service>" if absent. NetBox takes
	// 200 characters, the rest is cut off.
	Description string `json:"description,omitempty"`
	// Tags are slugs of tags that exist. Each costs some of NetBox's speed.
	Tags []string `json:"tags,omitempty"`
	// CustomFields are further custom fields of IP addresses, by name.
	CustomFields map[string]any `json:"customFields,omitempty"`
}

var (
	// slugForm is what NetBox takes as a slug.
	slugForm = regexp.MustCompile(`^[-a-zA-Z0-9_]{1,100}$`)
	// customFieldForm is what NetBox takes as the name of a custom field.
	customFieldForm = regexp.MustCompile(`^[a-zA-Z0-9_]{1,50}$`)
)

// validate returns every mistake.
func (c RecordConfig) validate(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if c.Status == "reserved" || c.Status == "deprecated" {
		errs = append(errs, field.Invalid(path.Child("status"), c.Status, "says that nobody has the address: take active, or a status of your own"))
	}
	const slug = "must be a slug, as it stands in NetBox: letters, digits, dashes and underscores"
	if c.Status != "" && !slugForm.MatchString(c.Status) {
		errs = append(errs, field.Invalid(path.Child("status"), c.Status, "must be the value of a status, as NetBox's API has it: letters, digits, dashes and underscores"))
	}
	if c.Tenant != "" && !slugForm.MatchString(c.Tenant) {
		errs = append(errs, field.Invalid(path.Child("tenant"), c.Tenant, slug))
	}
	for i, tag := range c.Tags {
		if !slugForm.MatchString(tag) {
			errs = append(errs, field.Invalid(path.Child("tags").Index(i), tag, slug))
		}
	}
	if _, err := c.description(); err != nil {
		errs = append(errs, field.Invalid(path.Child("description"), c.Description, err.Error()))
	}
	return append(errs, c.validateCustomFields(path.Child("customFields"))...)
}

func (c RecordConfig) validateCustomFields(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, name := range slices.Sorted(maps.Keys(c.CustomFields)) {
		ours := slices.ContainsFunc(schema.Fields(), func(f schema.Field) bool { return f.Name == name })
		switch {
		case ours:
			errs = append(errs, field.Invalid(path.Key(name), name, "is where the owner is recorded: take another field"))
		case !customFieldForm.MatchString(name):
			errs = append(errs, field.Invalid(path.Key(name), name, "must be the name of a custom field: letters, digits and underscores"))
		}
	}
	return errs
}

// description parses the template and tries it; nil for none.
func (c RecordConfig) description() (*template.Template, error) {
	if c.Description == "" {
		return nil, nil //nolint:nilnil // no template is an answer
	}
	t, err := template.New("description").Option("missingkey=error").Parse(c.Description)
	if err != nil {
		return nil, fmt.Errorf("must be a Go template over .Cluster, .Namespace, .Service, .Class and .Family: %w", err)
	}
	example := netbox.Subject{Cluster: "prod", Namespace: "default", Service: "web", Class: "public", Family: "ipv4"}
	if err := t.Execute(io.Discard, example); err != nil {
		return nil, fmt.Errorf("must be a Go template over .Cluster, .Namespace, .Service, .Class and .Family: %w", err)
	}
	return t, nil
}

// record is what the allocator takes. The configuration is valid.
func (c RecordConfig) record() (netbox.Record, error) {
	description, err := c.description()
	if err != nil {
		return netbox.Record{}, err
	}
	return netbox.Record{Status: c.Status, Tenant: c.Tenant, Description: description, Tags: c.Tags, CustomFields: c.CustomFields}, nil
}
