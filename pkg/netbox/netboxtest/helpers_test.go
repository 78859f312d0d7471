// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/bm-ccm/bm-ccm/pkg/netbox/netboxtest"
)

// api is a client of a double.
type api struct {
	t     *testing.T
	srv   *netboxtest.Server
	url   string
	token string
}

// reply is what came back; data is the decoded body.
type reply struct {
	status int
	header http.Header
	text   string
	data   any
}

func start(t *testing.T, opts netboxtest.Options) *api {
	t.Helper()
	srv := netboxtest.New(opts)
	hs := httptest.NewServer(srv)
	t.Cleanup(func() {
		srv.ClearFaults()
		hs.Close()
	})
	return &api{t: t, srv: srv, url: hs.URL, token: "Token " + netboxtest.DefaultToken}
}

// as is the same client with another Authorization header.
func (a *api) as(authorization string) *api {
	b := *a
	b.token = authorization
	return &b
}

// try sends a request; body is encoded as JSON unless it is a reader or nil.
func (a *api) try(ctx context.Context, method, path string, body any, header ...string) (*reply, error) {
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case io.Reader:
		r = b
	default:
		j, err := json.Marshal(b)
		if err != nil {
			return nil, fmt.Errorf("encoding: %w", err)
		}
		r = bytes.NewReader(j)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.url+path, r)
	if err != nil {
		return nil, fmt.Errorf("making the request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	if a.token != "" {
		req.Header.Set("Authorization", a.token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	c := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := c.Do(req)
	if err != nil {
		return nil, fmt.Errorf("sending: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("reading: %w", err)
	}
	out := &reply{status: resp.StatusCode, header: resp.Header, text: string(text)}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		if err := json.Unmarshal(text, &out.data); err != nil {
			return nil, fmt.Errorf("decoding %q: %w", text, err)
		}
	}
	return out, nil
}

func (a *api) do(method, path string, body any, header ...string) *reply {
	a.t.Helper()
	r, err := a.try(a.t.Context(), method, path, body, header...)
	if err != nil {
		a.t.Fatalf("%s %s: %v", method, path, err)
	}
	return r
}

// want sends a request and fails the test if the status is another.
func (a *api) want(status int, method, path string, body any, header ...string) *reply {
	a.t.Helper()
	r := a.do(method, path, body, header...)
	if r.status != status {
		a.t.Fatalf("%s %s: status %d, want %d: %s", method, path, r.status, status, r.text)
	}
	return r
}

// create makes an object and returns its id.
func (a *api) create(path string, body any) int64 {
	a.t.Helper()
	return a.want(http.StatusCreated, "POST", path, body).id()
}

func (a *api) get(path string) *reply {
	a.t.Helper()
	return a.want(http.StatusOK, "GET", path, nil)
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

type obj = map[string]any

func (r *reply) obj() obj { m, _ := r.data.(obj); return m }
func (r *reply) list() []any {
	if l, ok := r.data.([]any); ok {
		return l
	}
	l, _ := r.obj()["results"].([]any)
	return l
}
func (r *reply) id() int64 { return int64(r.obj()["id"].(float64)) }

// field collects one field of every row of a list, as text.
func (r *reply) field(name string) string {
	out := []string{}
	for _, e := range r.list() {
		out = append(out, fmt.Sprint(e.(obj)[name]))
	}
	return strings.Join(out, " ")
}

// wantBody fails the test if a body is not, as JSON, what is wanted.
func (a *api) wantBody(r *reply, want string) {
	a.t.Helper()
	var w any
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		a.t.Fatalf("the wanted body %s: %v", want, err)
	}
	got, _ := json.Marshal(r.data)
	wanted, _ := json.Marshal(w)
	if string(got) != string(wanted) {
		a.t.Errorf("body %s, want %s", got, wanted)
	}
}

// claimOpts is a NetBox with the claim fields and a prefix, whose id is 1.
func claimOpts(version, cidr string) netboxtest.Options {
	return netboxtest.Options{Version: version, Seed: &netboxtest.Seed{
		ClaimFields: true, Prefixes: []netboxtest.SeedPrefix{{Prefix: cidr}},
	}}
}

const claims = "/api/ipam/prefixes/1/available-ips/"

func claimOf(key string) obj {
	cluster, _, _ := strings.Cut(key, "/")
	return obj{"prefix_length": 32, "custom_fields": obj{"k8s_lb_claim": key, "k8s_cluster": cluster}}
}
