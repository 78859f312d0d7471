// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestFlags(t *testing.T) {
	tests := []struct{ name, args, out, err string }{
		{"help", "--help", "Seed file", "help requested"},
		{"unknown flag", "--nope", "", "see --help"},
		{"argument", "serve", "", `unexpected argument "serve"`},
		{"certificate alone", "--tls-cert x", "", "go together"},
		{"bad version", "--version 3.0", "", "want 4.4, 4.5, 4.6 or 4.7"},
		{"no seed file", "--seed /nonexistent", "", "reading the seed"},
		{"bad address", "--listen 127.0.0.1:x", "", "listening"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			err := run(t.Context(), strings.Fields(tt.args), &out)
			if err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(out.String(), tt.out) {
				t.Errorf("error %v, output %q; want %q, %q", err, out.String(), tt.err, tt.out)
			}
		})
	}
}

// buffer is a writer that can be read meanwhile.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// The seed of the help text is served, and the end of the context ends the
// command with requests that hang.
func TestServeSeedOfHelp(t *testing.T) {
	_, text, _ := strings.Cut(usage, "all parts optional:\n\n")
	text, _, _ = strings.Cut(text, "\nFaults are")
	seed := filepath.Join(t.TempDir(), "seed.yaml")
	if err := os.WriteFile(seed, []byte(strings.ReplaceAll(text, "\n  ", "\n")[2:]), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var out buffer
	done := make(chan error, 1)
	go func() { done <- run(ctx, []string{"--listen", "127.0.0.1:0", "--seed", seed}, &out) }()
	url := readyURL(t, &out, done)
	get := func(path string) (status int) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer nbt_cluster10001.0123456789abcdef0123456789abcdef01234567")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	if got := get("/api/ipam/prefixes/1/"); got != http.StatusOK {
		t.Fatalf("status %d, want 200", got)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/_control/faults", strings.NewReader(`{"hangBeforeCommit":true}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	hung := make(chan int, 1)
	go func() { hung <- get("/api/status/") }()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("ended with %v", err)
	}
	if got := <-hung; got != 0 {
		t.Errorf("the hanging request was answered %d", got)
	}
}

// readyURL waits for the line that tells the URL.
func readyURL(t *testing.T, out *buffer, done <-chan error) string {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		if _, url, ok := strings.Cut(out.String(), "ready at "); ok && strings.HasSuffix(url, "\n") {
			return strings.TrimSpace(url)
		}
		select {
		case err := <-done:
			t.Fatalf("ended: %v", err)
		case <-deadline:
			t.Fatal("not ready in 10 s")
		case <-time.After(time.Millisecond):
		}
	}
}
