// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"k8s.io/component-base/metrics/testutil"
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

// TestFailureReasons: each way in which a request fails has its own error and
// its own label in the metric.
func TestFailureReasons(t *testing.T) {
	tests := map[string]struct {
		status  int
		body    string
		header  map[string]string
		timeout time.Duration
		reason  string
		want    string
	}{
		"fine":           {status: 200, body: `{}`},
		"not JSON":       {status: 200, body: `[1`, reason: reasonDecode, want: "not understood"},
		"HTML":           {status: 200, body: `<html>`, reason: reasonConfig, want: "HTML"},
		"redirect":       {status: 302, header: map[string]string{"Location": "https://other/"}, reason: reasonConfig, want: "redirects to https://other/"},
		"bad token":      {status: 403, body: `{"detail":"Invalid v1 token"}`, reason: reasonToken, want: "does not accept the token"},
		"no right":       {status: 403, body: `{"detail":"You do not have permission to perform this action."}`, reason: reasonForbidden, want: "lacks the permission"},
		"refused":        {status: 400, body: `{"address":["no"]}`, reason: reasonRefused, want: `NetBox answers 400: {"address":["no"]}`},
		"too many":       {status: 429, header: map[string]string{"Retry-After": "7"}, reason: reasonRateLimited, want: "answers 429"},
		"broken":         {status: 502, body: `<html>`, reason: reasonServerError, want: "answers 502"},
		"slow":           {status: 0, timeout: 50 * time.Millisecond, reason: reasonTimeout, want: "did not answer in time (50ms)"},
		"long and in ö":  {status: 400, body: strings.Repeat("ö", 400), reason: reasonRefused, want: strings.Repeat("ö", 300) + "..."},
		"nobody listens": {status: -1, reason: reasonConnection, want: "nothing listens there"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			release := make(chan struct{})
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/api/ipam/vrfs/" || tt.status == 0 {
					<-release
					return
				}
				for k, v := range tt.header {
					w.Header().Set(k, v)
				}
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.body))
			}))
			defer srv.Close()
			defer close(release)
			c, err := NewClient(Options{URL: srv.URL, Token: "abc", Timeout: tt.timeout})
			if err != nil {
				t.Fatal(err)
			}
			if tt.status < 0 {
				c.url = "http://127.0.0.1:1"
			}
			before := counted(t, tt.reason)
			err = c.Do(t.Context(), Request{Doing: "asking", Path: "ipam/vrfs/"}, new(map[string]any))
			if tt.reason == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.HasPrefix(err.Error(), "asking: ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if n := counted(t, tt.reason) - before; n != 1 {
				t.Errorf("counted %v times as %s", n, tt.reason)
			}
		})
	}
}

// counted reads the metric of failures.
func counted(t *testing.T, reason string) float64 {
	t.Helper()
	if reason == "" {
		return 0
	}
	n, err := testutil.GetCounterMetricValue(requestFailures.WithLabelValues(reason))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestCallerGivesUp: it is told so, and NetBox is not blamed.
func TestCallerGivesUp(t *testing.T) {
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer srv.Close()
	defer close(release)
	c, err := NewClient(Options{URL: srv.URL, Token: "abc"})
	if err != nil {
		t.Fatal(err)
	}
	for range failuresToOpen + 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		err := c.Do(ctx, Request{Doing: "asking", Path: "status/"}, nil)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "circuit") {
			t.Errorf("got %v", err)
		}
	}
}
