// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package podsetup

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Run reads a Spec from SpecFD and becomes the container. It returns only if
// that failed; the caller then reports the error on FailFD and exits.
func Run() error {
	runtime.LockOSThread() // privileges belong to a thread until the exec
	unix.CloseOnExec(FailFD)
	f := os.NewFile(SpecFD, "spec")
	raw, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("reading the container's setup: %w", err)
	}
	var s Spec
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("decoding the container's setup: %w", err)
	}
	if err := s.becomeRoot(); err != nil {
		return err
	}
	if err := s.settle(); err != nil {
		return err
	}
	path, err := s.lookPath()
	if err != nil {
		return err
	}
	if err := s.dropPrivileges(); err != nil {
		return err
	}
	return fmt.Errorf("executing %s: %w", path, unix.Exec(path, s.Argv, s.Env))
}

// settle sets what is neither file system nor privilege.
func (s *Spec) settle() error {
	if err := unix.Sethostname([]byte(s.Hostname)); err != nil {
		return fmt.Errorf("setting the host name: %w", err)
	}
	for name, value := range s.Sysctls {
		path := "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
			return fmt.Errorf("setting sysctl %s: %w", name, err)
		}
	}
	if s.WorkingDir == "" {
		return os.Chdir("/")
	}
	if err := os.MkdirAll(s.WorkingDir, 0o755); err != nil {
		return fmt.Errorf("making the working directory: %w", err)
	}
	return os.Chdir(s.WorkingDir)
}

// lookPath finds the command as the container sees it.
func (s *Spec) lookPath() (string, error) {
	for _, e := range s.Env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			if err := os.Setenv("PATH", v); err != nil {
				return "", fmt.Errorf("setting PATH: %w", err)
			}
		}
	}
	path, err := exec.LookPath(s.Argv[0])
	if err != nil {
		return "", fmt.Errorf("finding the container's command: %w", err)
	}
	return filepath.Clean(path), nil
}

// dropPrivileges limits the bounding set before the exec, which then gives
// root what is left of it, and any other user nothing.
func (s *Spec) dropPrivileges() error {
	if s.Capabilities != nil {
		for n := uint8(0); n <= lastCap; n++ {
			if slices.Contains(s.Capabilities, n) {
				continue
			}
			err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(n), 0, 0, 0)
			if err != nil && !errors.Is(err, unix.EINVAL) { // a capability this kernel does not have
				return fmt.Errorf("dropping capability %d: %w", n, err)
			}
		}
	}
	groups := []int{int(s.Group)}
	for _, g := range s.Groups {
		groups = append(groups, int(g))
	}
	if err := errors.Join(syscall.Setgroups(groups), syscall.Setgid(int(s.Group)), syscall.Setuid(int(s.User))); err != nil {
		return fmt.Errorf("becoming user %d, group %d: %w", s.User, s.Group, err)
	}
	if s.NoNewPrivileges {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("giving up new privileges: %w", err)
		}
	}
	return nil
}
