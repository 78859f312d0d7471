// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox/schema"
)

// The outcomes of a step.
const (
	StepCreated = "created"
	StepExists  = "exists"
	StepChanged = "changed"
	// StepWrong is what a human must set right.
	StepWrong = "WRONG"
)

// Step is one thing that Init made sure of.
type Step struct {
	// Outcome is one of the Step constants.
	Outcome string
	// What names the object.
	What string
	// Detail says what was changed, or what is wrong and how to set it right.
	Detail string
}

// Init puts a plan into NetBox with an administrator's token, and tells each
// step. What exists is never weakened: a permission that grants more than it
// should, or a custom field of another type, is told as StepWrong and stays.
// It returns the id of the user; a plan without one has custom fields alone.
func (c *Client) Init(ctx context.Context, plan schema.Plan, tell func(Step)) (user int64, err error) {
	defer func() { err = needsAdministrator(err) }()
	for _, want := range plan.CustomFields {
		if err := c.initField(ctx, want, tell); err != nil {
			return 0, err
		}
	}
	if plan.User.Username == "" {
		return 0, nil
	}
	if user, err = c.initUser(ctx, plan.User, tell); err != nil {
		return 0, err
	}
	for _, want := range plan.Permissions {
		if err := c.initPermission(ctx, want, user, tell); err != nil {
			return 0, err
		}
	}
	return user, nil
}

// needsAdministrator says so of a right that the token has not.
func needsAdministrator(err error) error {
	var e *answerError
	if !errors.As(err, &e) || e.status != http.StatusForbidden || e.token {
		return err
	}
	return &ipam.ConfigError{Problem: e.doing + ": the token has not the right to: take an administrator's, or one that may view, add and change custom fields, users and permissions, and add and grant tokens"}
}

const customFieldsPath = "extras/custom-fields/"

func (c *Client) initField(ctx context.Context, want schema.Field, tell func(Step)) error {
	what := "custom field " + want.Name
	found, err := one(ctx, c, customFieldsPath, what, url.Values{"name": {want.Name}}, func(f fieldObject) bool { return f.Name == want.Name })
	if err != nil {
		return err
	}
	if found == nil {
		if err := c.write(ctx, http.MethodPost, customFieldsPath, "creating "+what, want, nil); err != nil {
			return err
		}
		tell(Step{StepCreated, what, ""})
		return nil
	}
	change, said := repairField(want, *found)
	if change["unique"] == true {
		twice, err := c.twice(ctx, want.Name)
		if err != nil {
			return err
		}
		if twice != "" {
			tell(Step{StepWrong, what, fmt.Sprintf("it is not unique, and cannot become so while %s: clear it on all but one, then run this again", twice)})
			return nil
		}
	}
	if len(change) > 0 {
		path := fmt.Sprintf("%s%d/", customFieldsPath, found.ID)
		if err := c.write(ctx, http.MethodPatch, path, "changing "+what, change, nil); err != nil {
			return err
		}
	}
	if problem := stubborn(*found); problem != "" {
		tell(Step{StepWrong, what, problem})
		return nil
	}
	tell(existed(what, said))
	return nil
}

func existed(what string, changes []string) Step {
	if len(changes) == 0 {
		return Step{StepExists, what, ""}
	}
	return Step{StepChanged, what, strings.Join(changes, ", ")}
}

// repairField returns what can be changed of a custom field without harm, and
// says so.
func repairField(want schema.Field, have fieldObject) (change map[string]any, said []string) {
	change = map[string]any{}
	if have.Type.Value != want.Type {
		return change, nil // nothing of it is ours
	}
	if have.FilterLogic.Value != want.FilterLogic {
		change["filter_logic"] = want.FilterLogic
		said = append(said, fmt.Sprintf("filter logic is %s, was %s", want.FilterLogic, have.FilterLogic.Value))
	}
	if types := union(have.ObjectTypes, want.ObjectTypes); len(types) > len(have.ObjectTypes) {
		change["object_types"] = types
		said = append(said, "is for "+schema.ObjectType+" too")
	}
	if want.Unique && !have.Unique {
		change["unique"] = true
		said = append(said, "is unique")
	}
	return change, said
}

// stubborn says what of a custom field only its administrator may change.
func stubborn(have fieldObject) string {
	switch {
	case have.Type.Value != "text":
		return wrongType(have)
	case have.Required:
		return requiredField(have)
	}
	return ""
}

