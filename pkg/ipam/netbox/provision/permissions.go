// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package provision

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/bm-ccm/bm-ccm/pkg/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/schema"
)

// usersPath is where the REST API lists users.
const usersPath = "users/users/"

// userObject is a user as NetBox has it.
type userObject struct {
	netbox.ObjectID
	Username string `json:"username"`
}

// initUser makes sure of the user that the token is for. Each cluster has its own,
// so that NetBox's changelog says which one has written what.
func (c api) initUser(ctx context.Context, want schema.User, printStep func(Step)) (int64, error) {
	what := "user " + want.Username
	found, err := netbox.FindOne(ctx, c.client, usersPath, what, url.Values{"username": {want.Username}},
		func(u userObject) bool { return u.Username == want.Username })
	if err != nil {
		return 0, err
	}
	if found != nil {
		printStep(existed(what, nil))
		return found.ID, nil
	}
	// Nobody logs in with the password, which is forgotten here; NetBox insists on
	// one, with letters of both cases and a digit.
	body := map[string]any{"username": want.Username, "password": "aA1" + rand.Text() + rand.Text()}
	var made userObject
	if err := c.write(ctx, http.MethodPost, usersPath, "creating "+what, body, &made); err != nil {
		return 0, err
	}
	printStep(Step{StepCreated, what, ""})
	return made.ID, nil
}

// permissionObject is a permission as NetBox has it. Constraints are an object, a
// list of objects, or null.
type permissionObject struct {
	netbox.ObjectID
	Name        string            `json:"name"`
	Enabled     bool              `json:"enabled"`
	ObjectTypes []string          `json:"object_types"`
	Actions     []string          `json:"actions"`
	Constraints any               `json:"constraints"`
	Users       []netbox.ObjectID `json:"users"`
	Groups      []netbox.ObjectID `json:"groups"`
}

// isFor reports whether the permission is granted to the user directly. Init
// does not look at groups: who is in them may change.
func (p permissionObject) isFor(user int64) bool {
	return slices.Contains(p.Users, netbox.ObjectID{ID: user})
}

// permissionsPath is where the REST API lists permissions.
const permissionsPath = "users/permissions/"

// initPermission creates a permission, or adds to it what the user lacks.
func (c api) initPermission(ctx context.Context, want schema.Permission, user int64, printStep func(Step)) error {
	what := fmt.Sprintf("permission %q", want.Name)
	found, err := netbox.FindOne(ctx, c.client, permissionsPath, what, url.Values{"name": {want.Name}},
		func(p permissionObject) bool { return p.Name == want.Name })
	if err != nil {
		return err
	}
	if found == nil {
		body := struct {
			schema.Permission
			Users []int64 `json:"users"`
		}{want, []int64{user}}
		if err := c.write(ctx, http.MethodPost, permissionsPath, "creating "+what, body, nil); err != nil {
			return err
		}
		printStep(Step{StepCreated, what, ""})
		return nil
	}
	if mismatch := permissionMismatch(want, *found); mismatch != "" {
		printStep(Step{StepWrong, what, mismatch})
		return nil
	}
	change, said := repairPermission(want, *found, user)
	if len(change) > 0 {
		if err := c.write(ctx, http.MethodPatch, netbox.PathOf(permissionsPath, found.ID), "changing "+what, change, nil); err != nil {
			return err
		}
	}
	printStep(existed(what, said))
	return nil
}

// permissionMismatch says what of a permission is not as init makes it, and not
// for init to change: to tighten it may break what others do with it, to loosen
// it nobody has agreed to.
func permissionMismatch(want schema.Permission, have permissionObject) string {
	wanted, there := constraintsOf(want.Constraints), constraintsOf(have.Constraints)
	same := len(missing(there, wanted)) == 0 && len(missing(wanted, there)) == 0
	switch {
	case !have.Enabled:
		return "it is disabled: enable it, or delete it and run this again"
	// A permission that grows has the constraints of other tenants too. Next to them
	// one that grants everything is not harmless.
	case !same && (!want.Grows || slices.Contains(there, noConstraint)):
		return fmt.Sprintf("its constraints are %s: make them %s, or delete the permission and run this again",
			asJSON(have.Constraints), asJSON(want.Constraints))
	}
	return ""
}

// noConstraint is what constraintsOf returns where there are none, which grants
// everything.
const noConstraint = "null"

// constraintsOf returns constraints one by one, as JSON. NetBox takes an object
// for a list of one.
func constraintsOf(constraints any) []string {
	raw := asJSON(constraints)
	var list []any
	if json.Unmarshal([]byte(raw), &list) != nil || len(list) == 0 {
		return []string{raw}
	}
	out := make([]string, len(list))
	for i, c := range list {
		out[i] = asJSON(c)
	}
	return out
}

// asJSON is a constraint as an administrator writes it; maps are sorted by key, so
// that equal ones are equal texts.
func asJSON(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(raw)
}

// missing returns what of wanted is not there, in its order.
func missing(there, wanted []string) []string {
	return slices.DeleteFunc(slices.Clone(wanted), func(s string) bool { return slices.Contains(there, s) })
}

// repairPermission returns what a permission lacks. Only ever is something added:
// what else it grants, and whom, an administrator has decided. NetBox replaces
// whole lists, so each change holds what was there too.
func repairPermission(want schema.Permission, have permissionObject, user int64) (change map[string]any, said []string) {
	change = map[string]any{}
	if types := union(have.ObjectTypes, want.ObjectTypes); len(types) > len(have.ObjectTypes) {
		change["object_types"] = types
		said = append(said, "is for "+strings.Join(types[len(have.ObjectTypes):], ", ")+" too")
	}
	if actions := union(have.Actions, want.Actions); len(actions) > len(have.Actions) {
		change["actions"] = actions
		said = append(said, "allows "+strings.Join(actions[len(have.Actions):], ", ")+" too")
	}
	if more := missing(constraintsOf(have.Constraints), constraintsOf(want.Constraints)); len(more) > 0 {
		var all []json.RawMessage
		for _, text := range append(constraintsOf(have.Constraints), more...) {
			all = append(all, json.RawMessage(text))
		}
		change["constraints"] = all
		said = append(said, "also for "+strings.Join(more, ", "))
	}
	if !have.isFor(user) {
		users := []int64{user}
		for _, u := range have.Users {
			users = append(users, u.ID)
		}
		change["users"] = users
		said = append(said, "is granted to the user")
	}
	return change, said
}
