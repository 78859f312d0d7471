// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bm-ccm/bm-ccm/conformance/netns"
)

// ipBatch runs lines of iproute2 in one process in namespace ns.
func ipBatch(ctx context.Context, ns string, lines ...string) error {
	cmd := exec.CommandContext(ctx, "ip", "-n", ns, "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip -batch in %s: %w: %s", ns, err, bytes.TrimSpace(out))
	}
	return nil
}

// addNetns makes a namespace with loopback up.
func addNetns(ctx context.Context, ns string, sysctls map[string]string) error {
	if out, err := exec.CommandContext(ctx, "ip", "netns", "add", ns).CombinedOutput(); err != nil {
		return fmt.Errorf("adding namespace %s: %w: %s", ns, err, bytes.TrimSpace(out))
	}
	if err := setSysctls(ns, sysctls); err != nil {
		return err
	}
	return ipBatch(ctx, ns, "link set lo up")
}

// setSysctls writes them in the namespace.
func setSysctls(ns string, sysctls map[string]string) error {
	return netns.Do(ns, func() error { return writeSysctls(sysctls) })
}

func writeSysctls(sysctls map[string]string) error {
	var errs []error
	for name, value := range sysctls {
		path := filepath.Join("/proc/sys", strings.ReplaceAll(name, ".", "/"))
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
			errs = append(errs, fmt.Errorf("setting sysctl %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// inNetns is argv run in the namespace.
func inNetns(ns string, argv []string) []string {
	if ns == "" {
		return argv
	}
	return append([]string{"nsenter", "--net=" + filepath.Join(netns.Dir, ns), "--"}, argv...)
}

// netnsNames lists the namespaces whose names begin with prefix.
func netnsNames(prefix string) ([]string, error) {
	entries, err := os.ReadDir(netns.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing namespaces: %w", err)
	}
	var out []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// deleteNetns removes namespaces, and with them their interfaces. A name that
// is left of a namespace that is gone is removed, too.
func deleteNetns(names []string) error {
	var errs []error
	for _, n := range names {
		path := filepath.Join(netns.Dir, n)
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmounting namespace %s: %w", n, err))
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("removing namespace %s: %w", n, err))
		}
	}
	return errors.Join(errs...)
}

// membersOf finds the processes in the namespaces.
func membersOf(names []string) ([]process, error) {
	inodes := map[string]bool{}
	for _, n := range names {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(netns.Dir, n), &st); err == nil {
			inodes[fmt.Sprintf("net:[%d]", st.Ino)] = true
		}
	}
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("reading the own namespace: %w", err)
	}
	delete(inodes, own) // a name whose mount is gone must not lead to ourselves
	pids, err := allPIDs()
	if err != nil {
		return nil, err
	}
	var out []process
	for _, pid := range pids {
		p := process{Name: "a process of the lab", PID: pid, Start: startTime(pid)}
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid)); err == nil && inodes[ns] && p.alive() {
			out = append(out, p)
		}
	}
	return out, nil
}
