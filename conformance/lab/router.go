// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// frrDir is where Debian puts FRR's daemons.
const frrDir = "/usr/lib/frr"

// Router is FRR between the nodes and the client. It accepts BGP sessions from
// every node (RouterASN to NodeASN) and uses up to eight next hops of a route.
type Router struct {
	*Host
	dir     string
	daemons []*Daemon
}

// config is FRR's. Nodes connect to it; it announces nothing to them.
func (r *Router) config(ipv4Only bool) string {
	var b strings.Builder
	family := func(name string, lan netip.Prefix) {
		fmt.Fprintf(&b, " bgp listen range %s peer-group NODES\n", lan)
		fmt.Fprintf(&b, " address-family %s unicast\n  neighbor NODES activate\n  maximum-paths 8\n exit-address-family\n", name)
	}
	fmt.Fprintf(&b, "hostname router\nrouter bgp %d\n bgp router-id %s\n", RouterASN, r.Addr())
	b.WriteString(" no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n bgp bestpath as-path multipath-relax\n")
	fmt.Fprintf(&b, " neighbor NODES peer-group\n neighbor NODES remote-as %d\n", NodeASN)
	family("ipv4", nodeLAN.v4)
	if !ipv4Only {
		family("ipv6", nodeLAN.v6)
	}
	return b.String()
}

// start starts zebra and bgpd and waits until they talk to each other.
func (r *Router) start(ctx context.Context, labDir string, ipv4Only bool) error {
	r.dir = filepath.Join(labDir, "frr")
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return fmt.Errorf("making the router's folder: %w", err)
	}
	if err := chown(r.dir, "frr"); err != nil { // whom the daemons become
		return err
	}
	conf := filepath.Join(r.dir, "frr.conf")
	if err := os.WriteFile(conf, []byte(r.config(ipv4Only)), 0o644); err != nil {
		return fmt.Errorf("writing the router's configuration: %w", err)
	}
	for _, name := range []string{"zebra", "bgpd"} {
		d, err := start(labDir, command{name: "frr-" + name, netns: r.netns, argv: r.argv(name, conf)})
		if err != nil {
			return err
		}
		r.daemons = append(r.daemons, d)
		if err := d.until(ctx, 50*time.Millisecond, func(context.Context) error {
			_, err := os.Stat(filepath.Join(r.dir, name+".vty"))
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// chown gives a folder to a user of the machine.
func chown(dir, name string) error {
	u, err := user.Lookup(name)
	if err != nil {
		return fmt.Errorf("finding the user of the router's daemons: %w", err)
	}
	uid, uerr := strconv.Atoi(u.Uid)
	gid, gerr := strconv.Atoi(u.Gid)
	if err := errors.Join(uerr, gerr); err != nil {
		return fmt.Errorf("user %s: %w", name, err)
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		return fmt.Errorf("giving %s to %s: %w", dir, name, err)
	}
	return nil
}

func (r *Router) argv(daemon, conf string) []string {
	return []string{
		filepath.Join(frrDir, daemon), "-f", conf, "-i", filepath.Join(r.dir, daemon+".pid"),
		"-z", filepath.Join(r.dir, "zserv.api"), "--vty_socket", r.dir, "-P", "0", "--log", "stdout",
	}
}

// Vtysh runs one command of FRR's shell and returns what it prints.
func (r *Router) Vtysh(ctx context.Context, command string) (string, error) {
	return r.Exec(ctx, "vtysh", "--vty_socket", r.dir, "-c", command)
}

// VtyshCommand makes a command that runs one command of FRR's shell, or, if it
// is empty, the shell itself.
func (r *Router) VtyshCommand(ctx context.Context, command string) *exec.Cmd {
	argv := []string{"vtysh", "--vty_socket", r.dir}
	if command != "" {
		argv = append(argv, "-c", command)
	}
	return r.Command(ctx, argv...)
}

// Configure enters configuration commands, one a line.
func (r *Router) Configure(ctx context.Context, lines ...string) error {
	args := []string{"vtysh", "--vty_socket", r.dir, "-c", "configure terminal"}
	for _, line := range lines {
		args = append(args, "-c", line)
	}
	_, err := r.Exec(ctx, args...)
	return err
}

// Route is a route in the router's kernel that BGP put there.
type Route struct {
	Prefix   netip.Prefix
	NextHops []netip.Addr
}

// kernelRoute is a route in the output of ip -json route.
type kernelRoute struct {
	Dst      string `json:"dst"`
	Gateway  string `json:"gateway"`
	Via      via    `json:"via"`
	NextHops []struct {
		Gateway string `json:"gateway"`
		Via     via    `json:"via"`
	} `json:"nexthops"`
}

// via is a next hop of the other family.
type via struct {
	Host string `json:"host"`
}

// Routes lists the routes of both families that are in the router's kernel
// because of BGP: what packets really follow.
func (r *Router) Routes(ctx context.Context) ([]Route, error) {
	var out []Route
	for _, family := range []string{"-4", "-6"} {
		raw, err := r.Exec(ctx, "ip", "-json", family, "route", "show", "proto", "bgp")
		if err != nil {
			return nil, err
		}
		routes, err := parseRoutes([]byte(raw))
		if err != nil {
			return nil, err
		}
		out = append(out, routes...)
	}
	return out, nil
}

func parseRoutes(raw []byte) ([]Route, error) {
	if len(strings.TrimSpace(string(raw))) == 0 {
		return nil, nil
	}
	var list []kernelRoute
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("decoding the routes: %w", err)
	}
	var out []Route
	for _, k := range list {
		route, err := k.route()
		if err != nil {
			return nil, fmt.Errorf("route to %s: %w", k.Dst, err)
		}
		out = append(out, route)
	}
	return out, nil
}

func (k kernelRoute) route() (Route, error) {
	var r Route
	var errs []error
	addr := func(s ...string) {
		for _, text := range s {
			if text == "" {
				continue
			}
			a, err := netip.ParseAddr(text)
			r.NextHops, errs = append(r.NextHops, a), append(errs, err)
		}
	}
	var err error
	if r.Prefix, err = netip.ParsePrefix(k.Dst); err != nil {
		a, aerr := netip.ParseAddr(k.Dst) // a host route has no length
		errs = append(errs, aerr)
		r.Prefix = netip.PrefixFrom(a, a.BitLen())
	}
	addr(k.Gateway, k.Via.Host)
	for _, h := range k.NextHops {
		addr(h.Gateway, h.Via.Host)
	}
	return r, errors.Join(errs...)
}
