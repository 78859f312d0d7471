// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox/schema"
)

// The releases of NetBox that the claim protocol was seen to work with.
var (
	oldestRelease = release{4, 4}
	newestRelease = release{4, 7}
)

// release is a minor release of NetBox.
type release struct{ major, minor int }

func (r release) String() string { return fmt.Sprintf("%d.%d", r.major, r.minor) }

func (r release) atLeast(major, minor int) bool {
	return r.major > major || r.major == major && r.minor >= minor
}

// parseRelease reads a version like "4.7.3"; what is none becomes 0.0.
func parseRelease(version string) release {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return release{}
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	if err1 != nil || err2 != nil {
		return release{}
	}
	return release{major, minor}
}

// Check tells whether claims can be kept in this NetBox: it answers, it is new
// enough, and its custom fields are what the protocol relies on. A
// *ipam.ConfigError names every mistake with its fix. Inspect looks at more.
func (a *Allocator) Check(ctx context.Context) error {
	version, err := a.client.version(ctx)
	if err != nil {
		return err
	}
	if problem := checkVersion(version); problem != "" {
		return &ipam.ConfigError{Problem: problem}
	}
	fields, err := a.client.claimFields(ctx)
	if err != nil {
		return err
	}
	var problems []string
	for _, want := range schema.Fields() {
		if problem := checkField(want, fields); problem != "" {
			problems = append(problems, problem)
		}
	}
	if len(problems) > 0 {
		return &ipam.ConfigError{Problem: strings.Join(problems, "; ")}
	}
	return nil
}

func checkVersion(version string) string {
	r := parseRelease(version)
	switch {
	case r == release{}:
		return fmt.Sprintf("NetBox gives its version as %q: check netbox.url", version)
	case !r.atLeast(oldestRelease.major, oldestRelease.minor):
		return fmt.Sprintf("NetBox %s is too old: upgrade it to %s or later", version, oldestRelease)
	}
	return ""
}

// fieldObject is the definition of a custom field.
type fieldObject struct {
	anID
	Name        string   `json:"name"`
	ObjectTypes []string `json:"object_types"`
	Type        choice   `json:"type"`
	Required    bool     `json:"required"`
	Unique      bool     `json:"unique"`
	FilterLogic choice   `json:"filter_logic"`
}

// claimFields returns the definitions of the fields of setup, by name.
func (c *Client) claimFields(ctx context.Context) (map[string]fieldObject, error) {
	query := url.Values{}
	for _, f := range schema.Fields() {
		query.Add("name", f.Name)
	}
	all, err := listAll[fieldObject](ctx, c, customFieldsPath, "reading the custom fields in NetBox", query)
	found := map[string]fieldObject{}
	for _, f := range all {
		found[f.Name] = f
	}
	return found, err
}

// checkField says what is wrong with a custom field, and the fix.
func checkField(want schema.Field, fields map[string]fieldObject) string {
	f, ok := fields[want.Name]
	if !ok {
		unique := ""
		if want.Unique {
			unique = ", unique"
		}
		return fmt.Sprintf("NetBox has no custom field %s that the token may see: create it on %s with type text%s and filter logic exact, or run bm-ccm netbox init",
			want.Name, schema.ObjectType, unique)
	}
	switch {
	case !slices.Contains(f.ObjectTypes, schema.ObjectType):
		return fmt.Sprintf("NetBox custom field %s is not for %s: add that object type", f.Name, schema.ObjectType)
	case f.Type.Value != want.Type:
		return wrongType(f)
	case f.FilterLogic.Value != want.FilterLogic:
		return fmt.Sprintf("NetBox custom field %s has filter logic %s: set it to %s", f.Name, f.FilterLogic.Value, want.FilterLogic)
	case want.Unique && !f.Unique:
		return fmt.Sprintf("NetBox custom field %s is not unique: set unique, it keeps two controllers from claiming twice", f.Name)
	case f.Required:
		return requiredField(f)
	}
	return ""
}

func wrongType(f fieldObject) string {
	return fmt.Sprintf("NetBox custom field %s has type %s: it must be text; NetBox changes no type, so rename or delete that field and create it anew", f.Name, f.Type.Value)
}

func requiredField(f fieldObject) string {
	return fmt.Sprintf("NetBox custom field %s is required: unset required, or no address without it can be written", f.Name)
}