func union(a, b []string) []string {
	out := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// twice names two addresses with one value of a custom field; empty if each
// value stands on one.
func (c *Client) twice(ctx context.Context, field string) (string, error) {
	type holder struct {
		anID
		Address      string         `json:"address"`
		CustomFields map[string]any `json:"custom_fields"`
	}
	all, err := listAll[holder](ctx, c, "ipam/ip-addresses/", "reading the values of "+field+" in NetBox",
		url.Values{"cf_" + field + "__empty": {"false"}, "fields": {"id,address,custom_fields"}})
	if err != nil {
		return "", err
	}
	seen := map[string]holder{}
	for _, h := range all {
		value, _ := h.CustomFields[field].(string)
		if other, ok := seen[value]; ok && value != "" {
			return fmt.Sprintf("NetBox addresses %d (%s) and %d (%s) both hold %q", other.ID, other.Address, h.ID, h.Address, value), nil
		}
		seen[value] = h
	}
	return "", nil
}

// anID is what every object has.
type anID struct {
	ID int64 `json:"id"`
}

func (i anID) key() int64 { return i.ID }

type userObject struct {
	anID
	Username string `json:"username"`
}

func (c *Client) initUser(ctx context.Context, want schema.User, tell func(Step)) (int64, error) {
	what := "user " + want.Username
	found, err := one(ctx, c, "users/users/", what, url.Values{"username": {want.Username}},
		func(u userObject) bool { return u.Username == want.Username })
	if err != nil {
		return 0, err
	}
	if found != nil {
		tell(existed(what, nil))
		return found.ID, nil
	}
	// Nobody logs in with the password; NetBox wants letters and a digit.
	body := map[string]any{"username": want.Username, "password": "aA1" + rand.Text() + rand.Text()}
	var made userObject
	if err := c.write(ctx, http.MethodPost, "users/users/", "creating "+what, body, &made); err != nil {
		return 0, err
	}
	tell(Step{StepCreated, what, ""})
	return made.ID, nil
}

// permissionObject is a permission as NetBox has it.
type permissionObject struct {
	anID
	Name        string   `json:"name"`
	Enabled     bool     `json:"enabled"`
	ObjectTypes []string `json:"object_types"`
	Actions     []string `json:"actions"`
	Constraints any      `json:"constraints"`
	Users       []anID   `json:"users"`
	Groups      []anID   `json:"groups"`
}

func (p permissionObject) isFor(user int64) bool { return slices.Contains(p.Users, anID{user}) }

const permissionsPath = "users/permissions/"

func (c *Client) initPermission(ctx context.Context, want schema.Permission, user int64, tell func(Step)) error {
	what := fmt.Sprintf("permission %q", want.Name)
	found, err := one(ctx, c, permissionsPath, what, url.Values{"name": {want.Name}},
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
		tell(Step{StepCreated, what, ""})
		return nil
	}
	if problem := strangePermission(want, *found); problem != "" {
		tell(Step{StepWrong, what, problem})
		return nil
	}
	change, said := repairPermission(want, *found, user)
	if len(change) > 0 {
		path := fmt.Sprintf("%s%d/", permissionsPath, found.ID)
		if err := c.write(ctx, http.MethodPatch, path, "changing "+what, change, nil); err != nil {
			return err
		}
	}
	tell(existed(what, said))
	return nil
}

// strangePermission says what of a permission is not as init makes it, and not
// for init to change.
func strangePermission(want schema.Permission, have permissionObject) string {
	wanted, there := constraintsOf(want.Constraints), constraintsOf(have.Constraints)
	same := len(lacking(there, wanted)) == 0 && len(lacking(wanted, there)) == 0
	switch {
	case !have.Enabled:
		return "it is disabled: enable it, or delete it and run this again"
	case !same && (!want.Grows || slices.Contains(there, noConstraint)):
		return fmt.Sprintf("its constraints are %s: make them %s, or delete the permission and run this again",
			asJSON(have.Constraints), asJSON(want.Constraints))
	}
	return ""
}

// noConstraint is what constraintsOf returns where there are none.
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

func asJSON(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(raw)
}

// lacking returns what of wanted is not there.
func lacking(there, wanted []string) []string {
	return slices.DeleteFunc(slices.Clone(wanted), func(s string) bool { return slices.Contains(there, s) })
}

// repairPermission returns what a permission lacks.
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
	if missing := lacking(constraintsOf(have.Constraints), constraintsOf(want.Constraints)); len(missing) > 0 {
		var all []json.RawMessage
		for _, text := range append(constraintsOf(have.Constraints), missing...) {
			all = append(all, json.RawMessage(text))
		}
		change["constraints"] = all
		said = append(said, "also for "+strings.Join(missing, ", "))
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
