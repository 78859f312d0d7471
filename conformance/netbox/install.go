// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// The person who opens the web pages.
const (
	webUser     = "admin"
	webPassword = "admin"
)

// install is a NetBox that can be started: a virtual environment and a
// migrated database, in a folder of the cache.
type install struct {
	machine *machine
	version string
	dir     string // inside the machine
	secrets secrets
}

// secrets are made once for each install: the administrator's token is in the
// migrated database.
type secrets struct {
	SecretKey string `json:"secretKey"`
	Pepper    string `json:"pepper"`
	Key       string `json:"key"`
	Token     string `json:"token"`
}

func newSecrets() secrets {
	text := func(n int) string {
		s := ""
		for len(s) < n {
			s += rand.Text()
		}
		return s[:n]
	}
	return secrets{SecretKey: text(60), Pepper: text(60), Key: text(12), Token: text(40)}
}

// bearer is the administrator's token as sent.
func (s secrets) bearer() string { return "nbt_" + s.Key + "." + s.Token }

func (i *install) program(name string) string { return filepath.Join(i.dir, "venv", "bin", name) }

// file is a path of the install, outside.
func (i *install) file(name string) string { return i.machine.outside(filepath.Join(i.dir, name)) }

// prepare returns the install of a version. The first time it makes it, which
// takes minutes.
func prepare(ctx context.Context, version string, p *progress) (*install, error) {
	base, err := cacheBase()
	if err != nil {
		return nil, err
	}
	m, err := findMachine(ctx, base, p)
	if err != nil {
		return nil, err
	}
	i := &install{machine: m, version: version}
	name := "netbox-" + version + "-" + m.key()
	if i.dir = filepath.Join(base, name); m.root != "" {
		i.dir = filepath.Join("/var/cache", name)
	}
	unlock, err := lockFile(ctx, i.file("lock"), func() { p.printf("another run makes %s, waiting", i.file("")) })
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := i.makeVenv(ctx, p); err != nil {
		return nil, err
	}
	if err := i.makeTemplate(ctx, p); err != nil {
		return nil, err
	}
	return i, nil
}

// Markers of finished steps: a step without one is done again from the start.
const (
	venvMarker = "venv.complete"
	secretFile = "template.complete" // holds the secrets that go with the template
)

func (i *install) makeVenv(ctx context.Context, p *progress) error {
	if _, err := os.Stat(i.file(venvMarker)); err == nil {
		return nil
	}
	p.printf("installing NetBox %s from PyPI (Python %s): about a minute", i.version, i.machine.python.version)
	if err := os.RemoveAll(i.file("venv")); err != nil {
		return fmt.Errorf("removing a half-made virtual environment: %w", err)
	}
	pip := []string{i.program("pip"), "install", "-q", "--disable-pip-version-check", "netbox==" + i.version}
	if raw, err := files.ReadFile("constraints/netbox-" + i.version + ".txt"); err == nil {
		if err := os.WriteFile(i.file("constraints.txt"), raw, 0o644); err != nil {
			return fmt.Errorf("writing pip's constraints: %w", err)
		}
		pip = append(pip, "-c", filepath.Join(i.dir, "constraints.txt"))
	} else {
		p.printf("no pinned dependencies for NetBox %s: pip takes what fits today", i.version)
	}
	for _, argv := range [][]string{{i.machine.python.path, "-m", "venv", filepath.Join(i.dir, "venv")}, pip} {
		if err := run(i.machine.command(ctx, argv...)); err != nil {
			return fmt.Errorf("installing NetBox %s: %w", i.version, err)
		}
	}
	p.printf("NetBox %s is installed", i.version)
	return os.WriteFile(i.file(venvMarker), nil, 0o644)
}

