// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
)

const (
	suite         = "trixie" // Debian 13: Python 3.13, PostgreSQL 17, Redis 8
	defaultMirror = "http://deb.debian.org/debian"
)

// chroot is a Debian 13 in a folder of the cache. Nothing is mounted in it, so
// that it can be removed like any folder.
func chroot(ctx context.Context, base string, p *progress) (*machine, error) {
	root := filepath.Join(base, "netbox-debian-"+suite)
	unlock, err := lockFile(ctx, root+".lock", func() { p.printf("another run makes %s, waiting", root) })
	if err != nil {
		return nil, err
	}
	defer unlock()
	if _, err := os.Stat(filepath.Join(root, "complete")); err != nil {
		if err := makeChroot(ctx, root, p); err != nil {
			return nil, err
		}
	}
	m := &machine{root: root}
	cmd := m.command(ctx, "/usr/bin/python3", "-c", askPython)
	if m.python, err = inspectPython(cmd); err != nil {
		return nil, fmt.Errorf("in %s: %w", root, err)
	}
	return m, m.locate()
}

func makeChroot(ctx context.Context, root string, p *progress) error {
	if err := os.RemoveAll(root); err != nil { // half made, or not there
		return fmt.Errorf("removing a half-made Debian: %w", err)
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return fmt.Errorf("making a Debian: %w", err)
	}
	if _, err := exec.LookPath("debootstrap"); err != nil {
		if err := new(machine).aptInstall(ctx, p, []string{"debootstrap"}); err != nil {
			return err
		}
	}
	p.printf("making a Debian %s in %s: 2 to 4 minutes", suite, root)
	if err := run(exec.CommandContext(ctx, "debootstrap", debootstrapArgs(root, hostMirror(os.DirFS("/")))...)); err != nil {
		return fmt.Errorf("making a Debian: %w", err)
	}
	m := &machine{root: root, python: python{version: "3.13", system: true}}
	if err := copyNetworkFiles(root); err != nil {
		return err
	}
	if err := m.locate(); err != nil {
		return err
	}
	if err := m.aptInstall(ctx, p, append(m.missing(), "ca-certificates")); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, "complete"), nil, 0o644)
}

func debootstrapArgs(root, mirror string) []string {
	return []string{"--variant=minbase", "--include=python3,ca-certificates", suite, root, mirror}
}

var mirrorPattern = regexp.MustCompile(`(?m)^(?:URIs:|deb(?: \[[^\]]*\])?) +(https?://\S+/debian)/?(?: |$)`)

// hostMirror is where the machine has its Debian packages from.
func hostMirror(root fs.FS) string {
	for _, pattern := range []string{"etc/apt/sources.list", "etc/apt/sources.list.d/*"} {
		names, _ := fs.Glob(root, pattern) // the patterns are well-formed
		for _, name := range names {
			raw, err := fs.ReadFile(root, name)
			if err != nil {
				continue // a source that cannot be read is no source
			}
			if m := mirrorPattern.FindSubmatch(raw); m != nil {
				return string(m[1])
			}
		}
	}
	return defaultMirror
}

// copyNetworkFiles makes names, certificates and apt's proxies those of the
// machine.
func copyNetworkFiles(root string) error {
	paths := []string{"/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt"}
	for _, pattern := range []string{"/etc/apt/apt.conf", "/etc/apt/apt.conf.d/*proxy*"} {
		found, _ := filepath.Glob(pattern) // the patterns are well-formed
		paths = append(paths, found...)
	}
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("copying into the Debian: %w", err)
		}
		if err := os.WriteFile(filepath.Join(root, path), raw, 0o644); err != nil {
			return fmt.Errorf("copying into the Debian: %w", err)
		}
	}
	return nil
}
