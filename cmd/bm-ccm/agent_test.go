// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"net/http"
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
		if resp, err := http.Get("http://" + addr); err == nil {
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
