// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestCAFileReplacesTheSystems: who names an authority wants no other.
func TestCAFileReplacesTheSystems(t *testing.T) {
	srv := httptest.NewTLSServer(nil)
	defer srv.Close()
	want := x509.NewCertPool()
	want.AddCert(srv.Certificate())
	got, err := trustedRoots(write(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}))))
	if err != nil || !got.Equal(want) {
		t.Errorf("trusted is more, or other, than the file has (%v)", err)
	}
	if got, err = trustedRoots(""); got != nil || err != nil {
		t.Errorf("without a file: %v, %v, want the system's", got, err)
	}
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

func FuzzRetryAfter(f *testing.F) {
	for _, value := range []string{"", "7", "-1", "1e9", "99999999999999999999", "Thu, 01 Jan 2026 00:00:30 GMT", "Thu, 01 Jan 9999 00:00:30 GMT"} {
		f.Add(value)
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, value string) {
		if got := retryAfter(value, now); got < 0 || got > longestRetryAfter {
			t.Errorf("%q: %s", value, got)
		}
	})
}

// FuzzJudge: whatever NetBox answers, an error is one of this package's, names
// what was being done, and is short and in one line.
func FuzzJudge(f *testing.F) {
	f.Add(200, []byte(`{}`))
	f.Add(200, []byte(`<html>`))
	f.Add(403, []byte(`{"detail":"Invalid v2 token"}`))
	f.Add(400, []byte(`[{},{"address":["\u00e4 must have a unique value"]}]`))
	f.Add(502, []byte("\xff\xfe\r\n"))
	f.Add(301, []byte(``))
	c := &Client{url: "http://netbox"}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		err := c.judge(&exchange{doing: "asking", status: status, answer: body}, nil)
		reason := failureReason(context.Background(), err)
		if (err == nil) != (reason == "") || err == nil && status >= 300 {
			t.Fatalf("%d %q: %v, counted as %q", status, body, err, reason)
		}
		if err == nil {
			return
		}
		known := errors.As(err, new(*AnswerError)) || errors.As(err, new(*ConfigError)) || errors.As(err, new(*UnavailableError))
		if !known || !strings.HasPrefix(err.Error(), "asking: ") || strings.Contains(err.Error(), "\n") || len(err.Error()) > 4*300+300 {
			t.Errorf("%d %q: %T %q", status, body, err, err)
		}
	})
}
