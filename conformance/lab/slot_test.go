// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"os"
	"os/exec"
	"testing"
)

// TestClaim lets one holder have a slot at a time.
func TestClaim(t *testing.T) {
	usual := stateDir
	stateDir = t.TempDir()
	t.Cleanup(func() { stateDir = usual })
	first, err := claim(3)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := claim(3); !errors.Is(err, errBusy) {
		t.Errorf("second claim: %v, want %v", err, errBusy)
	}
	if other, err := claim(4); err != nil || other.prefix() != "bmccm4-" {
		t.Errorf("another slot: %v, %v", other, err)
	}
	if err := first.release(); err != nil {
		t.Fatal(err)
	}
	if _, err := claim(3); err != nil {
		t.Errorf("claim after release: %v", err)
	}
	for _, n := range []int{-1, Slots} {
		if _, err := claim(n); err == nil {
			t.Errorf("slot %d was given", n)
		}
	}
}

// TestKillSparesOthers does not end a process that only has the pid of one
// that was recorded.
func TestKillSparesOthers(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	live := process{Name: "sleep", PID: cmd.Process.Pid, Start: startTime(cmd.Process.Pid)}
	if !live.alive() {
		t.Fatal("a process that was just started is not alive")
	}
	stale := live
	stale.Start += "0"
	if err := stale.killOne(); err != nil || !live.alive() {
		t.Fatalf("a process with another start time was ended (%v)", err)
	}
	if err := live.killOne(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("sleep ended well although it was killed")
	}
	if live.alive() {
		t.Error("a process that was waited for is alive")
	}
	if startTime(os.Getpid()) == "" {
		t.Error("no start time of this process")
	}
}
