// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestAgentFlagErrors(t *testing.T) {
	tests := []struct {
		name string
		env  string
		args []string
		want []string
	}{
		{"no name", "", nil, []string{"--node-name", "NODE_NAME"}},
		{"several mistakes in one line", "", []string{"--metrics-address=9617", "--kube-proxy-health=localhost:10256"},
			[]string{"--node-name", `--metrics-address "9617" is not host:port`, `--kube-proxy-health "localhost:10256" is not an http URL`}},
		{"unknown flag", "a", []string{"--frobnicate"}, []string{"unknown flag: --frobnicate"}},
		{"arguments", "a", []string{"b"}, []string{"unknown command"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(nodeNameEnv, tt.env)
			cmd := newAgentCommand()
			var out strings.Builder
			cmd.SetOut(&out)
			cmd.SetErr(&out)
			cmd.SetArgs(tt.args)
			err := cmd.ExecuteContext(context.Background())
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error %q does not say %q", err, w)
				}
			}
			if strings.Contains(err.Error(), "\n") || out.Len() > 0 {
				t.Errorf("more than one line: %q and %q", err, out.String())
			}
		})
	}
}

// Whatever is in the flags, mistakes are one line that names the flag, and what
// is accepted can be listened on and asked.
func FuzzAgentFlags(f *testing.F) {
	f.Add("127.0.0.1:9617", "http://127.0.0.1:10256/healthz")
	f.Add("9617", "localhost:10256")
	f.Add("", "")
	f.Add("a\nb", "http://a\nb")
	f.Add("[::1", "https://[::1")
	f.Fuzz(func(t *testing.T, metrics, proxy string) {
		o := &agentOptions{nodeName: "a", metricsAddr: metrics, proxyHealth: proxy}
		err := o.validate()
		if err == nil {
			if u, err := url.Parse(proxy); err != nil || proxy != "" && u.Host == "" {
				t.Errorf("--kube-proxy-health %q is accepted", proxy)
			}
			return
		}
		if text := err.Error(); strings.ContainsAny(text, "\r\n") || !strings.Contains(text, "--") {
			t.Errorf("%q, %q: %q", metrics, proxy, text)
		}
	})
}

func TestAgentNameFromEnvironment(t *testing.T) {
	t.Setenv(nodeNameEnv, "from-env")
	for want, args := range map[string][]string{"from-env": nil, "from-flag": {"--node-name=from-flag"}} {
		cmd := newAgentCommand()
		if err := cmd.ParseFlags(args); err != nil {
			t.Fatal(err)
		}
		if got := cmd.Flag("node-name").Value.String(); got != want {
			t.Errorf("node name %q, want %q", got, want)
		}
	}
}

func TestServeEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	const addr = "127.0.0.1:39617"
	go func() {
		done <- serve(ctx, addr, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "here") }))
	}()
	body := ""
	for deadline := time.Now().Add(5 * time.Second); body == "" && time.Now().Before(deadline); {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			b, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			body = string(b)
		}
	}
	if body != "here" {
		t.Errorf("served %q", body)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestServeTakenAddress(t *testing.T) {
	err := serve(context.Background(), "192.0.2.1:1", nil)
	if err == nil || !strings.Contains(err.Error(), "--metrics-address") {
		t.Errorf("error %v does not name the flag", err)
	}
}
