// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package provision

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/bm-ccm/bm-ccm/pkg/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/schema"
)

// This file finds out what a token may do, and changes nothing for it: what it
// writes NetBox cannot accept, or is meant for an object that there is not.
//
// NetBox checks rights before content. So the status of its refusal tells: 403 is
// about the right, and 400 or 404 come after it.

// impossible is a change that NetBox refuses with 400 once it has found that
// the token may make it. A site that adds choices of its own will hardly have
// this one.
var impossible = map[string]any{"status": "no-such-status"}

// noID is the id of no object: NetBox counts from 1, in 64 bits, and this is the
// largest that older ones can compare.
const noID = math.MaxInt32

// checkViews verifies that the token may see what is read. NetBox hides what it
// may not: without this, missing rights look like missing objects.
func (c *checker) checkViews(ctx context.Context) []Finding {
	const what = "view rights"
	var found []Finding
	seen := 0
	for _, v := range schema.Views() {
		err := c.read(ctx, v.Path+"/", "listing "+v.ObjectType, url.Values{"limit": {"1"}, "fields": {"id"}}, nil)
		switch {
		case err == nil:
			seen++
		case netbox.StatusOf(err) != http.StatusForbidden:
			return append(found, failed(what, err))
		case v.Optional:
			found = append(found, Finding{ResultWarn, what, fmt.Sprintf(
				"the token may not view %s, which some pools, records and nodes need: grant view on it", v.ObjectType)})
		default:
			found = append(found, Finding{ResultFail, what, fmt.Sprintf("the token may not view %s: grant view on it", v.ObjectType)})
		}
	}
	if len(found) == 0 {
		return []Finding{{ResultOK, what, fmt.Sprintf("%d object types", seen)}}
	}
	return found
}

// checkWrites verifies that the token may write addresses at all; may is false if
// it certainly cannot, and then the fence is not worth looking at.
func (c *checker) checkWrites(ctx context.Context) (found []Finding, may bool) {
	const what = "write rights"
	if err := c.read(ctx, netbox.PathOf(addressesPath, noID), "looking for an id that is not in use", nil, nil); netbox.StatusOf(err) != http.StatusNotFound {
		return []Finding{{ResultSkip, what, fmt.Sprintf("not tried, because NetBox address %d must not exist for that: %v", noID, unexpectedSuccess(err))}}, true
	}
	var missing []string
	for _, probe := range []struct {
		action, method, path string
		body                 any
		fine                 int // what NetBox answers when the token may
	}{
		{"add", http.MethodPost, addressesPath, impossible, http.StatusBadRequest},
		{"change", http.MethodPatch, netbox.PathOf(addressesPath, noID), impossible, http.StatusNotFound},
		{"delete", http.MethodDelete, netbox.PathOf(addressesPath, noID), map[string]any{}, http.StatusNotFound},
	} {
		err := c.write(ctx, probe.method, probe.path, "trying whether the token may "+probe.action+" addresses", probe.body, nil)
		switch netbox.StatusOf(err) {
		case probe.fine:
		case http.StatusForbidden:
			missing = append(missing, probe.action)
		default:
			return []Finding{failed(what, fmt.Errorf("NetBox answers otherwise than expected: %w", unexpectedSuccess(err)))}, false
		}
	}
	if len(missing) > 0 {
		return []Finding{{ResultFail, what, fmt.Sprintf(
			"the token may not %s addresses: grant it on %s with the constraint %s, and let the token write (write enabled)",
			strings.Join(missing, ", "), schema.ObjectType, asJSON(c.constraint()))}}, false
	}
	return []Finding{{ResultOK, what, "add, change and delete on " + schema.ObjectType}}, true
}

// constraint is the filter to which the token's right to write must be bound.
func (c *checker) constraint() map[string]any {
	return map[string]any{schema.ClusterConstraint: c.want.Cluster}
}

// mayChange tries whether the token may change a record. NetBox hides a record that
// it may not change from the request, so 404 means no as well.
func (c *checker) mayChange(ctx context.Context, r address) (bool, error) {
	err := c.write(ctx, http.MethodPatch, netbox.PathOf(addressesPath, r.ID),
		fmt.Sprintf("trying whether the token may change NetBox address %d", r.ID), impossible, nil)
	switch netbox.StatusOf(err) {
	case http.StatusBadRequest:
		return true, nil
	case http.StatusNotFound, http.StatusForbidden:
		return false, nil
	}
	return false, unexpectedSuccess(err)
}

