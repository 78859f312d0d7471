// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package provision

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/bm-ccm/bm-ccm/pkg/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/schema"
)

// The outcomes of a step, as they are printed. Scripts may look for them.
const (
	StepCreated = "created"
	StepExists  = "exists"
	StepChanged = "changed"
	// StepWrong is what needs manual correction.
	StepWrong = "WRONG"
)

// Step is one thing that Init made sure of.
type Step struct {
	// Outcome is one of the Step constants.
	Outcome string
	// What names the object.
	What string
	// Detail says what was changed, or what is wrong and how to correct it.
	Detail string
}

// Init puts a plan into NetBox with an administrator's token, and prints each
// step. What exists is never weakened: a permission that grants more than it
// should, or a custom field of another type, is reported as StepWrong and stays.
// It returns the id of the user; a plan without one has custom fields alone.
//
// It can be run again at any time, after a failure in the middle too: each object
// is looked up by its name before it is created.
func Init(ctx context.Context, client *netbox.Client, plan schema.Plan, printStep func(Step)) (user int64, err error) {
	c := api{client}
	// In the order in which they depend on each other: constraints name fields, and
	// permissions their user.
	defer func() { err = needsAdministrator(err) }()
	for _, want := range plan.CustomFields {
		if err := c.initField(ctx, want, printStep); err != nil {
			return 0, err
		}
	}
	if plan.User.Username == "" {
		return 0, nil
	}
	if user, err = c.initUser(ctx, plan.User, printStep); err != nil {
		return 0, err
	}
	for _, want := range plan.Permissions {
		if err := c.initPermission(ctx, want, user, printStep); err != nil {
			return 0, err
		}
	}
	return user, nil
}

// needsAdministrator says so of a right that the token does not have: which
// permission to grant would help nobody who has the wrong token at hand.
func needsAdministrator(err error) error {
	var refused *netbox.AnswerError
	if !errors.As(err, &refused) || !refused.Forbidden() {
		return err
	}
	return &netbox.ConfigError{Problem: refused.Doing + ": the token lacks the right to: take an administrator's, or one that may view, add and change custom fields, users and permissions, and add and grant tokens"}
}

// initField creates a custom field, or changes what of it can be changed without
// harm. A field that was there before may hold values that others wrote: it is not
// made unique while two of them are equal, nor given another type.
func (c api) initField(ctx context.Context, want schema.Field, printStep func(Step)) error {
	what := "custom field " + want.Name
	found, err := netbox.FindOne(ctx, c.client, schema.FieldsPath, what, url.Values{"name": {want.Name}}, func(f schema.ExistingField) bool { return f.Name == want.Name })
	if err != nil {
		return err
	}
	if found == nil {
		if err := c.write(ctx, http.MethodPost, schema.FieldsPath, "creating "+what, want, nil); err != nil {
			return err
		}
		printStep(Step{StepCreated, what, ""})
		return nil
	}
	change, said := repairField(want, *found)
	// First, because a PATCH is all or nothing, and NetBox would refuse all of it.
	if change["unique"] == true {
		duplicate, err := c.firstDuplicate(ctx, want.Name)
		if err != nil {
			return err
		}
		if duplicate != "" {
			printStep(Step{StepWrong, what, fmt.Sprintf("it is not unique, and cannot become so while %s: clear it on all but one, then run this again", duplicate)})
			return nil
		}
	}
	if len(change) > 0 {
		if err := c.write(ctx, http.MethodPatch, netbox.PathOf(schema.FieldsPath, found.ID), "changing "+what, change, nil); err != nil {
			return err
		}
	}
	if mistake := found.ImmutableMismatch(); mistake != "" {
		printStep(Step{StepWrong, what, mistake})
		return nil
	}
	printStep(existed(what, said))
	return nil
}

// existed is the step of an object that was there already.
func existed(what string, changes []string) Step {
	if len(changes) == 0 {
		return Step{StepExists, what, ""}
	}
	return Step{StepChanged, what, strings.Join(changes, ", ")}
}

// repairField returns what can be changed of a custom field without harm, and
// says so. An exact filter finds less than a loose one, but only here is the field
// filtered by; a further object type takes nothing from the others.
func repairField(want schema.Field, have schema.ExistingField) (change map[string]any, said []string) {
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

// union adds to a what of b it lacks, in this order: a change must not reorder
// what an administrator wrote.
func union(a, b []string) []string {
	out := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// firstDuplicate names two addresses with one value of a custom field; empty if
// each value stands on one. NetBox would refuse to make the field unique, and
// not say why.
func (c api) firstDuplicate(ctx context.Context, field string) (string, error) {
	r := netbox.Request{Doing: "reading the values of " + field + " in NetBox", Path: addressesPath,
		Query: url.Values{"cf_" + field + "__empty": {"false"}, "fields": {"id,address,custom_fields"}}}
	all, err := netbox.List(ctx, c.client, r, address.Key, nil)
	if err != nil {
		return "", err
	}
	seen := map[string]address{}
	for _, a := range all {
		value := a.field(field)
		if other, ok := seen[value]; ok && value != "" {
			return fmt.Sprintf("NetBox addresses %d (%s) and %d (%s) both hold %q", other.ID, other.Address, a.ID, a.Address, value), nil
		}
		seen[value] = a
	}
	return "", nil
}
