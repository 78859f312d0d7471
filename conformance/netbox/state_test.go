// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// sleeper starts a process that somebody else's state names.
func sleeper(t *testing.T) process {
	t.Helper()
	cmd := exec.Command("sleep", "300")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	return identify("sleep", cmd.Process.Pid)
}

func writeState(t *testing.T, dir string, change func(*state)) *state {
	t.Helper()
	st := &state{Run: filepath.Join(dir, "run"), path: statePath(dir)}
	change(st)
	if err := os.MkdirAll(st.Run, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := st.save(); err != nil {
		t.Fatal(err)
	}
	return st
}

func TestClearEndsACrashedRun(t *testing.T) {
	dir, p := t.TempDir(), sleeper(t)
	st := writeState(t, dir, func(st *state) { st.Processes = []process{p} })
	if err := sweepState(dir, newProgress(io.Discard)); err != nil {
		t.Fatal(err)
	}
	if p.alive() {
		t.Error("a process of the crashed run is still there")
	}
	for _, path := range []string{st.Run, st.path} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is still there", path)
		}
	}
}

func TestClearSparesAProcessThatOnlyHasThePID(t *testing.T) {
	dir, p := t.TempDir(), sleeper(t)
	for name, other := range map[string]process{
		"another start": {Name: "x", PID: p.PID, Start: "1", Boot: p.Boot, Quit: syscall.SIGKILL},
		"another boot":  {Name: "x", PID: p.PID, Start: p.Start, Boot: "before", Quit: syscall.SIGKILL},
	} {
		writeState(t, dir, func(st *state) { st.Processes = []process{other} })
		if err := sweepState(dir, newProgress(io.Discard)); err != nil {
			t.Fatal(err)
		}
		if time.Sleep(20 * time.Millisecond); !p.alive() {
			t.Fatalf("%s: a foreign process was ended", name)
		}
	}
}

func TestClearRefusesARunInUse(t *testing.T) {
	p := sleeper(t)
	for name, change := range map[string]func(*state){
		"its owner lives": func(st *state) { st.Owner = identify("owner", os.Getpid()) },
		"detached":        func(st *state) { st.Detached = true },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeState(t, dir, func(st *state) { st.Processes = []process{p}; change(st) })
			if err := sweepState(dir, newProgress(io.Discard)); !errors.Is(err, ErrRunning) {
				t.Errorf("error %v, want %v", err, ErrRunning)
			}
			if !p.alive() {
				t.Error("the server in use was ended")
			}
		})
	}
}