// checkFence verifies that NetBox keeps the token from records of others, and
// lets it have those of its own cluster. Without the fence a mistake in clusterName
// could delete the addresses of another cluster.
func (c *checker) checkFence(ctx context.Context) []Finding {
	return []Finding{c.checkPermissions(ctx), c.checkForeign(ctx), c.checkOwn(ctx)}
}

// checkForeign tries to change records of others. That is worth more than reading
// permissions: it is NetBox's own answer, whatever groups and constraints the user
// has, and it can be had without the right to see them.
func (c *checker) checkForeign(ctx context.Context) Finding {
	const what = "foreign records"
	samples, err := c.foreignSamples(ctx)
	if err != nil {
		return failed(what, err)
	}
	var tried []string
	for _, r := range samples {
		may, err := c.mayChange(ctx, r)
		if err != nil {
			return failed(what, err)
		}
		if may {
			return Finding{ResultFail, what, c.notFenced(r)}
		}
		tried = append(tried, fmt.Sprintf("NetBox address %d (%s) of %s", r.ID, r.addr(), ownerOf(r)))
	}
	if len(tried) == 0 {
		return Finding{ResultSkip, what, "not tried: NetBox has no address of another cluster, or without one, to try it on"}
	}
	return Finding{ResultOK, what, "the token may not change " + strings.Join(tried, ", ")}
}

// notFenced says that the token may change a record that is not its cluster's.
func (c *checker) notFenced(r address) string {
	if r.cluster() != "" {
		return fmt.Sprintf("the token may change NetBox address %d (%s) of cluster %s: it is that cluster's token, or one for all; put a token into netbox.tokenFile that is fenced by the constraint %s",
			r.ID, r.addr(), r.cluster(), asJSON(c.constraint()))
	}
	return fmt.Sprintf("the token may change NetBox address %d (%s), which is not this cluster's: put the constraint %s on the permission to add, change and delete %s",
		r.ID, r.addr(), asJSON(c.constraint()), schema.ObjectType)
}

// checkOwn tries whether the token may change a record of its cluster.
func (c *checker) checkOwn(ctx context.Context) Finding {
	const what = "own records"
	r, err := c.sample(ctx, url.Values{"cf_" + schema.FieldCluster: {c.want.Cluster}}, func(r address) bool { return r.cluster() == c.want.Cluster })
	if err != nil {
		return failed(what, err)
	}
	if r == nil {
		return Finding{ResultSkip, what, "not tried: NetBox has no address of this cluster yet"}
	}
	may, err := c.mayChange(ctx, *r)
	switch {
	case err != nil:
		return failed(what, err)
	case may:
		return Finding{ResultOK, what, fmt.Sprintf("the token may change NetBox address %d (%s)", r.ID, r.addr())}
	}
	return Finding{ResultFail, what, fmt.Sprintf(
		"the token may not change NetBox address %d (%s) of this cluster, %s: it is another cluster's token, or the constraint of its permission is not %s",
		r.ID, r.addr(), c.want.Cluster, asJSON(c.constraint()))}
}

// ownerOf names the cluster of a record.
func ownerOf(r address) string {
	if r.cluster() == "" {
		return "no cluster"
	}
	return "cluster " + r.cluster()
}

// maxForeign bounds on how many other clusters' records a token is tried: each
// costs a request.
const maxForeign = 20

// foreignSamples returns an address of each other cluster, and one of none. One of
// each is needed: the token may be that of one of them.
func (c *checker) foreignSamples(ctx context.Context) ([]address, error) {
	const cf = "cf_" + schema.FieldCluster
	var out []address
	known := []string{c.want.Cluster}
	for range maxForeign {
		r, err := c.sample(ctx, url.Values{cf + "__empty": {"false"}, cf + "__n": known},
			func(r address) bool { return r.cluster() != "" && !slices.Contains(known, r.cluster()) })
		if err != nil {
			return nil, err
		}
		if r == nil {
			break
		}
		out, known = append(out, *r), append(known, r.cluster())
	}
	// A reserved address may be the cluster's to take, see schema.Access.
	r, err := c.sample(ctx, url.Values{cf + "__empty": {"true"}, "status__n": {"reserved"}},
		func(r address) bool { return r.cluster() == "" && r.Status.Value != "reserved" })
	if r != nil {
		out = append(out, *r)
	}
	return out, err
}

