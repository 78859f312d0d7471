// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// maxBody bounds what is read of an answer. A page of 1000 addresses has about
// 2 MB with all its fields.
const maxBody = 32 << 20

// exchange is what is sent with a request beyond its address, and its answer.
type exchange struct {
	doing   string
	body    []byte // nil means none
	ifMatch string

	status     int
	answer     []byte
	etag       string
	location   string
	retryAfter time.Duration
}

// send sends a request and reads the answer. When NetBox refuses the token and
// its file holds another one by now, it is sent once more with that one: what
// was refused was not done.
//
// Nothing is followed on a redirect: it would turn a POST into a GET, which
// answers 200 and changes nothing.
func (c *Client) send(req *http.Request, x *exchange) error {
	header, err := c.token.header()
	if err != nil {
		return err
	}
	for again := true; header != ""; again = false {
		resp, err := c.transport.RoundTrip(x.prepare(req, header))
		if err != nil {
			return err
		}
		if err := x.read(resp); err != nil {
			return err
		}
		if !again || !tokenRefused(x.status, x.answer) {
			break
		}
		header = c.token.replaced(header)
	}
	return nil
}

// prepare returns the request with its headers and its body.
func (x *exchange) prepare(req *http.Request, authorization string) *http.Request {
	out := req.Clone(req.Context())
	out.Header.Set("User-Agent", "bm-ccm")
	out.Header.Set("Authorization", authorization)
	out.Header.Set("Accept", "application/json")
	// Labels and errors are translated otherwise.
	out.Header.Set("Accept-Language", "en-US")
	if x.ifMatch != "" {
		out.Header.Set("If-Match", x.ifMatch)
	}
	if x.body != nil {
		// The length must be given: a chunked body reaches a NetBox behind bare
		// gunicorn as an empty one.
		out.Header.Set("Content-Type", "application/json")
		out.ContentLength = int64(len(x.body))
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(x.body)), nil }
		out.Body = io.NopCloser(bytes.NewReader(x.body))
	}
	return out
}

func (x *exchange) read(resp *http.Response) error {
	defer resp.Body.Close()
	x.status = resp.StatusCode
	x.etag, x.location = resp.Header.Get("ETag"), resp.Header.Get("Location")
	x.retryAfter = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	switch {
	case err != nil:
		return fmt.Errorf("reading the answer: %w", err)
	case len(answer) > maxBody:
		return fmt.Errorf("reading the answer: the answer has more than %d MiB", maxBody>>20)
	}
	x.answer = answer
	return nil
}

// judge makes an error of what came of a request; err is why there is no
// answer, or not all of it.
func (c *Client) judge(x *exchange, err error) error {
	unavailable := func(format string, args ...any) error {
		return &UnavailableError{Doing: x.doing, Err: fmt.Errorf(format, args...), RetryAfter: x.retryAfter}
	}
	switch {
	case errors.As(err, new(*ConfigError)):
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return unavailable("NetBox at %s did not answer in time (%s): %w", c.url, c.timeout, context.DeadlineExceeded)
	case err != nil:
		return unavailable("NetBox at %s: %s%w", c.url, c.advice(err), err)
	case x.status >= 500 || x.status == http.StatusTooManyRequests:
		return unavailable("NetBox at %s answers %d%w", c.url, x.status, &statusError{x.status, detail(x.answer)})
	case x.status >= 300 && x.status < 400:
		return &ConfigError{Problem: fmt.Sprintf("%s: %s redirects to %s: correct netbox.url", x.doing, c.url, x.location)}
	case isHTML(x.answer):
		return &ConfigError{Problem: fmt.Sprintf("%s: %s answered HTML, not JSON: check netbox.url and what stands before NetBox", x.doing, c.url)}
	case x.status >= 400:
		return &AnswerError{Doing: x.doing, Status: x.status, Body: x.answer}
	default:
		return nil
	}
}

// longestRetryAfter bounds what NetBox, or a proxy before it, may ask for: a
// header with a mistake must not stop the controller for days.
const longestRetryAfter = time.Hour

// retryAfter reads the header of that name (RFC 9110 section 10.2.3): seconds,
// or a date. What is neither counts as absent.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(value); err == nil && seconds > 0 {
		return time.Duration(min(seconds, int(longestRetryAfter/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil && at.After(now) {
		return min(at.Sub(now), longestRetryAfter)
	}
	return 0
}
