// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

func write(t *testing.T, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestNewClientNamesTheField(t *testing.T) {
	token := write(t, "secret\n")
	tests := map[string]struct {
		options Options
		want    string
	}{
		"no scheme":      {Options{URL: "netbox.example.org", TokenFile: token}, "netbox.url"},
		"no token file":  {Options{URL: "https://netbox.example.org", TokenFile: "/nowhere"}, "netbox.tokenFile"},
		"empty token":    {Options{URL: "https://netbox.example.org", TokenFile: write(t, "\n")}, "must hold one NetBox API token"},
		"two tokens":     {Options{URL: "https://netbox.example.org", TokenFile: write(t, "a\nb\n")}, "must hold one NetBox API token"},
		"no certificate": {Options{URL: "https://netbox.example.org", TokenFile: token, CAFile: write(t, "hello")}, "netbox.caFile"},
	}
	for name, tt := range tests {
		if _, err := NewClient(tt.options); !errors.As(err, new(*ipam.ConfigError)) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

// TestHeaders: how a token is sent depends on its form, and TLS trusts the CA file.
func TestHeaders(t *testing.T) {
	var got http.Header
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header
		_, _ = w.Write([]byte(`{"netbox-version":"4.7.3"}`))
	}))
	defer srv.Close()
	ca := write(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})))
	for token, want := range map[string]string{"abc": "Token abc", "nbt_abc.def": "Bearer nbt_abc.def"} {
		c, err := NewClient(Options{URL: srv.URL + "/", TokenFile: write(t, token), CAFile: ca})
		if err != nil {
			t.Fatal(err)
		}
		if v, err := c.version(t.Context()); err != nil || v != "4.7.3" {
			t.Fatalf("version %q, %v", v, err)
		}
		if got.Get("Authorization") != want || got.Get("Accept-Language") != "en-US" {
			t.Errorf("headers %v, want %s", got, want)
		}
	}
	c, err := NewClient(Options{URL: srv.URL, TokenFile: write(t, "abc")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.version(t.Context()); !errors.As(err, new(*ipam.UnavailableError)) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without the CA: %v", err)
	}
}

func TestVersions(t *testing.T) {
	for version, want := range map[string]string{
		"4.4.0": "", "4.7.3": "", "4.10.0-beta1": "", "5.0": "",
		"4.3.9": "too old", "3.7.8": "too old", "": "check netbox.url", "next": "check netbox.url",
	} {
		if got := checkVersion(version); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%q: got %q, want %q", version, got, want)
		}
	}
}

// TestRecordsOfOtherServers: what NetBox adds or leaves out is no error.
func TestRecordsOfOtherServers(t *testing.T) {
	tests := map[string]struct {
		json string
		want record
		ok   bool
	}{
		"site's own status, empty strings": {`{"id":7,"address":"192.0.2.1/24","display":"","status":{"value":"k8s","label":"K8s"},"vrf":{"id":3},"custom_fields":{"k8s_lb_claim":"a/b/c/ipv4","k8s_cluster":null,"other":{"value":1}}}`,
			record{id: 7, addr: netip.MustParseAddr("192.0.2.1"), vrf: 3, status: "k8s", claim: "a/b/c/ipv4"}, true},
		"few fields":       {`{"id":7,"address":"2001:db8::1/128"}`, record{id: 7, addr: netip.MustParseAddr("2001:db8::1")}, true},
		"large id":         {`{"id":5000000000,"address":"192.0.2.1/24"}`, record{id: 5000000000, addr: netip.MustParseAddr("192.0.2.1")}, true},
		"no id":            {`{"address":"192.0.2.1/24"}`, record{}, false},
		"no address":       {`{"id":7}`, record{}, false},
		"not an object":    {`[]`, record{}, false},
		"field of numbers": {`{"id":7,"address":"192.0.2.1/24","custom_fields":{"k8s_cluster":5}}`, record{id: 7, addr: netip.MustParseAddr("192.0.2.1")}, true},
	}
	for name, tt := range tests {
		var got record
		err := got.UnmarshalJSON([]byte(tt.json))
		if (err == nil) != tt.ok || got != tt.want {
			t.Errorf("%s: got %+v, %v; want %+v", name, got, err, tt.want)
		}
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"id":7,"address":"192.0.2.1/24","vrf":{"id":3},"custom_fields":{"k8s_lb_claim":"a/b/c/ipv4"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var r record
		if err := r.UnmarshalJSON(data); err == nil && (r.id <= 0 || !r.addr.IsValid()) {
			t.Errorf("%q became %+v", data, r)
		}
	})
}

func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		down := &ipam.UnavailableError{Doing: "asking", Err: errors.New("down")}
		for range failuresToClose {
			if err := g.admit("asking"); err != nil {
				t.Fatalf("closed too early: %v", err)
			}
			g.note(down)
		}
		for range 50 { // requests that were under way
			g.note(down)
		}
		if err := g.admit("asking"); !errors.As(err, new(*ipam.UnavailableError)) {
			t.Fatalf("open: %v", err)
		}
		time.Sleep(firstPause)
		if err := g.admit("asking"); err != nil {
			t.Errorf("one pause later: %v", err)
		}
		for range 20 {
			g.note(down)
			time.Sleep(longestPause)
			if err := g.admit("asking"); err != nil {
				t.Fatalf("closed for longer than %s: %v", longestPause, err)
			}
		}
		g.note(nil)
		g.note(down)
		if err := g.admit("asking"); err != nil {
			t.Errorf("closed by one failure after a success: %v", err)
		}
	})
}

func TestRetryAfterHeader(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "-1": 0, "soon": 0, "7": 7 * time.Second, "1000000": time.Hour,
		"Thu, 01 Jan 2026 00:00:30 GMT": 30 * time.Second, "Wed, 31 Dec 2025 00:00:30 GMT": 0,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q: got %s, want %s", value, got, want)
		}
	}
}
