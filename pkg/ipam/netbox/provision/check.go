// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package provision

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/schema"
)

// Result is what came of looking at something. It is part of the JSON output, so
// scripts know these texts.
type Result string

// The results, as they are printed. Only a failure makes the exit code 1.
const (
	ResultOK   Result = "ok"
	ResultWarn Result = "warn"
	ResultFail Result = "FAIL"
	// ResultSkip says that it could not be looked at; the detail says why.
	ResultSkip Result = "skip"
)

// Finding is one thing that Check looked at.
type Finding struct {
	Result Result `json:"result"`
	// What was looked at.
	What string `json:"what"`
	// Detail is what was found, with the fix where something is wrong.
	Detail string `json:"detail"`
}

// failed is the finding where looking at something has failed.
func failed(what string, err error) Finding { return Finding{ResultFail, what, err.Error()} }

// Pools is what Check needs of the allocator: pools as claims would see them.
type Pools interface {
	// Resolve finds the addresses that a pool describes without naming them.
	Resolve(ctx context.Context, p ipam.Pool) (ipam.Pool, error)
	// Usage counts the addresses of a pool.
	Usage(ctx context.Context, p ipam.Pool) (map[ipam.Family]ipam.Usage, error)
	// SharedAcrossVRFs reports whether NetBox would hand out an address once for
	// each of two pools.
	SharedAcrossVRFs(ctx context.Context, p, q ipam.Pool) bool
}

// Wanted says what Check verifies beside NetBox itself.
type Wanted struct {
	// Cluster is clusterName of the cloud configuration.
	Cluster string
	// Tenant, Tags and CustomFields are what new records hold, by slug and by
	// name.
	Tenant       string
	Tags         []string
	CustomFields []string
	// AddressPools are the pools of the cluster; those that are not in NetBox
	// count only where they overlap with those that are.
	AddressPools []ipam.Pool
}

// checker does the work of Check.
type checker struct {
	api
	pools Pools
	want  Wanted
}

// Check looks at everything that claims depend on, and changes nothing in
// NetBox. It goes on after a failure as far as the rest can be told: whoever sets
// up NetBox wants to see every mistake at once.
func Check(ctx context.Context, client *netbox.Client, pools Pools, want Wanted) []Finding {
	c := &checker{api{client}, pools, want}
	found, fine := c.checkServer(ctx)
	if !fine {
		return append(found, Finding{ResultSkip, "everything else", "skipped: NetBox unreachable"})
	}
	// What is wrong here explains much of what is wrong below.
	found = append(found, c.checkFields(ctx)...)
	found = append(found, c.checkViews(ctx)...)
	writes, may := c.checkWrites(ctx)
	found = append(found, writes...)
	if may {
		found = append(found, c.checkFence(ctx)...)
	}
	found = append(found, c.checkRecord(ctx)...)
	return append(found, c.checkPools(ctx)...)
}

// checkServer looks at what everything else needs: an answer, the version and
// the token.
func (c *checker) checkServer(ctx context.Context) (found []Finding, fine bool) {
	const reach, token = "NetBox", "token"
	version, err := c.client.Version(ctx)
	if netbox.StatusOf(err) == http.StatusForbidden || netbox.StatusOf(err) == http.StatusUnauthorized {
		return []Finding{{ResultOK, reach, c.client.URL() + " answers"}, failed(token, err)}, false
	}
	if err != nil {
		return []Finding{failed(reach, err)}, false
	}
	found = append(found, Finding{ResultOK, reach, c.client.URL() + " answers"}, checkVersion(version))
	return append(found, c.checkToken(ctx, version)), true
}

// checkVersion looks at the version, and warns of one that nobody has tried yet.
func checkVersion(version string) Finding {
	const what = "version"
	if mistake := schema.VersionMistake(version); mistake != "" {
		return Finding{ResultFail, what, mistake}
	}
	next := netbox.Release{Major: schema.NewestRelease.Major, Minor: schema.NewestRelease.Minor + 1}
	if netbox.ParseRelease(version).AtLeast(next) {
		return Finding{ResultWarn, what, fmt.Sprintf("NetBox %s is newer than what bm-ccm was tested with, %s to %s", version, schema.OldestRelease, schema.NewestRelease)}
	}
	return Finding{ResultOK, what, "NetBox " + version}
}

