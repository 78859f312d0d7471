// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process identifies a process for good: a pid is used again, a pid with its
// start time is not.
type process struct {
	Name  string `json:"name"`
	PID   int    `json:"pid"`
	Start string `json:"start"` // clock ticks since boot, as in /proc/PID/stat
	Boot  string `json:"boot"`  // the boot that Start counts from
	// Quit is the signal that ends it soon, with all that it started.
	Quit syscall.Signal `json:"quit"`
}

// identify describes a running process; its Start is empty if there is none.
func identify(name string, pid int) process {
	return process{Name: name, PID: pid, Start: startTime(pid), Boot: bootID(), Quit: syscall.SIGTERM}
}

// startTime is field 22 of /proc/PID/stat; empty if there is no such process,
// or if it has ended and only its parent has not looked yet.
func startTime(pid int) string {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	stat := string(raw)
	// The second field is in brackets and may hold anything.
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return ""
	}
	return f[19]
}

func bootID() string {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "" // then all processes count as of one boot
	}
	return strings.TrimSpace(string(raw))
}

func (p process) alive() bool {
	return p.Start != "" && startTime(p.PID) == p.Start && p.Boot == bootID()
}

// signal goes to the process alone, or to all of its group.
func (p process) signal(sig syscall.Signal, group bool) error {
	if !p.alive() {
		return nil
	}
	pid := p.PID
	if group {
		pid = -pid
	}
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("sending %s to %s (pid %d): %w", sig, p.Name, p.PID, err)
	}
	return nil
}

// gracePeriod is how long a process may take to end before it is killed.
const gracePeriod = 8 * time.Second

// end stops the process and waits until it is gone.
func (p process) end() error {
	// A kill gives it no time to end what it started.
	if err := p.signal(p.Quit, p.Quit == syscall.SIGKILL); err != nil {
		return err
	}
	if p.goneWithin(gracePeriod) {
		return nil
	}
	if err := p.signal(syscall.SIGKILL, true); err != nil {
		return err
	}
	if !p.goneWithin(gracePeriod) {
		return fmt.Errorf("%s (pid %d) does not end, not even killed", p.Name, p.PID)
	}
	return nil
}

func (p process) goneWithin(d time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	for p.alive() {
		if pause(ctx, 10*time.Millisecond) != nil {
			return !p.alive()
		}
	}
	return true
}
