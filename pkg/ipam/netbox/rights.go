// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox/schema"
)

// This file finds out what a token may do, and changes nothing for it: what it
// writes NetBox cannot accept, or is meant for an object that there is not.

// impossible is a change that NetBox refuses with 400 once it has found that
// the token may make it.
var impossible = map[string]any{"status": "no-such-status"}

// noID is the id of no object.
const noID = math.MaxInt32

const addressesPath = "ipam/ip-addresses/"

func pathOf(collection string, id int64) string { return fmt.Sprintf("%s%d/", collection, id) }

// inspectViews looks whether the token may see what is read.
func (a *Allocator) inspectViews(ctx context.Context) []Line {
	const what = "view rights"
	var lines []Line
	seen := 0
	for _, v := range schema.Views() {
		x := &exchange{doing: "listing " + v.ObjectType, query: url.Values{"limit": {"1"}, "fields": {"id"}}}
		err := a.client.send(ctx, http.MethodGet, v.Path+"/", x, nil)
		switch {
		case err == nil:
			seen++
		case status(err) != http.StatusForbidden:
			return append(lines, failed(what, err))
		case v.Optional:
			lines = append(lines, Line{ResultWarn, what, fmt.Sprintf(
				"the token may not view %s, which some pools, records and nodes need: grant view on it", v.ObjectType)})
		default:
			lines = append(lines, Line{ResultFail, what, fmt.Sprintf("the token may not view %s: grant view on it", v.ObjectType)})
		}
	}
	if len(lines) == 0 {
		return []Line{{ResultOK, what, fmt.Sprintf("%d object types", seen)}}
	}
	return lines
}

// inspectWrites looks whether the token may write addresses at all.
func (a *Allocator) inspectWrites(ctx context.Context) (lines []Line, may bool) {
	const what = "write rights"
	c := a.client
	if err := c.send(ctx, http.MethodGet, pathOf(addressesPath, noID), &exchange{doing: "looking for an id that is not in use"}, nil); status(err) != http.StatusNotFound {
		return []Line{{ResultSkip, what, fmt.Sprintf("not tried, because NetBox address %d must not exist for that: %v", noID, orNone(err))}}, true
	}
	var missing []string
	for _, probe := range []struct {
		action, method, path string
		body                 any
		fine                 int // what NetBox answers when the token may
	}{
		{"add", http.MethodPost, addressesPath, impossible, http.StatusBadRequest},
		{"change", http.MethodPatch, pathOf(addressesPath, noID), impossible, http.StatusNotFound},
		{"delete", http.MethodDelete, pathOf(addressesPath, noID), map[string]any{}, http.StatusNotFound},
	} {
		err := c.write(ctx, probe.method, probe.path, "trying whether the token may "+probe.action+" addresses", probe.body, nil)
		switch status(err) {
		case probe.fine:
		case http.StatusForbidden:
			missing = append(missing, probe.action)
		default:
			return []Line{failed(what, fmt.Errorf("NetBox answers otherwise than expected: %w", orNone(err)))}, false
		}
	}
	if len(missing) > 0 {
		return []Line{{ResultFail, what, fmt.Sprintf(
			"the token may not %s addresses: grant it on %s with the constraint %s, and let the token write (write enabled)",
			strings.Join(missing, ", "), schema.ObjectType, asJSON(a.constraint()))}}, false
	}
	return []Line{{ResultOK, what, "add, change and delete on " + schema.ObjectType}}, true
}

func (a *Allocator) constraint() map[string]any {
	return map[string]any{schema.ClusterConstraint: a.cluster}
}

// mayChange tries whether the token may change a record.
func (c *Client) mayChange(ctx context.Context, r record) (bool, error) {
	err := c.write(ctx, http.MethodPatch, pathOf(addressesPath, r.id),
		fmt.Sprintf("trying whether the token may change NetBox address %d", r.id), impossible, nil)
	switch status(err) {
	case http.StatusBadRequest:
		return true, nil
	case http.StatusNotFound, http.StatusForbidden:
		return false, nil
	}
	return false, orNone(err)
}

