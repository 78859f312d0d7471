// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox/schema"
)

// answerError is a definite refusal by NetBox: nothing was changed. To callers
// outside it is an *ipam.ConfigError.
type answerError struct {
	doing  string
	status int
	// token tells that NetBox does not take the token at all.
	token  bool
	body   []byte
	config *ipam.ConfigError
}

func (e *answerError) Error() string { return e.config.Error() }
func (e *answerError) Unwrap() error { return e.config }

// refusal explains an answer with a 4xx status.
func refusal(x *exchange) error {
	e := &answerError{doing: x.doing, status: x.status, token: x.tokenRefused(), body: x.answer}
	problem := fmt.Sprintf("%s: NetBox answers %d%s", x.doing, x.status, x.detail())
	switch {
	case x.status != http.StatusForbidden && x.status != http.StatusUnauthorized:
	case x.tokenRefused():
		problem = fmt.Sprintf("%s: NetBox does not accept the token%s: put a valid one into netbox.tokenFile", x.doing, x.detail())
	default:
		problem = fmt.Sprintf("%s: the NetBox token lacks the permission%s: grant it, with a constraint on custom field %s if it is fenced (bm-ccm netbox check tells more)",
			x.doing, x.detail(), schema.FieldCluster)
	}
	e.config = &ipam.ConfigError{Problem: problem}
	return e
}

// setUpError says that NetBox itself is not set up for claims (any longer), so
// that Check has to look again. To callers outside it is an *ipam.ConfigError.
type setUpError struct{ ipam.ConfigError }

func (e *setUpError) Unwrap() error { return &e.ConfigError }

// status returns the HTTP status of a definite refusal, 0 for other errors.
func status(err error) int {
	var e *answerError
	if errors.As(err, &e) {
		return e.status
	}
	return 0
}

// itemErrors returns the errors of a list POST by item; ok is false if NetBox
// did not answer by item.
func itemErrors(err error, n int) (items []json.RawMessage, ok bool) {
	var e *answerError
	if !errors.As(err, &e) || json.Unmarshal(e.body, &items) != nil || len(items) != n {
		return nil, false
	}
	return items, true
}

func isGoodItem(item json.RawMessage) bool { return string(item) == "{}" || string(item) == "null" }

// bodySays tells whether NetBox's refusal holds a text.
func bodySays(err error, text string) bool {
	var e *answerError
	return errors.As(err, &e) && strings.Contains(string(e.body), text)
}

// definite tells whether NetBox certainly did not do what it was asked to.
func definite(err error) bool { return status(err) != 0 }

// errChanging says that a record was changed by others whenever it was to be
// deleted.
var errChanging = errors.New("somebody else keeps changing it in NetBox")

func forbiddenDelete(r record) error {
	return &ipam.ConfigError{Problem: fmt.Sprintf(
		"the NetBox token may not delete address %d (%s): grant delete on ipam.ipaddress, with a constraint on custom field %s if it is fenced", r.id, r.addr, schema.FieldCluster)}
}
