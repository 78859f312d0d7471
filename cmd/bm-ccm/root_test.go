// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// run executes the root command and returns what it printed.
func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := newRootCommand()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	cmd.SilenceErrors = true
	err := cmd.Execute()
	return out.String(), err
}

func TestHelpNamesTheSubcommandsAndThePresets(t *testing.T) {
	out, err := run(t, "--help")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"agent", "version", "--cloud-config", "--concurrent-service-syncs int32", "(default 50)",
		"--kube-api-qps float32", "(default 1000)", "--leader-elect-resource-name string", `(default "bm-ccm")`,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("--help lacks %q", want)
		}
	}
	for _, gone := range []string{"webhook-secure-port"} {
		if strings.Contains(out, gone) {
			t.Errorf("--help offers %q, which does nothing here", gone)
		}
	}
}

func TestSubcommandHelpIsItsOwn(t *testing.T) {
	out, err := run(t, "agent", "--help")
	if err != nil || !strings.Contains(out, "--node-name") || strings.Contains(out, "--cloud-config") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestVersion(t *testing.T) {
	out, err := run(t, "version")
	if err != nil || !strings.HasPrefix(out, "bm-ccm "+version+" (commit ") {
		t.Errorf("%v %q", err, out)
	}
}

func TestUnknownFlagIsOneLine(t *testing.T) {
	out, err := run(t, "--nope")
	if err == nil || out != "" || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestLoadCloud(t *testing.T) {
	good := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(good, []byte("apiVersion: config.bm-ccm.io/v1alpha1\nkind: CloudConfig\nclusterName: c\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := loadCloud(good); err != nil || p.ProviderName() != "bm-ccm" {
		t.Errorf("%v %v", p, err)
	}
	for _, path := range []string{"", good + ".missing"} {
		if _, err := loadCloud(path); err == nil || !strings.Contains(err.Error(), "--cloud-config") {
			t.Errorf("%q: %v", path, err)
		}
	}
}