// inspectFence looks whether NetBox keeps the token from records of others, and
// lets it have those of its own cluster.
func (a *Allocator) inspectFence(ctx context.Context) []Line {
	return []Line{a.inspectPermissions(ctx), a.inspectForeign(ctx), a.inspectOwn(ctx)}
}

func (a *Allocator) inspectForeign(ctx context.Context) Line {
	const what = "foreign records"
	samples, err := a.foreignSamples(ctx)
	if err != nil {
		return failed(what, err)
	}
	var tried []string
	for _, r := range samples {
		may, err := a.client.mayChange(ctx, r)
		if err != nil {
			return failed(what, err)
		}
		if may {
			return Line{ResultFail, what, a.notFenced(r)}
		}
		tried = append(tried, fmt.Sprintf("NetBox address %d (%s) of %s", r.id, r.addr, ownerOf(r)))
	}
	if len(tried) == 0 {
		return Line{ResultSkip, what, "not tried: NetBox has no address of another cluster, or without one, to try it on"}
	}
	return Line{ResultOK, what, "the token may not change " + strings.Join(tried, ", ")}
}

func (a *Allocator) notFenced(r record) string {
	if r.cluster != "" {
		return fmt.Sprintf("the token may change NetBox address %d (%s) of cluster %s: it is that cluster's token, or one for all; put a token into netbox.tokenFile that is fenced by the constraint %s",
			r.id, r.addr, r.cluster, asJSON(a.constraint()))
	}
	return fmt.Sprintf("the token may change NetBox address %d (%s), which is not this cluster's: put the constraint %s on the permission to add, change and delete %s",
		r.id, r.addr, asJSON(a.constraint()), schema.ObjectType)
}

func (a *Allocator) inspectOwn(ctx context.Context) Line {
	const what = "own records"
	r, err := a.sample(ctx, url.Values{"cf_" + schema.FieldCluster: {a.cluster}}, func(r record) bool { return r.cluster == a.cluster })
	if err != nil {
		return failed(what, err)
	}
	if r == nil {
		return Line{ResultSkip, what, "not tried: NetBox has no address of this cluster yet"}
	}
	may, err := a.client.mayChange(ctx, *r)
	switch {
	case err != nil:
		return failed(what, err)
	case may:
		return Line{ResultOK, what, fmt.Sprintf("the token may change NetBox address %d (%s)", r.id, r.addr)}
	}
	return Line{ResultFail, what, fmt.Sprintf(
		"the token may not change NetBox address %d (%s) of this cluster, %s: it is another cluster's token, or the constraint of its permission is not %s",
		r.id, r.addr, a.cluster, asJSON(a.constraint()))}
}

func ownerOf(r record) string {
	if r.cluster == "" {
		return "no cluster"
	}
	return "cluster " + r.cluster
}

// maxForeign bounds on how many other clusters' records a token is tried.
const maxForeign = 20

// foreignSamples returns an address of each other cluster, and one of none.
func (a *Allocator) foreignSamples(ctx context.Context) ([]record, error) {
	const cf = "cf_" + schema.FieldCluster
	var out []record
	known := []string{a.cluster}
	for range maxForeign {
		r, err := a.sample(ctx, url.Values{cf + "__empty": {"false"}, cf + "__n": known},
			func(r record) bool { return r.cluster != "" && !slices.Contains(known, r.cluster) })
		if err != nil {
			return nil, err
		}
		if r == nil {
			break
		}
		out, known = append(out, *r), append(known, r.cluster)
	}
	// One of a stock of reserved addresses may be the cluster's to take.
	r, err := a.sample(ctx, url.Values{cf + "__empty": {"true"}, "status__n": {statusReserved}},
		func(r record) bool { return r.cluster == "" && r.status != statusReserved })
	if r != nil {
		out = append(out, *r)
	}
	return out, err
}

