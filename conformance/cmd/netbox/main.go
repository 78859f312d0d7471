// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/bm-ccm/bm-ccm/conformance/netbox"
)

const usage = `Usage: netbox COMMAND [flags]     (netbox COMMAND --help tells the flags)

  install install a NetBox for later starts (6 to 12 minutes, once on a machine)
  up      start a NetBox; the first time on a machine installs it (6 to 12 minutes)
  seed    put devices, prefixes, custom fields and a cluster's token into it
  status  tell where it listens
  down    stop it

up goes on until it is interrupted; with --detach it returns, and down stops it.
`

const defaultDir = "/tmp/bm-ccm-netbox"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "netbox:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	commands := map[string]func(context.Context, []string) error{"install": install, "up": up, "down": down, "seed": seed, "status": status}
	if len(args) == 0 || args[0] == "--help" || args[0] == "-h" || args[0] == "help" {
		fmt.Print(usage)
		return flag.ErrHelp
	}
	command, ok := commands[args[0]]
	if !ok {
		return fmt.Errorf("unknown command %q: install, up, seed, status or down", args[0])
	}
	return command(ctx, args[1:])
}

// parse reads the flags of a command, all of which have --dir.
func parse(name string, args []string, define func(*flag.FlagSet)) (dir string, err error) {
	flags := flag.NewFlagSet("netbox "+name, flag.ContinueOnError)
	flags.StringVar(&dir, "dir", defaultDir, "folder of state and logs")
	define(flags)
	if err := flags.Parse(args); err != nil {
		return "", err
	}
	if flags.NArg() > 0 {
		return "", fmt.Errorf("%s takes no arguments, only flags: %q", name, flags.Arg(0))
	}
	return filepath.Abs(dir)
}

func install(ctx context.Context, args []string) (err error) {
	o := netbox.Options{Log: os.Stdout}
	if o.Dir, err = parse("install", args, func(f *flag.FlagSet) {
		f.StringVar(&o.Version, "version", netbox.DefaultVersion, "NetBox release, 4.7.0 or newer")
	}); err != nil {
		return err
	}
	return netbox.Install(ctx, o)
}

func up(ctx context.Context, args []string) (err error) {
	o := netbox.Options{Log: os.Stdout}
	var foreground bool
	if o.Dir, err = parse("up", args, func(f *flag.FlagSet) {
		f.StringVar(&o.Listen, "listen", "127.0.0.1:8000", "address and port of the web server; port 0 takes a free one")
		f.StringVar(&o.NetNS, "netns", "", "network namespace (ip netns) to run in")
		f.StringVar(&o.Version, "version", netbox.DefaultVersion, "NetBox release, 4.7.0 or newer")
		f.BoolVar(&o.Detach, "detach", false, "return when it is up; \"netbox down\" stops it")
		f.BoolVar(&foreground, "foreground", false, "go on until interrupted (the default)")
	}); err != nil {
		return err
	}
	if foreground && o.Detach {
		return errors.New("up: either --foreground or --detach")
	}
	s, err := netbox.Start(ctx, o)
	if err != nil {
		return err
	}
	if err := announce(s, o.Dir); err != nil {
		return errors.Join(err, s.Stop())
	}
	if o.Detach {
		fmt.Printf("stop it:      netbox down --dir %s\n", o.Dir)
		return nil
	}
	fmt.Println("stop it:      Ctrl-C")
	<-ctx.Done()
	return s.Stop()
}

func announce(s *netbox.Server, dir string) error {
	path := filepath.Join(dir, "admin-token")
	if err := os.WriteFile(path, []byte(s.AdminToken+"\n"), 0o600); err != nil {
		return fmt.Errorf("writing the token: %w", err)
	}
	fmt.Printf("NetBox:       %s (version %s)\nweb login:    %s / %s\nadmin token:  %s\n", s.URL, s.Version, s.WebUser, s.WebPassword, path)
	return nil
}

func down(ctx context.Context, args []string) error {
	dir, err := parse("down", args, func(*flag.FlagSet) {})
	if err != nil {
		return err
	}
	return netbox.Down(ctx, dir)
}

func status(_ context.Context, args []string) error {
	dir, err := parse("status", args, func(*flag.FlagSet) {})
	if err != nil {
		return err
	}
	info, ok, err := netbox.Status(dir)
	switch {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("no NetBox in %s", dir)
	case !info.Running:
		return fmt.Errorf("NetBox in %s has crashed: its logs are there, and \"up\" starts a new one", dir)
	}
	where := ""
	if info.NetNS != "" {
		where = " in network namespace " + info.NetNS
	}
	fmt.Printf("NetBox %s at %s%s\n", info.Version, info.URL, where)
	return nil
}
