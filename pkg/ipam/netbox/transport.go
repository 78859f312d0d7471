// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxBody bounds what is read of an answer. A page of 1000 addresses has about
// 2 MB with all its fields.
const maxBody = 32 << 20

// exchange is what is ours of a request, and its answer.
type exchange struct {
	// doing is what an error says was being done.
	doing string
	// query is added to what go-netbox asks.
	query url.Values
	// body replaces what go-netbox sends, unless nil.
	body []byte
	// ifMatch is the ETag that the object must still have; may be empty.
	ifMatch string

	status     int
	header     http.Header
	answer     []byte
	etag       string
	location   string
	retryAfter time.Duration
	// err says why there is no answer, or not all of it.
	err error
}

type exchangeKey struct{}

func (x *exchange) html() bool {
	return bytes.HasPrefix(bytes.TrimSpace(x.answer), []byte("<"))
}

// detail is NetBox's own word on an error, with a colon before it.
func (x *exchange) detail() string {
	text := strings.Join(strings.Fields(string(x.answer)), " ")
	if text == "" || x.html() {
		return ""
	}
	const limit = 300
	if len(text) > limit {
		text = text[:limit] + "..."
	}
	return ": " + text
}

// transport puts into a request what go-netbox cannot express, and keeps the
// answer from its strict models.
type transport struct {
	next  http.RoundTripper
	token *tokenFile
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	x, ok := req.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		return nil, errors.New("a request to NetBox that did not come from Client.do")
	}
	err := t.exchange(req, x)
	if err != nil {
		x.err = err
		return nil, err
	}
	return &http.Response{
		StatusCode: x.status, Status: strconv.Itoa(x.status) + " " + http.StatusText(x.status), Header: x.header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: http.NoBody, Request: req,
	}, nil
}

// exchange sends a request and reads the answer. When NetBox refuses the token
// and its file holds another one by now, it is sent once more with that one:
// what was refused was not done.
func (t *transport) exchange(req *http.Request, x *exchange) error {
	header, err := t.token.header()
	if err != nil {
		return err
	}
	for again := true; header != ""; again = false {
		resp, err := t.next.RoundTrip(prepare(req, x, header))
		if err != nil {
			return err
		}
		x.read(resp)
		if !again || !x.tokenRefused() {
			break
		}
		header = t.token.replaced(header)
	}
	return nil
}

// tokenRefused tells whether NetBox does not take the token at all.
func (x *exchange) tokenRefused() bool {
	if x.status != http.StatusForbidden && x.status != http.StatusUnauthorized {
		return false
	}
	return bytes.Contains(x.answer, []byte("oken")) || bytes.Contains(x.answer, []byte("credentials"))
}

func prepare(req *http.Request, x *exchange, authorization string) *http.Request {
	out := req.Clone(req.Context())
	query := out.URL.Query()
	maps.Copy(query, x.query)
	out.URL.RawQuery = query.Encode()
	out.Header.Set("Authorization", authorization)
	out.Header.Set("Accept", "application/json")
	// Labels and errors are translated otherwise.
	out.Header.Set("Accept-Language", "en-US")
	if x.ifMatch != "" {
		out.Header.Set("If-Match", x.ifMatch)
	}
	if x.body != nil {
		// A bytes.Reader gives the request a Content-Length. A chunked body
		// reaches a NetBox behind bare gunicorn as an empty one.
		out.Header.Set("Content-Type", "application/json")
		out.ContentLength = int64(len(x.body))
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(x.body)), nil }
		out.Body = io.NopCloser(bytes.NewReader(x.body))
	}
	return out
}

func (x *exchange) read(resp *http.Response) {
	defer resp.Body.Close()
	x.status, x.header = resp.StatusCode, resp.Header
	x.etag, x.location = resp.Header.Get("ETag"), resp.Header.Get("Location")
	x.retryAfter = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	x.answer, x.err = io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if len(x.answer) > maxBody {
		x.err = fmt.Errorf("the answer has more than %d MiB", maxBody>>20)
	}
	if x.err != nil {
		x.err = fmt.Errorf("reading the answer: %w", x.err)
	}
}

// retryAfter reads the header of that name (RFC 9110 section 10.2.3).
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(value); err == nil && seconds > 0 {
		return time.Duration(min(seconds, 3600)) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil && at.After(now) {
		return min(at.Sub(now), time.Hour)
	}
	return 0
}
