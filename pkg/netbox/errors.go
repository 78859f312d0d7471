// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// UnavailableError says that NetBox could not be asked or did not answer. What
// was asked may have happened all the same.
type UnavailableError struct {
	// Doing is Request.Doing.
	Doing string
	Err   error
	// RetryAfter is how long NetBox asked to be left alone; 0 if it did not.
	RetryAfter time.Duration
}

func (e *UnavailableError) Error() string { return fmt.Sprintf("%s: %v", e.Doing, e.Err) }

// Unwrap returns what kept NetBox from answering.
func (e *UnavailableError) Unwrap() error { return e.Err }

// ConfigError says that somebody must correct the configuration, or what stands
// before NetBox, before it can work.
type ConfigError struct {
	// Problem is the whole sentence, with the fix.
	Problem string
}

func (e *ConfigError) Error() string { return e.Problem }

// AnswerError is a definite refusal by NetBox, an answer with a 4xx status:
// nothing was changed.
type AnswerError struct {
	// Doing is Request.Doing.
	Doing string
	// Status is the HTTP status.
	Status int
	// Body is the answer as NetBox gave it.
	Body []byte
}

// Error is a sentence, with the fix where there is only one.
func (e *AnswerError) Error() string {
	switch {
	case e.TokenRefused():
		return fmt.Sprintf("%s: NetBox does not accept the token%s: put a valid one into netbox.tokenFile", e.Doing, detail(e.Body))
	case e.Forbidden():
		return fmt.Sprintf("%s: the NetBox token lacks the permission%s: grant it", e.Doing, detail(e.Body))
	default:
		return fmt.Sprintf("%s: NetBox answers %d%s", e.Doing, e.Status, detail(e.Body))
	}
}

// TokenRefused reports whether NetBox does not take the token at all.
func (e *AnswerError) TokenRefused() bool { return tokenRefused(e.Status, e.Body) }

// Forbidden reports whether NetBox takes the token and does not let it do this.
func (e *AnswerError) Forbidden() bool { return unauthorized(e.Status) && !e.TokenRefused() }

// Says reports whether the answer holds a text. NetBox has no codes for what is
// wrong with a field, so its English sentences are all there is to go by.
func (e *AnswerError) Says(text string) bool { return bytes.Contains(e.Body, []byte(text)) }

// StatusOf returns the HTTP status of a definite refusal, 0 for other errors.
func StatusOf(err error) int {
	var e *AnswerError
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}

// AnswerSays reports whether an error is a refusal that holds a text.
func AnswerSays(err error, text string) bool {
	var e *AnswerError
	return errors.As(err, &e) && e.Says(text)
}

// unauthorized reports whether a status is about token or permission. NetBox
// answers 403 to both, what stands before it 401 too.
func unauthorized(status int) bool {
	return status == http.StatusForbidden || status == http.StatusUnauthorized
}

func tokenRefused(status int, body []byte) bool {
	return unauthorized(status) && (bytes.Contains(body, []byte("oken")) || bytes.Contains(body, []byte("credentials")))
}

// detail is NetBox's own word on an error, with a colon before it. It is cut
// off where an Event would be, and a page in HTML tells nobody anything.
func detail(body []byte) string {
	text := strings.Join(strings.Fields(string(body)), " ")
	if text == "" || isHTML(body) {
		return ""
	}
	const limit = 300 // characters
	if short := fmt.Sprintf("%.*s", limit, text); short != text {
		text = short + "..."
	}
	return ": " + text
}

// statusError is an answer that says that NetBox does not work.
type statusError struct {
	status int
	detail string
}

func (e *statusError) Error() string { return e.detail }

// decodeError is an answer that cannot be read.
type decodeError struct{ err error }

func (e *decodeError) Error() string { return e.err.Error() }
func (e *decodeError) Unwrap() error { return e.err }

// errCallerGaveUp tells the circuit breaker not to count a request.
var errCallerGaveUp = errors.New("the caller gave up")

// failureReason sorts an error for the metric, "" for a success.
func failureReason(ctx context.Context, err error) string {
	var answer *AnswerError
	var status *statusError
	switch {
	case err == nil:
		return ""
	case ctx.Err() != nil:
		return reasonCanceled
	case errors.As(err, &answer) && answer.TokenRefused():
		return reasonToken
	case errors.As(err, &answer) && answer.Forbidden():
		return reasonForbidden
	case errors.As(err, &answer):
		return reasonRefused
	case errors.As(err, new(*ConfigError)):
		return reasonConfig
	case errors.As(err, &status) && status.status == http.StatusTooManyRequests:
		return reasonRateLimited
	case errors.As(err, &status):
		return reasonServerError
	case errors.As(err, new(*decodeError)):
		return reasonDecode
	case errors.Is(err, context.DeadlineExceeded):
		return reasonTimeout
	default:
		return reasonConnection
	}
}
