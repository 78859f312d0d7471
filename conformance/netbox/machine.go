// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// machine is where NetBox's programs are: this machine, or a Debian in a
// folder of it. Paths are as seen inside, unless they went through outside.
type machine struct {
	root     string // the folder of the Debian; empty for this machine
	python   python
	postgres string // folder of PostgreSQL's programs
	pgMajor  int
	redis    string // the server's program
	uid, gid uint32 // of PostgreSQL's user
}

func (m *machine) outside(path string) string { return filepath.Join(m.root, path) }

// key tells what a virtual environment and a data directory were made with.
func (m *machine) key() string { return fmt.Sprintf("py%s-pg%d", m.python.version, m.pgMajor) }

// command is a program of the machine, run by root.
func (m *machine) command(ctx context.Context, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = "/"
	cmd.Env = m.environ()
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: m.root}
	return cmd
}

// asPostgres makes PostgreSQL's user run the program: root may not.
func (m *machine) asPostgres(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: m.uid, Gid: m.gid}
	return cmd
}

// pg is a program of PostgreSQL, run by its user.
func (m *machine) pg(ctx context.Context, name string, args ...string) *exec.Cmd {
	return m.asPostgres(m.command(ctx, append([]string{filepath.Join(m.postgres, name)}, args...)...))
}

// environ is the caller's environment without what would lead Python, NetBox
// or PostgreSQL elsewhere.
func (m *machine) environ() []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		for _, prefix := range []string{"PYTHON", "PYENV", "VIRTUAL_ENV", "DJANGO", "NETBOX", "PG", "LC_", "GUNICORN"} {
			if strings.HasPrefix(name, prefix) {
				return true
			}
		}
		return m.root != "" && (name == "PATH" || name == "HOME" || name == "TMPDIR")
	})
	env = append(env, "LANG=C.UTF-8", "TZ=UTC")
	if m.root != "" {
		env = append(env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root")
	}
	return env
}

// run runs a command; an error has the end of what it wrote.
func run(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, tail(string(out), 15))
	}
	return nil
}

// tail is the last lines of a text.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// oldestPostgres is what NetBox 4.7 asks for.
const oldestPostgres = 15

// locate finds PostgreSQL and Redis. What is not there stays empty.
func (m *machine) locate() error {
	dirs, err := filepath.Glob(m.outside("/usr/lib/postgresql/*/bin/postgres"))
	if err != nil {
		return fmt.Errorf("looking for PostgreSQL: %w", err)
	}
	for _, dir := range dirs {
		version := filepath.Base(filepath.Dir(filepath.Dir(dir)))
		major, err := strconv.Atoi(version)
		if err == nil && major >= oldestPostgres && major > m.pgMajor {
			m.pgMajor, m.postgres = major, filepath.Join("/usr/lib/postgresql", version, "bin")
		}
	}
	// Debian's server program is in redis-tools under the name of the checker;
	// the package redis-server adds a service that is not wanted here.
	for _, path := range []string{"/usr/bin/redis-server", "/usr/local/bin/redis-server", "/usr/bin/redis-check-rdb"} {
		if _, err := os.Stat(m.outside(path)); err == nil {
			m.redis = path
			break
		}
	}
	return m.findUser()
}

// findUser reads the ids of the user postgres, which its package makes.
func (m *machine) findUser() error {
	raw, err := os.ReadFile(m.outside("/etc/passwd"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("looking for the user postgres: %w", err)
	}
	for line := range strings.Lines(string(raw)) {
		f := strings.Split(line, ":")
		if len(f) < 4 || f[0] != "postgres" {
			continue
		}
		uid, uidErr := strconv.ParseUint(f[2], 10, 32)
		gid, gidErr := strconv.ParseUint(f[3], 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return fmt.Errorf("reading the ids of the user postgres: %w", err)
		}
		m.uid, m.gid = uint32(uid), uint32(gid)
	}
	return nil
}

// findMachine takes this machine if its Python is new enough, or a Debian of
// its own, and installs what is missing.
func findMachine(ctx context.Context, base string, p *progress) (*machine, error) {
	if os.Getenv(EnvChroot) != "1" {
		py, err := findPython(ctx)
		if err == nil {
			m := &machine{python: py}
			return m, m.complete(ctx, p)
		}
		p.printf("%v", err)
	}
	return chroot(ctx, base, p)
}

// complete installs the packages that are missing.
func (m *machine) complete(ctx context.Context, p *progress) error {
	if err := m.locate(); err != nil {
		return err
	}
	missing := m.missing()
	if len(missing) == 0 {
		return nil
	}
	if err := m.aptInstall(ctx, p, missing); err != nil {
		return err
	}
	if err := m.locate(); err != nil {
		return err
	}
	if missing := m.missing(); len(missing) > 0 {
		return fmt.Errorf("installed, but of no use here (PostgreSQL %d or newer is needed): %s", oldestPostgres, strings.Join(missing, " "))
	}
	return nil
}
