// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/bm-ccm/bm-ccm/conformance/netns"
)

// Server is a running NetBox.
type Server struct {
	// URL is where its web server listens, without a slash at the end.
	URL string
	// AdminToken may do everything.
	AdminToken string
	// WebUser and WebPassword open its web pages.
	WebUser, WebPassword string
	// Version is its release.
	Version string
	// Client reaches it, also from outside its network namespace.
	Client *http.Client

	backend *backend
}

// ErrNotRoot says that the caller is not root.
var ErrNotRoot = errors.New("a real NetBox needs root: PostgreSQL runs as its own user, and packages may have to be installed")

// Start installs NetBox if need be and starts it. What a crashed run left in
// the folder is ended first; ErrRunning if it is in use.
func Start(ctx context.Context, o Options) (*Server, error) {
	o, err := o.complete()
	if err != nil {
		return nil, fmt.Errorf("options of NetBox: %w", err)
	}
	if os.Geteuid() != 0 {
		return nil, ErrNotRoot
	}
	p := newProgress(o.Log)
	unlock, err := lockFile(ctx, filepath.Join(o.Dir, "lock"), func() { p.printf("another run starts in %s, waiting", o.Dir) })
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := sweepState(o.Dir, p); err != nil {
		return nil, err
	}
	i, err := prepare(ctx, o.Version, p)
	if err != nil {
		return nil, err
	}
	b, err := newBackend(i.machine, o.Dir, o.NetNS, o.Version)
	if err != nil {
		return nil, err
	}
	s, err := boot(ctx, i, b, o)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting NetBox %s: %w", o.Version, err), b.state.end())
	}
	p.printf("NetBox %s answers at %s", s.Version, s.URL)
	return s, nil
}

// Install installs NetBox for later starts, where that was not done yet. It
// takes minutes the first time on a machine.
func Install(ctx context.Context, o Options) error {
	o, err := o.complete()
	if err != nil {
		return fmt.Errorf("options of NetBox: %w", err)
	}
	if os.Geteuid() != 0 {
		return ErrNotRoot
	}
	_, err = prepare(ctx, o.Version, newProgress(o.Log))
	return err
}

func boot(ctx context.Context, i *install, b *backend, o Options) (*Server, error) {
	if err := raiseLoopback(ctx, o.NetNS); err != nil {
		return nil, err
	}
	s := &Server{
		AdminToken: i.secrets.bearer(), WebUser: webUser, WebPassword: webPassword, Version: i.version, backend: b,
		Client: clientIn(o.NetNS),
	}
	// The web server first: loading NetBox takes longest and needs no database.
	web, err := s.serve(ctx, i, o.Listen)
	if err != nil {
		return nil, err
	}
	if err := b.openDatabase(ctx, i); err != nil {
		return nil, err
	}
	if err := b.await(ctx, web, 2*time.Minute, s.check); err != nil {
		return nil, err
	}
	b.state.URL, b.state.Token, b.state.Detached = s.URL, s.AdminToken, o.Detach
	return s, b.state.save()
}

// openDatabase serves a copy of the migrated database.
func (b *backend) openDatabase(ctx context.Context, i *install) error {
	if err := b.startRedis(ctx); err != nil {
		return err
	}
	if err := copyTree(i.file("template"), b.machine.outside(b.data())); err != nil {
		return err
	}
	if err := b.startPostgres(ctx, syscall.SIGQUIT); err != nil { // at once: the data is thrown away
		return err
	}
	return b.sql(ctx, createDatabase)
}

// serve starts the web server on a socket that is open already: no port can be
// taken away between finding it free and using it.
func (s *Server) serve(ctx context.Context, i *install, listen string) (process, error) {
	b := s.backend
	if err := b.configure(i.secrets); err != nil {
		return process{}, err
	}
	socket, address, err := listenIn(ctx, b.netns, listen)
	if err != nil {
		return process{}, err
	}
	s.URL = "http://" + address
	cmd := i.machine.command(context.WithoutCancel(ctx), i.program("gunicorn"),
		"--config", filepath.Join(b.run, "gunicorn.conf.py"), "--preload", "--no-control-socket", "--bind", "fd://3",
		"--workers", "3", "--threads", "3", "--timeout", "120", "netbox_wsgi:application")
	cmd.Env = append(cmd.Env, b.environ()...)
	cmd.ExtraFiles = []*os.File{socket}
	// Killed with its workers: in order they would take seconds to tear down
	// what they loaded, and there is nothing to save.
	p, err := b.start("gunicorn", syscall.SIGKILL, cmd)
	return p, errors.Join(err, socket.Close())
}

// check asks for the version with the administrator's token.
func (s *Server) check(ctx context.Context) error {
	var status struct {
		Version string `json:"netbox-version"`
	}
	if err := s.target().do(ctx, http.MethodGet, "/api/status/", nil, &status); err != nil {
		return err
	}
	if status.Version != s.Version {
		return fmt.Errorf("NetBox says that it is %q, want %q", status.Version, s.Version)
	}
	return nil
}

// Target is the server with its administrator's token, for Seed.
func (s *Server) Target() Target { return Target{URL: s.URL, Token: s.AdminToken, Client: s.Client} }

func (s *Server) target() *rest { return newREST(s.Target()) }

const createDatabase = "CREATE DATABASE netbox TEMPLATE migrated OWNER netbox STRATEGY file_copy"

// Reset makes NetBox as empty as it was after Start. Requests that are on
// their way fail; the administrator's token stays.
func (s *Server) Reset(ctx context.Context) error {
	if err := s.backend.sql(ctx, "DROP DATABASE IF EXISTS netbox WITH (FORCE)", createDatabase); err != nil {
		return fmt.Errorf("resetting NetBox: %w", err)
	}
	if err := s.backend.redisDo(ctx, "flushall"); err != nil {
		return fmt.Errorf("resetting NetBox: %w", err)
	}
	return s.check(ctx)
}

// Stop ends the server and waits until its processes are gone. It may be
// called again.
func (s *Server) Stop() error {
	s.Client.CloseIdleConnections()
	return s.backend.state.end()
}

func clientIn(ns string) *http.Client {
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{DialContext: netns.Dial(ns)}}
}

// TargetIn is the server that runs in a folder, for Seed from another process
// than the one that started it.
func TargetIn(dir string) (Target, error) {
	st, err := readState(dir)
	if err != nil {
		return Target{}, err
	}
	if st == nil || !st.alive() {
		return Target{}, fmt.Errorf("no NetBox runs in %s", dir)
	}
	return Target{URL: st.URL, Token: st.Token, Client: clientIn(st.NetNS)}, nil
}

// Info is what is known of the server in a folder.
type Info struct {
	Version, URL, NetNS string
	Running             bool
}

// Status tells of the server in a folder; ok is false if there is none.
func Status(dir string) (info Info, ok bool, err error) {
	st, err := readState(dir)
	if st == nil || err != nil {
		return Info{}, false, err
	}
	return Info{Version: st.Version, URL: st.URL, NetNS: st.NetNS, Running: st.alive()}, true, nil
}

// Down stops the server in a folder, whoever started it. No server is no error.
func Down(ctx context.Context, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("dir %q: %w", dir, err)
	}
	if _, err := os.Stat(statePath(dir)); err != nil {
		return nil
	}
	unlock, err := lockFile(ctx, filepath.Join(dir, "lock"), func() {})
	if err != nil {
		return err
	}
	defer unlock()
	st, err := readState(dir)
	if st == nil || err != nil {
		return err
	}
	return st.end()
}
