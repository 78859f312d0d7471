// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/bm-ccm/bm-ccm/pkg/netbox"
)

// The releases of NetBox that the claim protocol was seen to work with.
var (
	OldestRelease = netbox.Release{Major: 4, Minor: 4}
	NewestRelease = netbox.Release{Major: 4, Minor: 7}
)

// Check reports whether claims can be kept in this NetBox: it answers, it is
// new enough, and its custom fields are what the protocol relies on. A
// *netbox.ConfigError names every mistake with its fix. Package provision looks
// at more.
func Check(ctx context.Context, c *netbox.Client) error {
	version, err := c.Version(ctx)
	if err != nil {
		return err
	}
	if mistake := VersionMistake(version); mistake != "" {
		return &netbox.ConfigError{Problem: mistake}
	}
	found, err := ReadFields(ctx, c)
	if err != nil {
		return err
	}
	var mistakes []string
	for _, want := range Fields() {
		if mistake := want.Mistake(found); mistake != "" {
			mistakes = append(mistakes, mistake)
		}
	}
	if len(mistakes) > 0 {
		return &netbox.ConfigError{Problem: strings.Join(mistakes, "; ")}
	}
	return nil
}

// VersionMistake says why claims cannot be kept in a NetBox of this version,
// with the fix; "" if they can. A version that is newer than NewestRelease is
// no mistake: the protocol relies on nothing that NetBox has announced to
// change.
func VersionMistake(version string) string {
	r := netbox.ParseRelease(version)
	switch {
	case r == netbox.Release{}:
		return fmt.Sprintf("NetBox gives its version as %q: check netbox.url", version)
	case !r.AtLeast(OldestRelease):
		return fmt.Sprintf("NetBox %s is too old: upgrade it to %s or later", version, OldestRelease)
	}
	return ""
}

// FieldsPath is where the REST API lists custom fields.
const FieldsPath = "extras/custom-fields/"

// ExistingField is a custom field as NetBox has it.
type ExistingField struct {
	netbox.ObjectID
	Name        string        `json:"name"`
	ObjectTypes []string      `json:"object_types"`
	Type        netbox.Choice `json:"type"`
	Required    bool          `json:"required"`
	Unique      bool          `json:"unique"`
	FilterLogic netbox.Choice `json:"filter_logic"`
}

// ReadFields returns those of Fields that NetBox has and that the token may
// see, by name.
func ReadFields(ctx context.Context, c *netbox.Client) (map[string]ExistingField, error) {
	query := url.Values{}
	for _, f := range Fields() {
		query.Add("name", f.Name)
	}
	all, err := netbox.List(ctx, c, netbox.Request{Doing: "reading the custom fields in NetBox", Path: FieldsPath, Query: query}, ExistingField.Key, nil)
	found := map[string]ExistingField{}
	for _, f := range all {
		found[f.Name] = f
	}
	return found, err
}

// Mistake says what is wrong with a custom field among those that NetBox has,
// and the fix; "" if nothing is. Each of these has cost somebody addresses: a
// loose filter finds other claims too, a claim that is not unique can be taken
// twice, and a field of another object type is dropped from what is written
// without an error (NetBox 4.4).
func (f Field) Mistake(found map[string]ExistingField) string {
	have, ok := found[f.Name]
	if !ok {
		unique := ""
		if f.Unique {
			unique = ", unique"
		}
		return fmt.Sprintf("NetBox has no custom field %s that the token may see: create it on %s with type text%s and filter logic exact, or run bm-ccm netbox init",
			f.Name, ObjectType, unique)
	}
	switch {
	case !slices.Contains(have.ObjectTypes, ObjectType):
		return fmt.Sprintf("NetBox custom field %s is not for %s: add that object type", have.Name, ObjectType)
	case have.Type.Value != f.Type:
		return have.ImmutableMismatch()
	case have.FilterLogic.Value != f.FilterLogic:
		return fmt.Sprintf("NetBox custom field %s has filter logic %s: set it to %s", have.Name, have.FilterLogic.Value, f.FilterLogic)
	case f.Unique && !have.Unique:
		return fmt.Sprintf("NetBox custom field %s is not unique: set unique, it keeps two controllers from claiming twice", have.Name)
	}
	return have.ImmutableMismatch()
}

// ImmutableMismatch says what of a custom field only its administrator may
// change, because NetBox cannot or others may rely on it; "" if nothing is.
func (f ExistingField) ImmutableMismatch() string {
	switch {
	case f.Type.Value != fieldType:
		return fmt.Sprintf("NetBox custom field %s has type %s: it must be text; NetBox changes no type, so rename or delete that field and create it anew", f.Name, f.Type.Value)
	case f.Required:
		return fmt.Sprintf("NetBox custom field %s is required: unset required, or no address without it can be written", f.Name)
	}
	return ""
}
