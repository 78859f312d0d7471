// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox/provision"
	client "github.com/bm-ccm/bm-ccm/pkg/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/netboxtest"
)

// TestTokenReplacedMeanwhile: a token that NetBox refuses is read once more,
// also if its file looks the same as before, and what was asked is sent again
// once and no more.
func TestTokenReplacedMeanwhile(t *testing.T) {
	srv, target := startWithPool(t)
	a := newAllocator(t, target)
	eventually(t, func() error { return claiming("first", "")(t, a) })
	next := strings.Replace(fencedToken, "fenced", "denced", 1)
	if err := srv.AddToken(netboxtest.Token{User: "lab", Key: next}); err != nil {
		t.Fatal(err)
	}
	srv.RevokeToken(fencedToken)
	replaceUnseen(t, target.TokenFile, next)
	before := len(srv.Requests())
	if err := claiming("web", "")(t, a); err != nil {
		t.Error(err)
	}
	refused := 0
	for _, r := range srv.Requests()[before:] {
		if r.Status == http.StatusForbidden {
			refused++
		}
	}
	if refused > 1 {
		t.Errorf("%d requests were refused, want the first one alone", refused)
	}
	wantRecords(t, srv, map[string]string{"203.0.113.1": "first/ipv4", "203.0.113.2": "web/ipv4"})

	srv.RevokeToken(next)
	before = len(srv.Requests())
	if err := claiming("more", "")(t, a); !errors.As(err, new(*ipam.ConfigError)) || !strings.Contains(err.Error(), "netbox.tokenFile") {
		t.Errorf("got %v", err)
	}
	if n := len(srv.Requests()) - before; n > 1 {
		t.Errorf("%d requests with a token that is refused and not replaced, want 1", n)
	}
}

// replaceUnseen replaces a file's content by one of the same length and leaves
// its times.
func replaceUnseen(t *testing.T, file, content string) {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
}

// recorder is a transport that keeps what is sent.
type recorder struct {
	next http.RoundTripper
	seen []*http.Request
	body []string
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	var content []byte
	if req.Body != nil {
		content, _ = io.ReadAll(req.Body)
		req.Body = io.NopCloser(bytes.NewReader(content))
	}
	r.seen, r.body = append(r.seen, req), append(r.body, string(content))
	return r.next.RoundTrip(req)
}

// TestWireFormat holds every request to what all versions of NetBox need: a
// path that ends with a slash, and a body with its length.
func TestWireFormat(t *testing.T) {
	_, target := startWithPool(t)
	for _, suffix := range []string{"", "/", "//"} {
		wire := &recorder{next: http.DefaultTransport}
		c, err := client.NewClient(client.Options{URL: target.URL + suffix, TokenFile: target.TokenFile, Transport: wire})
		if err != nil {
			t.Fatal(err)
		}
		a := netbox.NewAllocator(c, "lab", "uid-1", netbox.Record{})
		if err := claiming("web", "203.0.113.40")(t, a); err != nil {
			t.Fatal(err)
		}
		if err := claiming("web", "203.0.113.41")(t, a); err != nil {
			t.Fatal(err)
		}
		provision.Check(t.Context(), c, a, provision.Wanted{Cluster: "lab", AddressPools: []ipam.Pool{pool}})
		if err := releasing("web")(t, a); err != nil {
			t.Fatal(err)
		}
		if len(wire.seen) < 20 {
			t.Errorf("only %d requests", len(wire.seen))
		}
		for i, req := range wire.seen {
			if !strings.HasSuffix(req.URL.Path, "/") || strings.Contains(req.URL.Path, "//") {
				t.Errorf("%s %s", req.Method, req.URL)
			}
			if body := wire.body[i]; req.ContentLength != int64(len(body)) || req.Method == http.MethodPost && body == "[]" {
				t.Errorf("%s %s: length %d of body %q", req.Method, req.URL, req.ContentLength, body)
			}
		}
	}
}

// TestURLWithPath: NetBox may live below a path (BASE_PATH).
func TestURLWithPath(t *testing.T) {
	srv, target := startWithPool(t)
	back, err := url.Parse(target.URL)
	if err != nil {
		t.Fatal(err)
	}
	wire := &recorder{next: http.DefaultTransport}
	below := roundTrip(func(req *http.Request) (*http.Response, error) {
		path, ok := strings.CutPrefix(req.URL.Path, "/netbox/api/")
		if !ok {
			return nil, errors.New("outside of /netbox/: " + req.URL.Path)
		}
		req = req.Clone(req.Context())
		req.URL.Host, req.URL.Scheme, req.URL.Path = back.Host, "http", "/api/"+path
		return wire.RoundTrip(req)
	})
	c, err := client.NewClient(client.Options{URL: "https://dcim.example.org/netbox/", TokenFile: target.TokenFile, Transport: below})
	if err != nil {
		t.Fatal(err)
	}
	if err := claiming("web", "")(t, netbox.NewAllocator(c, "lab", "uid-1", netbox.Record{})); err != nil {
		t.Error(err)
	}
	wantRecords(t, srv, map[string]string{"203.0.113.1": "web/ipv4"})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (r roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return r(req) }
