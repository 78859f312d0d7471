// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
		if _, err := NewClient(tt.options); !errors.As(err, new(*ConfigError)) || !strings.Contains(err.Error(), tt.want) {
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
		if v, err := c.Version(t.Context()); err != nil || v != "4.7.3" {
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
	if _, err := c.Version(t.Context()); !errors.As(err, new(*UnavailableError)) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without the CA: %v", err)
	}
}