// makeTemplate makes a data folder of PostgreSQL with the migrated database.
func (i *install) makeTemplate(ctx context.Context, p *progress) error {
	if raw, err := os.ReadFile(i.file(secretFile)); err == nil {
		return json.Unmarshal(raw, &i.secrets)
	}
	p.printf("migrating an empty database: 4 to 8 minutes, once for this machine")
	i.secrets = newSecrets()
	build := i.file("build")
	if err := os.MkdirAll(build, 0o755); err != nil {
		return fmt.Errorf("making a folder for the migration: %w", err)
	}
	if err := sweepState(build, p); err != nil {
		return err
	}
	b, err := newBackend(i.machine, build, "", i.version)
	if err != nil {
		return err
	}
	if err := errors.Join(i.fillTemplate(ctx, b, p), b.state.end()); err != nil {
		return fmt.Errorf("migrating (logs in %s): %w", build, err)
	}
	raw, err := json.Marshal(i.secrets)
	if err != nil {
		return fmt.Errorf("noting the template's secrets: %w", err)
	}
	p.printf("the migrated database is kept in %s", i.file("template"))
	return os.WriteFile(i.file(secretFile), raw, 0o600)
}

func (i *install) fillTemplate(ctx context.Context, b *backend, p *progress) error {
	init := i.machine.pg(ctx, "initdb", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8",
		"--wal-segsize=4", "-D", b.data())
	if err := run(init); err != nil {
		return err
	}
	// A clean end: the data folder is copied.
	if err := b.startPostgres(ctx, syscall.SIGINT); err != nil {
		return err
	}
	if err := b.startRedis(ctx); err != nil {
		return err
	}
	if err := b.sql(ctx, "CREATE ROLE netbox LOGIN", "CREATE DATABASE netbox OWNER netbox"); err != nil {
		return err
	}
	if err := b.configure(i.secrets); err != nil {
		return err
	}
	if err := i.migrate(ctx, b, p); err != nil {
		return err
	}
	if err := i.addAdmin(ctx, b); err != nil {
		return err
	}
	if err := b.sql(ctx, "ALTER DATABASE netbox RENAME TO migrated", "VACUUM", "CHECKPOINT"); err != nil {
		return err
	}
	return i.keepTemplate(b)
}

// migrate runs the migrations and says how far they are.
func (i *install) migrate(ctx context.Context, b *backend, p *progress) error {
	cmd := i.machine.command(ctx, i.program("netbox"), "upgrade", "--no-input", "--skip-reindex", "--skip-static")
	cmd.Env = append(cmd.Env, b.environ()...)
	path := filepath.Join(b.logs, "migrate.log")
	log, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("opening the migration's log: %w", err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the migration: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	tick := time.NewTicker(30 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			raw, _ := os.ReadFile(path) // only to show
			p.printf("%d migrations done", bytes.Count(raw, []byte(" OK\n")))
		case err := <-done:
			if err != nil {
				raw, _ := os.ReadFile(path)
				return fmt.Errorf("netbox upgrade: %w: %s", err, tail(string(raw), 15))
			}
			return nil
		}
	}
}

// addAdmin adds the administrator and their token to the database.
func (i *install) addAdmin(ctx context.Context, b *backend) error {
	script, err := render("files/admin.py.tmpl", map[string]string{
		"User": webUser, "Password": webPassword, "Key": i.secrets.Key, "Secret": i.secrets.Token,
	})
	if err != nil {
		return err
	}
	cmd := i.machine.command(ctx, i.program("netbox"), "shell", "-c", string(script))
	cmd.Env = append(cmd.Env, b.environ()...)
	if err := run(cmd); err != nil {
		return fmt.Errorf("adding the administrator: %w", err)
	}
	return nil
}

// keepTemplate stops PostgreSQL in order and copies its data folder.
func (i *install) keepTemplate(b *backend) error {
	for _, p := range b.state.Processes {
		if err := p.end(); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(i.file("template")); err != nil {
		return fmt.Errorf("removing an old template: %w", err)
	}
	return copyTree(b.machine.outside(b.data()), i.file("template"))
}

// copyTree copies a folder with owners and modes.
func copyTree(from, to string) error {
	if out, err := exec.Command("cp", "-a", "--reflink=auto", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("copying %s: %w: %s", from, err, strings.TrimSpace(string(out)))
	}
	return nil
}
