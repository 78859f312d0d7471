// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox/setup"
)

// oldest is the oldest NetBox that the claim protocol was seen to work with.
const oldestMajor, oldestMinor = 4, 4

// Check tells whether claims can be kept in this NetBox: it answers, it is new
// enough, and its custom fields are what the protocol relies on. A
// *ipam.ConfigError names every mistake with its fix.
func (a *Allocator) Check(ctx context.Context) error {
	version, err := a.client.version(ctx)
	if err != nil {
		return err
	}
	if problem := checkVersion(version); problem != "" {
		return &ipam.ConfigError{Problem: problem}
	}
	names := []string{setup.FieldClaim, setup.FieldCluster, setup.FieldClusterUID, setup.FieldServiceUID}
	fields, err := a.client.customFields(ctx, names)
	if err != nil {
		return err
	}
	var problems []string
	for _, name := range names {
		if problem := checkField(name, fields); problem != "" {
			problems = append(problems, problem)
		}
	}
	if len(problems) > 0 {
		return &ipam.ConfigError{Problem: strings.Join(problems, "; ")}
	}
	return nil
}

func checkVersion(version string) string {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return fmt.Sprintf("NetBox gives its version as %q: check netbox.url", version)
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	if err1 != nil || err2 != nil {
		return fmt.Sprintf("NetBox gives its version as %q: check netbox.url", version)
	}
	if major < oldestMajor || major == oldestMajor && minor < oldestMinor {
		return fmt.Sprintf("NetBox %s is too old: upgrade it to %d.%d or later", version, oldestMajor, oldestMinor)
	}
	return ""
}

func checkField(name string, fields map[string]customField) string {
	f, ok := fields[name]
	if !ok {
		unique := ""
		if name == setup.FieldClaim {
			unique = ", unique"
		}
		return fmt.Sprintf("NetBox has no custom field %s that the token may see: create it on ipam.ipaddress with type text%s and filter logic exact", name, unique)
	}
	switch {
	case !slices.Contains(f.ObjectTypes, "ipam.ipaddress"):
		return fmt.Sprintf("NetBox custom field %s is not for ipam.ipaddress: add that object type", name)
	case f.Type.Value != "text":
		return fmt.Sprintf("NetBox custom field %s has type %s: it must be text", name, f.Type.Value)
	case f.FilterLogic.Value != "exact":
		return fmt.Sprintf("NetBox custom field %s has filter logic %s: set it to exact", name, f.FilterLogic.Value)
	case name == setup.FieldClaim && !f.Unique:
		return fmt.Sprintf("NetBox custom field %s is not unique: set unique, it keeps two controllers from claiming twice", name)
	}
	return ""
}
