// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox/setup"
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
	for _, want := range setup.Fields() {
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
	for name := range a.record.CustomFields {
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
		return Line{ResultFail, what, fmt.Sprintf("NetBox has no custom field %s that the token may see: create it on %s or correct the configuration", name, setup.ObjectType)}
	}
	for _, t := range found.ObjectTypes {
		if t == setup.ObjectType {
			return Line{ResultOK, what, "custom field " + name}
		}
	}
	return Line{ResultFail, what, fmt.Sprintf("NetBox custom field %s is not for %s: add that object type", name, setup.ObjectType)}
}

// inspectPools resolves the pools in NetBox and counts their addresses.
func (a *Allocator) inspectPools(ctx context.Context, pools []ipam.Pool) []Line {
	var lines []Line
	for i, p := range pools {
		if !p.NetBox() {
			continue
		}
		what := "pool " + p.Name
		resolved, err := a.Resolve(ctx, p)
		if err == nil {
			err = resolved.Problem
		}
		if err != nil {
			lines = append(lines, failed(what, err))
			continue
		}
		pools[i] = resolved
		usage, err := a.Usage(ctx, resolved)
		if err != nil {
			lines = append(lines, failed(what, err))
			continue
		}
		lines = append(lines, usageLine(what, usage))
	}
	return append(lines, overlaps(pools)...)
}

func usageLine(what string, usage map[ipam.Family]ipam.Usage) Line {
	line := Line{Result: ResultOK, What: what}
	var parts []string
	for _, f := range []ipam.Family{ipam.IPv4, ipam.IPv6} {
		u, ok := usage[f]
		if !ok {
			continue
		}
		parts = append(parts, fmt.Sprintf("%s: %d addresses, %d used, %d free", f, u.Capacity, u.Used, u.Free))
		if u.Free == 0 {
			line.Result = ResultWarn
			parts[len(parts)-1] += ": add a prefix or free addresses"
		}
	}
	line.Detail = strings.Join(parts, "; ")
	if len(parts) == 0 {
		line.Result, line.Detail = ResultFail, "NetBox has nothing that this pool describes: correct its spec.netbox, or add it in NetBox"
	}
	return line
}

// overlaps names the pools that share addresses. Where only one of two is in
// NetBox the other gives out what NetBox does not know of.
func overlaps(pools []ipam.Pool) []Line {
	var lines []Line
	for i, p := range pools {
		for _, q := range pools[i+1:] {
			where := sharedRange(p, q)
			if where == "" {
				continue
			}
			line := Line{ResultWarn, "pools " + p.Name + " and " + q.Name, fmt.Sprintf("both hold %s: which one gives out an address is a matter of order", where)}
			if p.NetBox() != q.NetBox() {
				line.Result = ResultFail
				line.Detail = fmt.Sprintf("both hold %s, and only one of them is in NetBox: two Services could get one address; take it out of one pool", where)
			}
			lines = append(lines, line)
		}
	}
	return lines
}

func sharedRange(p, q ipam.Pool) string {
	ours, err1 := p.Ranges()
	theirs, err2 := q.Ranges()
	if errors.Join(err1, err2) != nil {
		return "" // told elsewhere
	}
	for _, a := range ours {
		for _, b := range theirs {
			if !a.Overlaps(b) {
				continue
			}
			if a.From().Less(b.From()) {
				return b.String()
			}
			return a.String()
		}
	}
	return ""
}
