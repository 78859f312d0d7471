// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package labtest

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/bm-ccm/bm-ccm/conformance/lab"
)

// EnvRequireRoot names the environment variable that, set to 1, makes a test
// fail that would be skipped because this machine or user cannot have a lab.
const EnvRequireRoot = "BM_CCM_REQUIRE_ROOT"

// Require skips the test, or fails it (see EnvRequireRoot), when there can be
// no lab here, and says why.
func Require(t testing.TB) {
	t.Helper()
	err := lab.Preflight()
	switch {
	case err == nil:
	case os.Getenv(EnvRequireRoot) == "1":
		t.Fatalf("no lab: %v", err)
	default:
		t.Skipf("no lab: %v", err)
	}
}

// Start starts a lab that is removed when the test ends.
func Start(t testing.TB, opts lab.Options) *lab.Lab {
	t.Helper()
	Require(t)
	if opts.Log == nil {
		opts.Log = t.Output()
	}
	l, err := lab.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("removing the lab: %v", err)
		}
	})
	return l
}

// Eventually calls try until it succeeds, and fails the test with its last
// error after timeout.
func Eventually(t testing.TB, timeout time.Duration, try func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	for {
		err := try(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not within %v: %v", timeout, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
