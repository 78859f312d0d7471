// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Target is a NetBox to seed, real or in memory.
type Target struct {
	// URL is its address, without /api.
	URL string
	// Token may add what is seeded: an administrator's.
	Token string
	// Client is nil for a plain one.
	Client *http.Client
}

// Do sends a request and decodes the answer into out; body and out may be nil.
// The path begins with /api/. A *StatusError tells that NetBox refused.
func (t Target) Do(ctx context.Context, method, path string, body, out any) error {
	return newREST(t).do(ctx, method, path, body, out)
}

// rest speaks NetBox's REST API.
type rest struct {
	base, token string
	client      *http.Client
}

func newREST(t Target) *rest {
	if t.Client == nil {
		t.Client = &http.Client{Timeout: time.Minute}
	}
	return &rest{base: strings.TrimRight(t.URL, "/"), token: t.Token, client: t.Client}
}

// StatusError is an answer of NetBox that is not a success.
type StatusError struct {
	Method, Path string
	Code         int
	Body         string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s %s: NetBox answered %d: %s", e.Method, e.Path, e.Code, e.Body)
}

// do sends a request and decodes the answer into out, if out is not nil.
func (r *rest) do(ctx context.Context, method, path string, body, out any) error {
	var raw []byte
	if body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return fmt.Errorf("%s %s: %w", method, path, err)
		}
	}
	// A bytes.Reader, since NetBox takes a chunked body for an empty one.
	req, err := http.NewRequestWithContext(ctx, method, r.base+path, bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	keyword := "Token "
	if strings.HasPrefix(r.token, "nbt_") {
		keyword = "Bearer "
	}
	req.Header.Set("Authorization", keyword+r.token)
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := r.client.Do(req)
	if err != nil {
		return fmt.Errorf("asking NetBox: %w", err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 64<<20))
	if err != nil {
		return fmt.Errorf("%s %s: reading the answer: %w", method, path, err)
	}
	if res.StatusCode/100 != 2 {
		return &StatusError{Method: method, Path: path, Code: res.StatusCode, Body: string(answer[:min(len(answer), 600)])}
	}
	if out == nil || len(answer) == 0 {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s %s: decoding the answer: %w", method, path, err)
	}
	return nil
}

// object is a record of NetBox.
type object map[string]any

func (o object) id() int64 {
	n, _ := o["id"].(float64)
	return int64(n)
}

func (o object) text(field string) string {
	s, _ := o[field].(string)
	return s
}

// nested is the id of a related object, 0 if there is none.
func (o object) nested(field string) int64 {
	m, _ := o[field].(map[string]any)
	return object(m).id()
}

// find returns the one object of a list that fits, or nil. Filters are hints
// only: NetBox ignores those that it does not know.
func (r *rest) find(ctx context.Context, path string, query url.Values, fits func(object) bool) (object, error) {
	query.Set("limit", "1000")
	var page struct {
		Results []object `json:"results"`
	}
	if err := r.do(ctx, http.MethodGet, path+"?"+query.Encode(), nil, &page); err != nil {
		return nil, err
	}
	var found object
	for _, o := range page.Results {
		if !fits(o) {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("%s?%s: NetBox has this twice, as %d and %d", path, query.Encode(), found.id(), o.id())
		}
		found = o
	}
	return found, nil
}

// ensure returns the object whose field has the value of body's, and adds it
// if it is not there.
func (r *rest) ensure(ctx context.Context, path, field string, body object) (object, error) {
	want := body.text(field)
	found, err := r.find(ctx, path, url.Values{field: {want}}, func(o object) bool { return o.text(field) == want })
	if found != nil || err != nil {
		return found, err
	}
	var made object
	err = r.do(ctx, http.MethodPost, path, body, &made)
	return made, err
}

// put makes fields of an object what they should be.
func (r *rest) put(ctx context.Context, path string, id int64, fields object) error {
	return r.do(ctx, http.MethodPatch, fmt.Sprintf("%s%d/", path, id), fields, nil)
}
