// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Slots is the number of labs that can exist at a time on one machine.
const Slots = 16

// stateDir is one folder for all users of the machine: the locks in it guard
// the names of its namespaces. A test that makes no namespace changes it.
var stateDir = "/run/bm-ccm-lab"

// slot is a place for a lab: a folder, a prefix for the names of namespaces
// and a lock that the lab's living process holds.
type slot struct {
	n    int
	lock *os.File // nil when this process does not hold it
}

func (s *slot) dir() string    { return filepath.Join(stateDir, strconv.Itoa(s.n)) }
func (s *slot) prefix() string { return fmt.Sprintf("bmccm%d-", s.n) }

// errBusy says that another process holds a slot.
var errBusy = errors.New("the slot is in use")

// claim takes slot n.
func claim(n int) (*slot, error) {
	if n < 0 || n >= Slots {
		return nil, fmt.Errorf("slot %d: there are slots 0 to %d", n, Slots-1)
	}
	if err := os.MkdirAll(stateDir, 0o755); err != nil {
		return nil, fmt.Errorf("making the state folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(stateDir, fmt.Sprintf("%d.lock", n)), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the lock of slot %d: %w", n, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errBusy
		}
		return nil, errors.Join(fmt.Errorf("locking slot %d: %w", n, err), f.Close())
	}
	return &slot{n: n, lock: f}, nil
}

// release gives the slot back. The lock's file stays: removing it would let two
// processes hold two locks of one name.
func (s *slot) release() error {
	if s.lock == nil {
		return nil
	}
	err := s.lock.Close()
	s.lock = nil
	return err
}

// claimAny takes the wanted slot, or the first free one. It removes what
// crashed runs left in every slot that nobody holds.
func claimAny(wanted *int, say func(string, ...any)) (*slot, error) {
	var mine *slot
	for n := range Slots {
		s, err := claim(n)
		if errors.Is(err, errBusy) {
			if wanted != nil && *wanted == n {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := s.sweep(say); err != nil {
			return nil, errors.Join(err, s.release())
		}
		if mine == nil && (wanted == nil || *wanted == n) {
			mine = s
			continue
		}
		if err := s.release(); err != nil {
			return nil, fmt.Errorf("releasing slot %d: %w", n, err)
		}
	}
	if mine == nil {
		return nil, fmt.Errorf("all %d slots are in use: lab status shows them", Slots)
	}
	return mine, nil
}

// sweep removes a lab that is in the slot.
func (s *slot) sweep(say func(string, ...any)) error {
	names, err := netnsNames(s.prefix())
	if err != nil {
		return err
	}
	_, err = os.Stat(s.dir())
	if len(names) == 0 && errors.Is(err, os.ErrNotExist) {
		return nil
	}
	say("removing what a former run left in slot %d", s.n)
	return s.destroy()
}

// destroy ends every process of the slot's lab and removes its mounts, its
// namespaces and its folder. It can be repeated.
func (s *slot) destroy() error {
	if err := s.endProcesses(); err != nil {
		return err
	}
	names, err := netnsNames(s.prefix())
	if err != nil {
		return err
	}
	if err := unmountBelow(s.dir()); err != nil {
		return err
	}
	if err := deleteNetns(names); err != nil {
		return err
	}
	if err := os.RemoveAll(s.dir()); err != nil {
		return fmt.Errorf("removing the lab's folder: %w", err)
	}
	return nil
}

// endProcesses kills what was recorded, and everything in the lab's
// namespaces: nothing gets in there but through the lab.
func (s *slot) endProcesses() error {
	if err := endAll(s.living); err != nil {
		return fmt.Errorf("slot %d: %w", s.n, err)
	}
	return nil
}

// endAll kills processes until the list of them is empty: one may be forking
// while it is listed.
func endAll(list func() ([]process, error)) error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		left, err := list()
		if err != nil || len(left) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d processes do not end, the first is %s (pid %d)", len(left), left[0].Name, left[0].PID)
		}
		for _, p := range left {
			if err := p.killOne(); err != nil {
				return err
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// living lists the lab's processes.
func (s *slot) living() ([]process, error) {
	records, err := readRecords(s.dir())
	if err != nil {
		return nil, err
	}
	names, err := netnsNames(s.prefix())
	if err != nil {
		return nil, err
	}
	out, err := membersOf(names)
	if err != nil {
		return nil, err
	}
	for _, p := range records {
		if p.alive() {
			out = append(out, p)
		}
	}
	return out, nil
}

func (p process) killOne() error {
	if !p.alive() {
		return nil
	}
	if err := unix.Kill(p.PID, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("ending %s (pid %d): %w", p.Name, p.PID, err)
	}
	return nil
}

// unmountBelow unmounts everything in dir, the deepest first.
func unmountBelow(dir string) error {
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("listing mounts: %w", err)
	}
	for _, line := range slices.Backward(strings.Split(string(raw), "\n")) {
		f := strings.Fields(line)
		if len(f) < 5 || !strings.HasPrefix(f[4], dir+"/") {
			continue
		}
		if err := unix.Unmount(f[4], unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmounting %s: %w", f[4], err)
		}
	}
	return nil
}
