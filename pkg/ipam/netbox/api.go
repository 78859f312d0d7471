// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/schema"
)

// api is the way of every request of the claim protocol: here, and nowhere
// else, the errors of package netbox become those that ipam.Allocator promises.
// The requests themselves are in addresses.go and networks.go. Reads are checked
// again by who asks: NetBox ignores a filter that it does not know and returns
// everything.
type api struct{ client *netbox.Client }

// do sends one request; out, unless nil, receives the decoded body.
func (c api) do(ctx context.Context, r netbox.Request, out any) error {
	return translate(c.client.Do(ctx, r, out))
}

// list reads a list to its end, by ascending id.
func list[T any](ctx context.Context, c api, r netbox.Request, id func(T) int64, check func(T) error) ([]T, error) {
	all, err := netbox.List(ctx, c.client, r, id, check)
	return all, translate(err)
}

// version returns NetBox's version, for example "4.7.3".
func (c api) version(ctx context.Context) (string, error) {
	version, err := c.client.Version(ctx)
	return version, translate(err)
}

// check looks at what the protocol needs to find in NetBox.
func (c api) check(ctx context.Context) error { return translate(schema.Check(ctx, c.client)) }

// translate turns an error of package netbox into one of package ipam. Others,
// and nil, it returns as they are.
func translate(err error) error {
	var answer *netbox.AnswerError
	var away *netbox.UnavailableError
	var config *netbox.ConfigError
	switch {
	case errors.As(err, &answer):
		refused := &refusedError{ipam.ConfigError{Problem: answer.Error()}, answer}
		if answer.Forbidden() {
			// That the right is bound to a custom field is this protocol's, so the
			// client cannot say it.
			refused.Problem += fmt.Sprintf(", with a constraint on custom field %s if it is fenced (bm-ccm netbox check tells more)", schema.FieldCluster)
		}
		return refused
	case errors.As(err, &away):
		return &ipam.UnavailableError{Doing: away.Doing, Err: away.Err, RetryAfter: away.RetryAfter}
	case errors.As(err, &config):
		return &ipam.ConfigError{Problem: config.Problem}
	}
	return err
}

// refusedError is a definite refusal by NetBox: nothing was changed. Outside it
// is an *ipam.ConfigError; here, netbox.StatusOf and netbox.AnswerSays tell
// what NetBox answered.
type refusedError struct {
	ipam.ConfigError
	answer *netbox.AnswerError
}

// Unwrap returns both views of the refusal.
func (e *refusedError) Unwrap() []error { return []error{&e.ConfigError, e.answer} }

// setUpError says that NetBox itself is not set up for claims (any more), so
// that the next call has to check it again. Outside it is an *ipam.ConfigError.
type setUpError struct{ ipam.ConfigError }

// Unwrap returns the error as others know it.
func (e *setUpError) Unwrap() error { return &e.ConfigError }

// definite reports whether NetBox certainly did not do what it was asked to.
// After any other error it may have: the answer can be lost behind a commit.
func definite(err error) bool { return netbox.StatusOf(err) != 0 }

// What NetBox answers when a value or an address is taken already. It has no
// codes for these, and the sentences are those of NetBox 4.4 to 4.7 in English,
// which is what the client asks for.
const (
	textNotUnique   = "must have a unique value"
	textDuplicateIP = "Duplicate IP address"
)

// itemErrors returns the errors of a list POST by item; ok is false if NetBox
// did not answer by item.
func itemErrors(err error, n int) (items []json.RawMessage, ok bool) {
	var answer *netbox.AnswerError
	if !errors.As(err, &answer) || json.Unmarshal(answer.Body, &items) != nil || len(items) != n {
		return nil, false
	}
	return items, true
}

// isGoodItem reports whether NetBox found nothing wrong with an item of a list.
func isGoodItem(item json.RawMessage) bool { return string(item) == "{}" || string(item) == "null" }

// errChanging says that a record was changed by others whenever it was to be
// deleted.
var errChanging = errors.New("somebody else keeps changing it in NetBox")
