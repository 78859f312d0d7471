// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"text/template"
	"time"

	"github.com/bm-ccm/bm-ccm/conformance/netns"
)

//go:embed files constraints
var files embed.FS

// backend is one run: PostgreSQL, Redis and NetBox's configuration for them.
type backend struct {
	machine *machine
	run     string // inside the machine
	logs    string // outside
	netns   string
	state   *state
}

// newBackend makes the folders of a run. The state is saved first, so that
// whatever happens the next run finds what to clear.
func newBackend(m *machine, dir, netns, version string) (*backend, error) {
	b := &backend{machine: m, run: runFolder(dir), logs: dir, netns: netns}
	b.state = &state{
		Version: version, NetNS: netns, Run: m.outside(b.run), Owner: identify("owner", os.Getpid()), path: statePath(dir),
	}
	if err := b.takeRun(); err != nil {
		return nil, err
	}
	if err := b.state.save(); err != nil {
		return nil, err
	}
	pg := m.outside(b.pgDir())
	if err := os.Mkdir(pg, 0o700); err != nil {
		return nil, fmt.Errorf("making the database's folder: %w", err)
	}
	if err := os.Chown(pg, int(m.uid), int(m.gid)); err != nil {
		return nil, fmt.Errorf("making the database's folder: %w", err)
	}
	return b, nil
}

// takeRun makes the run's folder anew. In /tmp a folder of that name may be
// another user's.
func (b *backend) takeRun() error {
	run := b.state.Run
	if info, err := os.Lstat(run); err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() {
			return fmt.Errorf("making the run's folder: %s is another user's", run)
		}
		if err := os.RemoveAll(run); err != nil {
			return fmt.Errorf("clearing the run's folder: %w", err)
		}
	}
	if err := os.Mkdir(run, 0o711); err != nil {
		return fmt.Errorf("making the run's folder: %w", err)
	}
	return os.Chmod(run, 0o711)
}

func (b *backend) pgDir() string  { return filepath.Join(b.run, "pg") }
func (b *backend) data() string   { return filepath.Join(b.run, "pg", "data") }
func (b *backend) socket() string { return filepath.Join(b.run, "redis.sock") }
func (b *backend) root() string   { return filepath.Join(b.run, "netbox") }

// environ leads NetBox to its configuration.
func (b *backend) environ() []string {
	return []string{"NETBOX_ROOT=" + b.root(), "PYTHONPATH=" + b.run, "PYTHONUNBUFFERED=1"}
}

// start runs a program in the background and notes it in the state.
func (b *backend) start(name string, quit syscall.Signal, cmd *exec.Cmd) (process, error) {
	log, err := os.OpenFile(filepath.Join(b.logs, name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return process{}, fmt.Errorf("opening the log of %s: %w", name, err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr.Setsid = true
	if err := netns.Do(b.netns, cmd.Start); err != nil {
		return process{}, fmt.Errorf("starting %s: %w", name, err)
	}
	p := identify(name, cmd.Process.Pid)
	p.Quit = quit
	go func() { _ = cmd.Wait() }() // reaps; how it ended is in its log
	b.state.Processes = append(b.state.Processes, p)
	return p, b.state.save()
}

// await repeats a check until it passes, fails if the process ends before.
func (b *backend) await(ctx context.Context, p process, within time.Duration, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if !p.alive() {
			return fmt.Errorf("%s ended at once: %s", p.Name, b.logTail(p.Name))
		}
		if ctxErr := pause(ctx, 50*time.Millisecond); ctxErr != nil {
			return fmt.Errorf("waiting for %s (%w): %w; its log: %s", p.Name, ctxErr, err, b.logTail(p.Name))
		}
	}
}

func (b *backend) logTail(name string) string {
	raw, err := os.ReadFile(filepath.Join(b.logs, name+".log"))
	if err != nil {
		return err.Error()
	}
	return tail(string(raw), 15)
}

// startPostgres serves the data folder. Safety against a crash of the machine
// is left out: the data is thrown away.
func (b *backend) startPostgres(ctx context.Context, quit syscall.Signal) error {
	cmd := b.machine.pg(context.WithoutCancel(ctx), "postgres", "-D", b.data(), "-k", b.pgDir())
	for _, setting := range []string{
		"listen_addresses=", "fsync=off", "synchronous_commit=off", "full_page_writes=off",
		"max_wal_size=64MB", "min_wal_size=8MB", "max_connections=60",
	} {
		cmd.Args = append(cmd.Args, "-c", setting)
	}
	p, err := b.start("postgres", quit, cmd)
	if err != nil {
		return err
	}
	return b.await(ctx, p, time.Minute, func(ctx context.Context) error {
		err := run(b.machine.pg(ctx, "pg_isready", "-q", "-h", b.pgDir()))
		return err
	})
}

func (b *backend) startRedis(ctx context.Context) error {
	cmd := b.machine.command(context.WithoutCancel(ctx), b.machine.redis,
		"--port", "0", "--unixsocket", b.socket(), "--unixsocketperm", "700", "--save", "", "--appendonly", "no", "--dir", b.run)
	cmd.Args[0] = "redis-server" // the program looks at its name
	p, err := b.start("redis", syscall.SIGTERM, cmd)
	if err != nil {
		return err
	}
	return b.await(ctx, p, 20*time.Second, func(ctx context.Context) error { return b.redisDo(ctx, "ping") })
}

func (b *backend) redisDo(ctx context.Context, args ...string) error {
	err := run(b.machine.command(ctx, append([]string{"/usr/bin/redis-cli", "-s", b.socket()}, args...)...))
	return err
}

// sql runs statements, each on its own.
func (b *backend) sql(ctx context.Context, statements ...string) error {
	args := []string{"-q", "-X", "-v", "ON_ERROR_STOP=1", "-h", b.pgDir(), "-U", "postgres", "-d", "postgres"}
	for _, s := range statements {
		args = append(args, "-c", s)
	}
	err := run(b.machine.pg(ctx, "psql", args...))
	return err
}

// configure writes what NetBox reads.
func (b *backend) configure(s secrets) error {
	root := b.machine.outside(b.root())
	for _, dir := range []string{"conf", "media", "reports", "scripts"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			return fmt.Errorf("writing NetBox's configuration: %w", err)
		}
	}
	configuration, err := render("files/configuration.py.tmpl", map[string]string{
		"Postgres": b.pgDir(), "Redis": b.socket(), "SecretKey": s.SecretKey, "Pepper": s.Pepper,
	})
	if err != nil {
		return err
	}
	contents := map[string][]byte{
		filepath.Join(root, "conf", "__init__.py"):      nil,
		filepath.Join(root, "conf", "configuration.py"): configuration,
	}
	for _, name := range []string{"netbox_wsgi.py", "gunicorn.conf.py"} {
		raw, err := files.ReadFile("files/" + name)
		if err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		contents[b.machine.outside(filepath.Join(b.run, name))] = raw
	}
	for path, raw := range contents {
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			return fmt.Errorf("writing NetBox's configuration: %w", err)
		}
	}
	return nil
}

func render(name string, values any) ([]byte, error) {
	t, err := template.ParseFS(files, name)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	var out bytes.Buffer
	if err := t.Option("missingkey=error").Execute(&out, values); err != nil {
		return nil, fmt.Errorf("filling in %s: %w", name, err)
	}
	return out.Bytes(), nil
}