// sample returns an address that fits, or nil. One page is enough: the filters
// leave out what does not fit, where NetBox knows them. The query narrows the list only:
// NetBox passes over filters of fields that it does not have.
func (c *checker) sample(ctx context.Context, query url.Values, fits func(address) bool) (*address, error) {
	query.Set("limit", "50")
	query.Set("ordering", "id")
	query.Set("fields", "id,address,status,custom_fields")
	var page netbox.Page[address]
	if err := c.read(ctx, addressesPath, "looking for addresses to try the token's rights on", query, &page); err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(page.Results, fits); i >= 0 {
		return &page.Results[i], nil
	}
	return nil, nil //nolint:nilnil // absence is an answer
}

// identity is the user that NetBox takes the token for, with the groups whose
// permissions are the user's too.
type identity struct {
	netbox.ObjectID
	Username string            `json:"username"`
	Groups   []netbox.ObjectID `json:"groups"`
}

// whoami asks for the user of the token; nil before NetBox 4.5, which has no such
// path.
func (c *checker) whoami(ctx context.Context) (*identity, error) {
	version, err := c.client.Version(ctx)
	if err != nil {
		return nil, err
	}
	if !netbox.ParseRelease(version).AtLeast(netbox.V2Tokens) {
		return nil, nil //nolint:nilnil // this NetBox cannot tell
	}
	var who identity
	err = c.read(ctx, "authentication-check/", "asking NetBox whose token it is", nil, &who)
	return &who, err
}

// grants are the constraints by action, as JSON, under which a user may write
// addresses, or noConstraint.
type grants map[string][]string

// grantsOf collects what a user may do to addresses, directly or by a group.
func grantsOf(who *identity, all []permissionObject) grants {
	out := grants{}
	for _, p := range all {
		mine := p.isFor(who.ID) || slices.ContainsFunc(who.Groups, func(g netbox.ObjectID) bool { return slices.Contains(p.Groups, g) })
		if !mine || !p.Enabled || !slices.Contains(p.ObjectTypes, schema.ObjectType) {
			continue
		}
		for _, action := range p.Actions {
			out[action] = append(out[action], constraintsOf(p.Constraints)...)
		}
	}
	return out
}

// checkPermissions reads the constraints of the user's permissions, if the
// token may see them: those that init makes can be seen. What NetBox really
// does is for the probes to tell, as far as it has records to try them on.
func (c *checker) checkPermissions(ctx context.Context) Finding {
	const what = "fence"
	who, err := c.whoami(ctx)
	if err != nil {
		return failed(what, err)
	}
	if who == nil {
		return Finding{ResultSkip, what, "NetBox before 4.5 does not tell whose token it is; the records below do"}
	}
	all, err := netbox.List(ctx, c.client, netbox.Request{Doing: "reading the token's permissions", Path: permissionsPath}, permissionObject.Key, nil)
	if netbox.StatusOf(err) == http.StatusForbidden {
		return Finding{ResultSkip, what, fmt.Sprintf(
			`not read: the token may not view its own permissions (%s with the constraint {"users":"$user"})`, schema.PermissionType)}
	}
	if err != nil {
		return failed(what, err)
	}
	result, detail := c.judgeGrants(who.Username, grantsOf(who, all))
	return Finding{result, what, detail}
}

// judgeGrants reports whether the constraints are those that init makes. A user with
// none at all is a superuser: NetBox asks no permission of those.
func (c *checker) judgeGrants(user string, granted grants) (Result, string) {
	own := asJSON(c.constraint())
	for _, action := range []string{"add", "change", "delete"} {
		list := granted[action]
		switch {
		case len(list) == 0:
			return ResultWarn, fmt.Sprintf("user %s may %s every address, as a superuser: use the token of a user of its own, as bm-ccm netbox init makes it", user, action)
		case slices.Contains(list, noConstraint):
			return ResultFail, fmt.Sprintf("user %s may %s every address: put the constraint %s on that permission", user, action, own)
		case !slices.Contains(list, own):
			return ResultFail, fmt.Sprintf("user %s may %s only addresses with %s: it is not a token for cluster %s, whose constraint is %s",
				user, action, strings.Join(list, " or "), c.want.Cluster, own)
		}
	}
	return ResultOK, fmt.Sprintf("user %s may add, change and delete addresses with %s", user, own)
}

// unexpectedSuccess makes an error of a success that must not be: NetBox has taken
// what it cannot have taken, so it is not as this package believes.
func unexpectedSuccess(err error) error {
	if err == nil {
		return errors.New("NetBox accepted what it must refuse")
	}
	return err
}
