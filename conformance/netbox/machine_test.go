// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// fakeDebian makes empty files in a folder.
func fakeDebian(t *testing.T, paths ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, path := range paths {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestLocateTakesTheNewestPostgres(t *testing.T) {
	root := fakeDebian(t, "/usr/lib/postgresql/9/bin/postgres", "/usr/lib/postgresql/15/bin/postgres",
		"/usr/lib/postgresql/17/bin/postgres", "/usr/bin/redis-check-rdb", "/usr/bin/redis-cli")
	passwd := "root:x:0:0::/root:/bin/sh\npostgres:x:101:104::/var/lib/postgresql:/bin/bash\n"
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "etc/passwd"), []byte(passwd), 0o600); err != nil {
		t.Fatal(err)
	}
	m := &machine{root: root, python: python{version: "3.13"}}
	if err := m.locate(); err != nil {
		t.Fatal(err)
	}
	if m.key() != "py3.13-pg17" || m.postgres != "/usr/lib/postgresql/17/bin" {
		t.Errorf("found %s in %s, want the newest, 17", m.key(), m.postgres)
	}
	if m.redis != "/usr/bin/redis-check-rdb" {
		t.Errorf("Redis is %q, want the program of redis-tools", m.redis)
	}
	if m.uid != 101 || m.gid != 104 {
		t.Errorf("the user postgres is %d:%d, want 101:104", m.uid, m.gid)
	}
}

func TestMissing(t *testing.T) {
	all := []string{
		"/usr/lib/postgresql/15/bin/postgres", "/usr/bin/redis-server", "/usr/bin/redis-cli", "/usr/bin/gcc",
		"/usr/bin/pg_config", "/usr/include/postgresql/libpq-fe.h",
	}
	for name, c := range map[string]struct {
		python python
		files  []string
		want   string
	}{
		"nothing there":      {files: nil, want: "postgresql redis-tools build-essential libpq-dev"},
		"PostgreSQL too old": {files: append([]string{"/usr/lib/postgresql/13/bin/postgres"}, all[1:]...), want: "postgresql"},
		"all there":          {files: all, want: ""},
		"Debian's Python":    {python: python{version: "3.13", system: true}, files: all, want: "python3.13-venv python3.13-dev"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &machine{root: fakeDebian(t, c.files...), python: c.python}
			if err := m.locate(); err != nil {
				t.Fatal(err)
			}
			m.uid = 101
			if got := strings.Join(m.missing(), " "); got != c.want {
				t.Errorf("missing %q, want %q", got, c.want)
			}
		})
	}
}

func TestCommandInChroot(t *testing.T) {
	t.Setenv("PYTHONPATH", "/elsewhere")
	t.Setenv("PGHOST", "db.example.org")
	m := &machine{root: "/srv/debian", postgres: "/usr/lib/postgresql/17/bin", uid: 101, gid: 104}
	cmd := m.pg(t.Context(), "initdb", "-D", "/tmp/x")
	if cmd.Path != "/usr/lib/postgresql/17/bin/initdb" || cmd.SysProcAttr.Chroot != "/srv/debian" {
		t.Errorf("%s in %q, want the Debian's own initdb", cmd.Path, cmd.SysProcAttr.Chroot)
	}
	if c := cmd.SysProcAttr.Credential; c == nil || c.Uid != 101 || c.Gid != 104 {
		t.Errorf("runs as %+v, want 101:104", c)
	}
	for _, kv := range cmd.Env {
		if strings.HasPrefix(kv, "PYTHONPATH=") || strings.HasPrefix(kv, "PGHOST=") {
			t.Errorf("%s of the caller went into the environment", kv)
		}
	}
	if !slices.Contains(cmd.Env, "HOME=/root") {
		t.Errorf("HOME is not the Debian's: %q", cmd.Env)
	}
	if got := m.outside("/tmp/x"); got != "/srv/debian/tmp/x" {
		t.Errorf("/tmp/x is %s outside", got)
	}
}

func TestServicesStayDown(t *testing.T) {
	root := fakeDebian(t, "/usr/sbin/policy-rc.d")
	undo, err := (&machine{root: root}).keepServicesDown()
	if err != nil {
		t.Fatal(err)
	}
	dropIn := filepath.Join(root, "etc/postgresql-common/createcluster.d/bm-ccm.conf")
	if _, err := os.Stat(dropIn); err != nil {
		t.Error(err)
	}
	policy := filepath.Join(root, "usr/sbin/policy-rc.d")
	if raw, err := os.ReadFile(policy); err != nil || len(raw) > 0 {
		t.Errorf("the machine's own policy was changed to %q (%v)", raw, err)
	}
	if err := undo(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dropIn); err == nil {
		t.Error("the setting for PostgreSQL's package was left behind")
	}
	if _, err := os.Stat(policy); err != nil {
		t.Errorf("the machine's own policy is gone: %v", err)
	}
}

func TestHostMirror(t *testing.T) {
	for name, c := range map[string]struct{ file, text, want string }{
		"one line":   {"etc/apt/sources.list", "# x\ndeb http://mirror.example.org/debian bookworm main\n", "http://mirror.example.org/debian"},
		"options":    {"etc/apt/sources.list", "deb [signed-by=/x] https://m.example.org/debian/ trixie main\n", "https://m.example.org/debian"},
		"deb822":     {"etc/apt/sources.list.d/debian.sources", "Types: deb\nURIs: http://deb.debian.org/debian\n", "http://deb.debian.org/debian"},
		"a foreign":  {"etc/apt/sources.list", "deb http://archive.example.org/ubuntu noble main\n", defaultMirror},
		"no sources": {"etc/hosts", "", defaultMirror},
	} {
		t.Run(name, func(t *testing.T) {
			if got := hostMirror(fstest.MapFS{c.file: {Data: []byte(c.text)}}); got != c.want {
				t.Errorf("mirror %q, want %q", got, c.want)
			}
		})
	}
	want := []string{"--variant=minbase", "--include=python3,ca-certificates", "trixie", "/srv/d", "http://m/debian"}
	if got := debootstrapArgs("/srv/d", "http://m/debian"); !slices.Equal(got, want) {
		t.Errorf("debootstrap %q, want %q", got, want)
	}
}

func TestOptions(t *testing.T) {
	for name, c := range map[string]struct {
		o    Options
		want string
	}{
		"no folder":    {Options{}, "dir is empty"},
		"no port":      {Options{Dir: "/x", Listen: "10.0.0.1"}, `listen is "10.0.0.1"`},
		"a path":       {Options{Dir: "/x", NetNS: "a/b"}, `network namespace "a/b"`},
		"no release":   {Options{Dir: "/x", Version: "latest"}, `version is "latest"`},
		"not on PyPI":  {Options{Dir: "/x", Version: "4.6.8"}, "PyPI has NetBox from 4.7.0 on"},
		"all mistakes": {Options{Version: "3.1.0", Listen: "x"}, "dir is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := c.o.complete(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	o, err := Options{Dir: "/x"}.complete()
	if err != nil || o.Version != DefaultVersion || o.Listen != "127.0.0.1:0" {
		t.Errorf("defaults are %+v, %v", o, err)
	}
}
