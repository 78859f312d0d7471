// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process identifies a process for good: a pid is used again, a pid with its
// start time is not.
type process struct {
	Name  string `json:"name"`
	PID   int    `json:"pid"`
	Start string `json:"start"` // clock ticks since boot, as in /proc/PID/stat
}

// startTime is field 22 of /proc/PID/stat; empty if there is no such process.
func startTime(pid int) string {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The second field is in brackets and may hold anything.
	f := strings.Fields(string(raw)[strings.LastIndexByte(string(raw), ')')+1:])
	if len(f) < 20 || f[0] == "Z" {
		return ""
	}
	return f[19]
}

func (p process) alive() bool { return p.Start != "" && startTime(p.PID) == p.Start }

// kill ends the process group, if it is still this process's.
func (p process) kill(sig syscall.Signal) error {
	if !p.alive() {
		return nil
	}
	if err := syscall.Kill(-p.PID, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("ending %s (pid %d): %w", p.Name, p.PID, err)
	}
	return nil
}

func allPIDs() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	var out []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			out = append(out, pid)
		}
	}
	return out, nil
}

// command is a daemon to start.
type command struct {
	name  string
	netns string // empty: the caller's
	argv  []string
	env   []string // in addition to the caller's
	files []*os.File
	tied  bool // dies with this process, however that ends
}

// Daemon is a running program of the lab.
type Daemon struct {
	process
	logPath string
	record  string
	done    chan struct{}
	err     error // why it ended; valid when done is closed
}

// parentThread is a thread that lasts as long as the process. The kernel kills
// tied daemons when the thread that started them ends, and Go's other threads
// may end earlier.
type parentThread chan func()

var parent = sync.OnceValue(func() parentThread {
	t := make(parentThread)
	go func() {
		runtime.LockOSThread()
		for f := range t {
			f()
		}
	}()
	return t
})

func (t parentThread) do(f func() error) error {
	result := make(chan error, 1)
	t <- func() { result <- f() }
	return <-result
}

// start starts a daemon in a session of its own, writes its output to dir/logs
// and records it in dir/procs so that a later run can end it.
func start(dir string, c command) (*Daemon, error) {
	d := &Daemon{
		process: process{Name: c.name},
		logPath: filepath.Join(dir, "logs", c.name+".log"),
		record:  recordFile(dir, c.name),
		done:    make(chan struct{}),
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(d.logPath), 0o755), os.MkdirAll(filepath.Dir(d.record), 0o755)); err != nil {
		return nil, fmt.Errorf("making folders for %s: %w", c.name, err)
	}
	log, err := os.OpenFile(d.logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", c.name, err)
	}
	defer log.Close()
	argv := inNetns(c.netns, c.argv)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log, log, c.files
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	begin := cmd.Start
	if c.tied {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
		begin = func() error { return parent().do(cmd.Start) }
	}
	if err := begin(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", c.name, err)
	}
	d.PID, d.Start = cmd.Process.Pid, startTime(cmd.Process.Pid)
	go func() {
		d.err = cmd.Wait()
		close(d.done)
	}()
	return d, d.save()
}

func (d *Daemon) save() error {
	raw, err := json.Marshal(d.process)
	if err != nil {
		return fmt.Errorf("encoding the record of %s: %w", d.Name, err)
	}
	if err := os.WriteFile(d.record, raw, 0o644); err != nil {
		return fmt.Errorf("recording %s: %w", d.Name, err)
	}
	return nil
}

// Log is the path of the file with the daemon's output.
func (d *Daemon) Log() string { return d.logPath }

// Stop ends the daemon: SIGTERM, and SIGKILL if it is still there when ctx
// ends.
func (d *Daemon) Stop(ctx context.Context) error {
	if err := d.kill(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-d.done:
	case <-ctx.Done():
		return d.Kill()
	}
	return d.forget()
}

// Kill ends the daemon at once, as a crash would.
func (d *Daemon) Kill() error {
	if err := d.kill(syscall.SIGKILL); err != nil {
		return err
	}
	<-d.done
	return d.forget()
}

func (d *Daemon) forget() error {
	if err := os.Remove(d.record); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing the record of %s: %w", d.Name, err)
	}
	return nil
}

// failed is nil while the daemon runs, else an error with the end of its log.
func (d *Daemon) failed() error {
	select {
	case <-d.done:
		if d.err == nil {
			return fmt.Errorf("%s ended by itself:\n%s", d.Name, d.tail())
		}
		return fmt.Errorf("%s ended: %w:\n%s", d.Name, d.err, d.tail())
	default:
		return nil
	}
}

// tail is the end of the daemon's log.
func (d *Daemon) tail() string {
	const lines = 15
	raw, err := os.ReadFile(d.logPath)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// until calls ready until it succeeds, every interval. It gives up when the
// daemon ends or ctx does, and says what ready said last.
func (d *Daemon) until(ctx context.Context, interval time.Duration, ready func(context.Context) error) error {
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		if ended := d.failed(); ended != nil {
			return ended
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w: %w\n%s", d.Name, ctx.Err(), err, d.tail())
		case <-time.After(interval):
		}
	}
}

// readRecords reads what start recorded.
func readRecords(dir string) ([]process, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "procs", "*.json"))
	if err != nil {
		return nil, fmt.Errorf("listing processes of %s: %w", dir, err)
	}
	var out []process
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("reading a process record: %w", err)
		}
		var p process
		if err := json.Unmarshal(raw, &p); err != nil {
			continue // half written by a run that crashed; its namespace still finds it
		}
		out = append(out, p)
	}
	return out, nil
}
