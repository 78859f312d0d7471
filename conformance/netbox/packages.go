// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// missing are the Debian packages that have to be installed. Compilers are for
// psycopg's C part.
func (m *machine) missing() []string {
	var out []string
	need := func(pkg string, there bool) {
		if !there {
			out = append(out, pkg)
		}
	}
	exists := func(pattern string) bool {
		found, err := filepath.Glob(m.outside(pattern))
		return err == nil && len(found) > 0
	}
	need("postgresql", m.postgres != "" && m.uid != 0)
	need("redis-tools", m.redis != "" && exists("/usr/bin/redis-cli"))
	need("build-essential", exists("/usr/bin/gcc"))
	need("libpq-dev", exists("/usr/bin/pg_config") && exists("/usr/include/postgresql/libpq-fe.h"))
	if m.python.system {
		v := m.python.version
		need("python"+v+"-venv", exists("/usr/lib/python"+v+"/ensurepip/__init__.py"))
		need("python"+v+"-dev", exists("/usr/include/python"+v+"/Python.h"))
	}
	return out
}

// aptInstall installs packages without starting what they serve.
func (m *machine) aptInstall(ctx context.Context, p *progress, packages []string) error {
	line := "apt-get install --no-install-recommends " + strings.Join(packages, " ")
	if _, err := os.Stat(m.outside("/usr/bin/apt-get")); err != nil {
		return fmt.Errorf("NetBox needs Debian's packages or their like: %s", strings.Join(packages, " "))
	}
	p.printf("%s", line)
	undo, err := m.keepServicesDown()
	if err != nil {
		return err
	}
	args := append([]string{"apt-get", "install", "-y", "-q", "--no-install-recommends"}, packages...)
	for _, argv := range [][]string{{"apt-get", "update", "-q"}, args} {
		cmd := m.command(ctx, argv...)
		cmd.Env = append(cmd.Env, "DEBIAN_FRONTEND=noninteractive")
		if m.root != "" { // found by the caller's PATH, which may be another
			cmd.Path, cmd.Err = "/usr/bin/apt-get", nil
		}
		if err := run(cmd); err != nil {
			return errors.Join(fmt.Errorf("installing packages (by hand: %s): %w", line, err), undo())
		}
	}
	return undo()
}

// keepServicesDown makes Debian's packages neither start a service nor make a
// PostgreSQL cluster, until undo is called. What the machine has set up for
// that itself stays.
func (m *machine) keepServicesDown() (undo func() error, err error) {
	files := map[string]string{
		"/usr/sbin/policy-rc.d":                              "#!/bin/sh\nexit 101\n",
		"/etc/postgresql-common/createcluster.d/bm-ccm.conf": "create_main_cluster = false\n",
	}
	var made []string
	undo = func() error {
		var errs []error
		for _, path := range made {
			errs = append(errs, os.Remove(path))
		}
		return errors.Join(errs...)
	}
	for path, text := range files {
		path = m.outside(path)
		if _, err := os.Lstat(path); err == nil {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, errors.Join(fmt.Errorf("keeping services from starting: %w", err), undo())
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			return nil, errors.Join(fmt.Errorf("keeping services from starting: %w", err), undo())
		}
		made = append(made, path)
	}
	return undo, nil
}