// checkToken says whose token it is, and warns of a kind that has no future.
func (c *checker) checkToken(ctx context.Context, version string) Finding {
	kind := "version 1"
	if c.client.HasV2Token() {
		kind = "version 2"
	} else if netbox.ParseRelease(version).AtLeast(netbox.V2Tokens) {
		kind = "version 1, which NetBox 5.0 will not have any more"
	}
	who, err := c.whoami(ctx)
	switch {
	case err != nil:
		return failed("token", err)
	case who == nil:
		return Finding{ResultOK, "token", "valid, " + kind}
	}
	return Finding{ResultOK, "token", fmt.Sprintf("valid, user %s, %s", who.Username, kind)}
}

// checkFields looks at the custom fields, each by itself: an allocator puts all
// mistakes into one sentence, here they are lines.
func (c *checker) checkFields(ctx context.Context) []Finding {
	fields, err := schema.ReadFields(ctx, c.client)
	if err != nil {
		return []Finding{failed("custom fields", err)}
	}
	var found []Finding
	for _, want := range schema.Fields() {
		f := Finding{ResultOK, "custom field " + want.Name, "text, filter logic exact"}
		if want.Unique {
			f.Detail += ", unique"
		}
		if mistake := want.Mistake(fields); mistake != "" {
			f.Result, f.Detail = ResultFail, mistake
		}
		found = append(found, f)
	}
	return found
}

// checkRecord looks for what is written into new records: NetBox refuses a claim
// that names a tenant, tag or field that does not exist.
func (c *checker) checkRecord(ctx context.Context) []Finding {
	var found []Finding
	if slug := c.want.Tenant; slug != "" {
		found = append(found, c.checkSlug(ctx, "netbox.record.tenant", "tenancy/tenants/", "tenant", slug))
	}
	for i, slug := range c.want.Tags {
		found = append(found, c.checkSlug(ctx, fmt.Sprintf("netbox.record.tags[%d]", i), "extras/tags/", "tag", slug))
	}
	for _, name := range slices.Sorted(slices.Values(c.want.CustomFields)) {
		found = append(found, c.checkOtherField(ctx, name))
	}
	return found
}

// slugObject is an object that the configuration names by its slug.
type slugObject struct {
	netbox.ObjectID
	Slug string `json:"slug"`
}

// checkSlug looks for an object that the configuration names by its slug.
func (c *checker) checkSlug(ctx context.Context, what, path, kind, slug string) Finding {
	found, err := netbox.FindOne(ctx, c.client, path, kind+" "+slug, url.Values{"slug": {slug}}, func(o slugObject) bool { return o.Slug == slug })
	switch {
	case err != nil:
		return failed(what, err)
	case found == nil:
		return Finding{ResultFail, what, fmt.Sprintf("NetBox has no %s with slug %q that the token may see: create it or correct the configuration", kind, slug)}
	}
	return Finding{ResultOK, what, fmt.Sprintf("%s %s", kind, slug)}
}

// checkOtherField looks for a custom field that the configuration fills. Its type is
// not looked at: whether a value fits only NetBox can tell.
func (c *checker) checkOtherField(ctx context.Context, name string) Finding {
	what := "netbox.record.customFields." + name
	found, err := netbox.FindOne(ctx, c.client, schema.FieldsPath, "custom field "+name, url.Values{"name": {name}}, func(f schema.ExistingField) bool { return f.Name == name })
	switch {
	case err != nil:
		return failed(what, err)
	case found == nil:
		return Finding{ResultFail, what, fmt.Sprintf("NetBox has no custom field %s that the token may see: create it on %s or correct the configuration", name, schema.ObjectType)}
	case !slices.Contains(found.ObjectTypes, schema.ObjectType):
		return Finding{ResultFail, what, fmt.Sprintf("NetBox custom field %s is not for %s: add that object type", name, schema.ObjectType)}
	}
	return Finding{ResultOK, what, "custom field " + name}
}
