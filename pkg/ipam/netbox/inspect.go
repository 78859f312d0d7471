// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox/schema"
)

// Result is what came of looking at something.
type Result string

// The results.
const (
	ResultOK   Result = "ok"
	ResultWarn Result = "warn"
	ResultFail Result = "FAIL"
	// ResultSkip tells that it could not be looked at, and why.
	ResultSkip Result = "skip"
)

// Line is one thing that Inspect looked at.
type Line struct {
	Result Result `json:"result"`
	// What was looked at.
	What string `json:"what"`
	// Detail is what was found, with the fix where something is wrong.
	Detail string `json:"detail"`
}

func failed(what string, err error) Line { return Line{ResultFail, what, err.Error()} }

// Inspect looks at everything that claims depend on, and changes nothing in
// NetBox. It goes on after a failure as far as the rest can be told.
func (a *Allocator) Inspect(ctx context.Context, pools []ipam.Pool) []Line {
	lines, fine := a.inspectServer(ctx)
	if !fine {
		return append(lines, Line{ResultSkip, "everything else", "not looked at before NetBox answers"})
	}
	lines = append(lines, a.inspectFields(ctx)...)
	lines = append(lines, a.inspectViews(ctx)...)
	writes, may := a.inspectWrites(ctx)
	lines = append(lines, writes...)
	if may {
		lines = append(lines, a.inspectFence(ctx)...)
	}
	lines = append(lines, a.inspectRecord(ctx)...)
	return append(lines, a.inspectPools(ctx, pools)...)
}

// inspectServer looks at what everything else needs: an answer, the version and
// the token.
func (a *Allocator) inspectServer(ctx context.Context) (lines []Line, fine bool) {
	const reach, token = "NetBox", "token"
	version, err := a.client.version(ctx)
	if status(err) == http.StatusForbidden || status(err) == http.StatusUnauthorized {
		return []Line{{ResultOK, reach, a.client.url + " answers"}, failed(token, err)}, false
	}
	if err != nil {
		return []Line{failed(reach, err)}, false
	}
	lines = append(lines, Line{ResultOK, reach, a.client.url + " answers"}, inspectVersion(version))
	return append(lines, a.inspectToken(ctx, version)), true
}

func inspectVersion(version string) Line {
	const what = "version"
	if problem := checkVersion(version); problem != "" {
		return Line{ResultFail, what, problem}
	}
	r := parseRelease(version)
	if r.atLeast(newestRelease.major, newestRelease.minor+1) {
		return Line{ResultWarn, what, fmt.Sprintf("NetBox %s is newer than what bm-ccm was tested with, %s to %s", version, oldestRelease, newestRelease)}
	}
	return Line{ResultOK, what, "NetBox " + version}
}

func (a *Allocator) inspectToken(ctx context.Context, version string) Line {
	kind := "version 1"
	if a.client.token.isV2() {
		kind = "version 2"
	} else if parseRelease(version).atLeast(4, 5) {
		kind = "version 1, which NetBox 5.0 will not have any more"
	}
	who, err := a.client.whoami(ctx)
	switch {
	case err != nil:
		return failed("token", err)
	case who == nil:
		return Line{ResultOK, "token", "valid, " + kind}
	}
	return Line{ResultOK, "token", fmt.Sprintf("valid, user %s, %s", who.Username, kind)}
}

func (a *Allocator) inspectFields(ctx context.Context) []Line {
	fields, err := a.client.claimFields(ctx)
	if err != nil {
		return []Line{failed("custom fields", err)}
	}
	var lines []Line
	for _, want := range schema.Fields() {
		line := Line{ResultOK, "custom field " + want.Name, "text, filter logic exact"}
		if want.Unique {
			line.Detail += ", unique"
		}
		if problem := checkField(want, fields); problem != "" {
			line.Result, line.Detail = ResultFail, problem
		}
		lines = append(lines, line)
	}
	return lines
}

// inspectRecord looks whether what is written into new records exists.
func (a *Allocator) inspectRecord(ctx context.Context) []Line {
	var lines []Line
	if slug := a.record.Tenant; slug != "" {
		lines = append(lines, a.inspectSlug(ctx, "netbox.record.tenant", "tenancy/tenants/", "tenant", slug))
	}
	for i, slug := range a.record.Tags {
		lines = append(lines, a.inspectSlug(ctx, fmt.Sprintf("netbox.record.tags[%d]", i), "extras/tags/", "tag", slug))
	}
	for _, name := range slices.Sorted(maps.Keys(a.record.CustomFields)) {
		lines = append(lines, a.inspectOtherField(ctx, name))
	}
	return lines
}

type slugObject struct {
	anID
	Slug string `json:"slug"`
}

func (a *Allocator) inspectSlug(ctx context.Context, what, path, kind, slug string) Line {
	found, err := one(ctx, a.client, path, kind+" "+slug, url.Values{"slug": {slug}}, func(o slugObject) bool { return o.Slug == slug })
	switch {
	case err != nil:
		return failed(what, err)
	case found == nil:
		return Line{ResultFail, what, fmt.Sprintf("NetBox has no %s with slug %q that the token may see: create it or correct the configuration", kind, slug)}
	}
	return Line{ResultOK, what, fmt.Sprintf("%s %s", kind, slug)}
}

func (a *Allocator) inspectOtherField(ctx context.Context, name string) Line {
	what := "netbox.record.customFields." + name
	found, err := one(ctx, a.client, customFieldsPath, "custom field "+name, url.Values{"name": {name}}, func(f fieldObject) bool { return f.Name == name })
	switch {
	case err != nil:
		return failed(what, err)
	case found == nil:
		return Line{ResultFail, what, fmt.Sprintf("NetBox has no custom field %s that the token may see: create it on %s or correct the configuration", name, schema.ObjectType)}
	case !slices.Contains(found.ObjectTypes, schema.ObjectType):
		return Line{ResultFail, what, fmt.Sprintf("NetBox custom field %s is not for %s: add that object type", name, schema.ObjectType)}
	}
	return Line{ResultOK, what, "custom field " + name}
}
