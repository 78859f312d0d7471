// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox/contracttest"
)

// TestReal is the real NetBox from start to stop. Its parts share one server,
// which takes seconds to start and, the first time on a machine, minutes.
func TestReal(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("BM_CCM_REQUIRE_ROOT") == "1" {
			t.Fatal("BM_CCM_REQUIRE_ROOT=1, and this is not root:", ErrNotRoot)
		}
		t.Skip("not root:", ErrNotRoot)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
	defer cancel()
	dir := t.TempDir()
	s, err := Start(ctx, Options{Dir: dir, Log: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	t.Run("web pages", func(t *testing.T) { checkWeb(t, s) })
	t.Run("seed", func(t *testing.T) { checkSeed(t, s.Target()) })
	t.Run("reset", func(t *testing.T) {
		if err := s.Reset(ctx); err != nil {
			t.Fatal(err)
		}
		checkSeed(t, s.Target()) // finds nothing of the former
	})
	t.Run("init and check", func(t *testing.T) { checkInit(t, s.Target()) })
	t.Run("contract", func(t *testing.T) { runContract(t, s) })
	t.Run("in use", func(t *testing.T) {
		if _, err := Start(ctx, Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), s.URL) {
			t.Errorf("starting in a folder in use: %v, want the URL of what runs there", err)
		}
	})
	t.Run("stop", func(t *testing.T) { checkStop(t, s) })
}

// runContract holds the real NetBox to what the allocator expects of it: the
// same body runs against the in-memory NetBox in pkg/ipam/netbox.
func runContract(t *testing.T, s *Server) {
	t.Helper()
	const cluster = "contract"
	seeded, err := Seed(t.Context(), s.Target(), Spec{Cluster: cluster})
	if err != nil {
		t.Fatal(err)
	}
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(seeded.Token), 0o600); err != nil {
		t.Fatal(err)
	}
	contracttest.Run(t, contracttest.Target{URL: s.URL, TokenFile: token, AdminToken: s.AdminToken, Cluster: cluster})
}

func checkWeb(t *testing.T, s *Server) {
	t.Helper()
	for _, path := range []string{"/login/", "/static/netbox.css"} {
		res, err := s.Client.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		if err := res.Body.Close(); err != nil || res.StatusCode != http.StatusOK {
			t.Errorf("%s: %s (%v)", path, res.Status, err)
		}
	}
}

func checkStop(t *testing.T, s *Server) {
	t.Helper()
	run := s.backend.state.Run
	if found := processesIn(t, run); len(found) < 5 {
		t.Fatalf("only %q run in %s: the check below would not see what is left", found, run)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	// The workers notice a moment later that their master is gone.
	deadline := time.Now().Add(10 * time.Second)
	left := processesIn(t, run)
	for ; len(left) > 0 && time.Now().Before(deadline); left = processesIn(t, run) {
		time.Sleep(50 * time.Millisecond)
	}
	if len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if _, err := os.Stat(run); err == nil {
		t.Errorf("%s is still there", run)
	}
}

// processesIn are the command lines of the processes that name a folder or are
// in it.
func processesIn(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, proc := range found {
		line, err := os.ReadFile(proc + "/cmdline")
		if err != nil {
			continue // it has ended
		}
		environ, _ := os.ReadFile(proc + "/environ")
		cwd, _ := os.Readlink(proc + "/cwd")
		if strings.Contains(string(line)+string(environ), dir) || strings.HasPrefix(cwd, dir) {
			out = append(out, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return out
}