// sample returns an address that fits, or nil. The query narrows the list only:
// NetBox passes over filters of fields that it does not have.
func (a *Allocator) sample(ctx context.Context, query url.Values, fits func(record) bool) (*record, error) {
	query.Set("limit", "50")
	found, err := a.client.addresses(ctx, "looking for addresses to try the token's rights on", query)
	if err != nil {
		return nil, err
	}
	for _, r := range found.Results {
		if fits(r) {
			return &r, nil
		}
	}
	return nil, nil //nolint:nilnil // absence is an answer
}

// identity is the user that NetBox takes the token for.
type identity struct {
	anID
	Username string `json:"username"`
	Groups   []anID `json:"groups"`
}

// whoami asks for the user of the token; nil before NetBox 4.5.
func (c *Client) whoami(ctx context.Context) (*identity, error) {
	version, err := c.version(ctx)
	if err != nil {
		return nil, err
	}
	if !parseRelease(version).atLeast(4, 5) {
		return nil, nil //nolint:nilnil // this NetBox cannot tell
	}
	var who identity
	err = c.send(ctx, http.MethodGet, "authentication-check/", &exchange{doing: "asking NetBox whose token it is"}, &who)
	return &who, err
}

// grants are the constraints by action, as JSON, under which a user may write
// addresses, or noConstraint.
type grants map[string][]string

func grantsOf(who *identity, all []permissionObject) grants {
	out := grants{}
	for _, p := range all {
		mine := p.isFor(who.ID) || slices.ContainsFunc(who.Groups, func(g anID) bool { return slices.Contains(p.Groups, g) })
		if !mine || !p.Enabled || !slices.Contains(p.ObjectTypes, schema.ObjectType) {
			continue
		}
		for _, action := range p.Actions {
			out[action] = append(out[action], constraintsOf(p.Constraints)...)
		}
	}
	return out
}

// inspectPermissions reads the constraints of the user's permissions, if the
// token may see them: those that init makes can be seen. What NetBox really
// does is for the probes to tell, as far as it has records to try them on.
func (a *Allocator) inspectPermissions(ctx context.Context) Line {
	const what = "fence"
	who, err := a.client.whoami(ctx)
	if err != nil {
		return failed(what, err)
	}
	if who == nil {
		return Line{ResultSkip, what, "NetBox before 4.5 does not tell whose token it is; the records below do"}
	}
	all, err := listAll[permissionObject](ctx, a.client, permissionsPath, "reading the token's permissions", nil)
	if status(err) == http.StatusForbidden {
		return Line{ResultSkip, what, fmt.Sprintf(
			`not read: the token may not view its own permissions (%s with the constraint {"users":"$user"})`, schema.PermissionType)}
	}
	if err != nil {
		return failed(what, err)
	}
	result, detail := a.judgeGrants(who.Username, grantsOf(who, all))
	return Line{result, what, detail}
}

func (a *Allocator) judgeGrants(user string, granted grants) (Result, string) {
	own := asJSON(a.constraint())
	for _, action := range []string{"add", "change", "delete"} {
		list := granted[action]
		switch {
		case len(list) == 0:
			return ResultWarn, fmt.Sprintf("user %s may %s every address, as a superuser: use the token of a user of its own, as bm-ccm netbox init makes it", user, action)
		case slices.Contains(list, noConstraint):
			return ResultFail, fmt.Sprintf("user %s may %s every address: put the constraint %s on that permission", user, action, own)
		case !slices.Contains(list, own):
			return ResultFail, fmt.Sprintf("user %s may %s only addresses with %s: it is not a token for cluster %s, whose constraint is %s",
				user, action, strings.Join(list, " or "), a.cluster, own)
		}
	}
	return ResultOK, fmt.Sprintf("user %s may add, change and delete addresses with %s", user, own)
}

// orNone makes an error of a success that must not be.
func orNone(err error) error {
	if err == nil {
		return fmt.Errorf("NetBox accepted what it must refuse")
	}
	return err
}
