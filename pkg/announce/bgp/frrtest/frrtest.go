// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package frrtest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// daemons is where Debian puts FRR's daemons, which are on no PATH.
	daemons = "/usr/lib/frr"
	// frrUser and its group are what FRR's packages make; FRR takes no other.
	frrUser = "frr"
	// insideEnv marks the test process that is in its own namespace. Without it
	// the process would start itself for ever.
	insideEnv = "BM_CCM_FRRTEST_INSIDE"
	// requireEnv turns skipped tests into failed ones: CI sets it, where a test
	// that skips would look like one that passes.
	requireEnv = "BM_CCM_REQUIRE_ROOT"
)

// Main runs the tests of a package in a network namespace of their own, or as
// they are where that is not possible; tests that need one then skip. Call it
// from TestMain.
func Main(m *testing.M) {
	if missing() != "" || os.Getenv(insideEnv) != "" {
		os.Exit(m.Run())
	}
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, "frrtest: finding the test binary:", err)
		os.Exit(1)
	}
	// A new process rather than unshare(2): that moves one thread only, and Go
	// runs goroutines on any of them.
	cmd := exec.CommandContext(context.Background(), self, os.Args[1:]...) //nolint:gosec // this very process once more
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "frrtest: tests in their own network namespace:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// missing says what the machine lacks, with the command that installs it; empty if
// nothing.
func missing() string {
	if os.Geteuid() != 0 {
		return "this test makes network namespaces: run it as root"
	}
	for _, f := range []string{daemons + "/bgpd", daemons + "/zebra", "/usr/bin/vtysh"} {
		if _, err := os.Stat(f); err != nil {
			return "this test needs FRR: apt-get install frr"
		}
	}
	for _, f := range []string{"ip", "nsenter"} {
		if _, err := exec.LookPath(f); err != nil {
			return "this test needs the command " + f + ": apt-get install iproute2 util-linux"
		}
	}
	return ""
}

// Need skips the test on a machine without root or FRR; with
// BM_CCM_REQUIRE_ROOT=1 it fails instead.
func Need(t testing.TB) {
	t.Helper()
	why := missing()
	if why == "" && os.Getenv(insideEnv) == "" {
		why = "this test package does not call frrtest.Main"
	}
	switch {
	case why == "":
	case os.Getenv(requireEnv) == "1":
		t.Fatal(why)
	default:
		t.Skip(why)
	}
}

// Router is an FRR with bgpd and zebra, one hop away.
type Router struct {
	// Local4 and Local6 are the addresses on our side of the link, Addr4 and
	// Addr6 those of the router.
	Local4, Local6, Addr4, Addr6 netip.Addr
	// Link is the name of the interface on our side.
	Link string

	t     testing.TB
	dir   string
	netns *exec.Cmd // a process that does nothing but keep the namespace
	bgpd  *exec.Cmd
}

// ASN is the autonomous system number of every Router, from those for private use
// (RFC 6996).
const ASN = 64512

// New starts router number n (1 to 250, different within a test) with the given
// lines in its "router bgp" section; "{4}" and "{6}" in them stand for our
// addresses. It is up when New returns, and goes with the test.
func New(t testing.TB, n int, lines ...string) *Router {
	t.Helper()
	Need(t)
	addr := func(format string) netip.Addr { return netip.MustParseAddr(fmt.Sprintf(format, n)) }
	r := &Router{
		Local4: addr("10.9.%d.1"), Addr4: addr("10.9.%d.2"),
		Local6: addr("fd09:%d::1"), Addr6: addr("fd09:%d::2"),
		Link: fmt.Sprintf("to-r%d", n), t: t,
	}
	// The paths of FRR's sockets must be short.
	dir, err := os.MkdirTemp("", "frr")
	r.must(err)
	r.dir = dir
	r.run("chown", frrUser+":"+frrUser, dir)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r.connect(n)
	r.start(fmt.Sprintf("10.255.0.%d", n), lines)
	return r
}

// must ends the test on an error: nothing here is worth going on after one.
func (r *Router) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *Router) run(name string, args ...string) string {
	r.t.Helper()
	out, err := exec.CommandContext(r.t.Context(), name, args...).CombinedOutput()
	if err != nil {
		r.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Exec runs a command in the router's namespace.
func (r *Router) Exec(args ...string) string {
	r.t.Helper()
	return r.run("nsenter", append([]string{"-t", r.pid(), "-n"}, args...)...)
}

// Command prepares a command in the router's namespace, which dies with the
// test.
func (r *Router) Command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(r.t.Context(), "nsenter", append([]string{"-t", r.pid(), "-n"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func (r *Router) pid() string { return strconv.Itoa(r.netns.Process.Pid) }

// connect makes the router's namespace and the link to it. Addresses are set
// without duplicate address detection, which would keep IPv6 back for a second.
func (r *Router) connect(n int) {
	r.t.Helper()
	// Not the test's context, which ends before the cleanups: what a test closes in
	// its own must find the router up.
	r.netns = exec.CommandContext(context.Background(), "sleep", "600")
	r.netns.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	r.must(r.netns.Start())
	r.t.Cleanup(func() { stop(r.netns) })
	far := fmt.Sprintf("r%d", n)
	r.run("ip", "link", "set", "lo", "up")
	r.run("ip", "link", "add", r.Link, "type", "veth", "peer", "name", far, "netns", r.pid())
	r.t.Cleanup(func() {
		_ = exec.CommandContext(context.Background(), "ip", "link", "del", r.Link).Run()
	})
	r.run("ip", "addr", "add", r.Local4.String()+"/24", "dev", r.Link)
	r.run("ip", "addr", "add", r.Local6.String()+"/64", "dev", r.Link, "nodad")
	r.run("ip", "link", "set", r.Link, "up")
	r.Exec("ip", "link", "set", "lo", "up")
	r.Exec("ip", "addr", "add", r.Addr4.String()+"/24", "dev", far)
	r.Exec("ip", "addr", "add", r.Addr6.String()+"/64", "dev", far, "nodad")
	r.Exec("ip", "link", "set", far, "up")
}

// start runs zebra first, so that bgpd finds it at once. The configuration takes
// FRR's safety catches off: a policy is not needed here (RFC 8212), and each test
// activates the families that it is about.
func (r *Router) start(id string, lines []string) {
	r.t.Helper()
	replace := strings.NewReplacer("{4}", r.Local4.String(), "{6}", r.Local6.String())
	conf := fmt.Sprintf("log stdout informational\nrouter bgp %d\n bgp router-id %s\n no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n %s\n",
		ASN, id, replace.Replace(strings.Join(lines, "\n ")))
	// The daemons read them as frrUser.
	r.must(os.WriteFile(filepath.Join(r.dir, "bgpd.conf"), []byte(conf), 0o644))
	r.must(os.WriteFile(filepath.Join(r.dir, "zebra.conf"), nil, 0o644))
	r.daemon("zebra")
	r.Eventually(10*time.Second, "zebra's socket", func() bool { return exists(filepath.Join(r.dir, "zapi")) })
	r.bgpd = r.daemon("bgpd")
	r.Eventually(10*time.Second, "bgpd", func() bool {
		out, err := r.vtysh("show bgp summary json")
		return err == nil && len(out) > 0
	})
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// daemon starts one of FRR's daemons. -P 0 turns its telnet port off, so that
// routers do not clash on it; the sockets are in the router's own folder.
func (r *Router) daemon(name string) *exec.Cmd {
	r.t.Helper()
	args := []string{"-t", r.pid(), "-n", filepath.Join(daemons, name), "-u", frrUser, "-g", frrUser,
		"--vty_socket", r.dir, "-z", filepath.Join(r.dir, "zapi"), "-i", filepath.Join(r.dir, name+".pid"),
		"-f", filepath.Join(r.dir, name+".conf"), "-P", "0"}
	// As the namespace: until its cleanup.
	cmd := exec.CommandContext(context.Background(), "nsenter", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := os.OpenFile(filepath.Join(r.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	r.must(err)
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	r.must(cmd.Start())
	r.t.Cleanup(func() { stop(cmd) })
	return cmd
}

func stop(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// StopBGP kills bgpd, as when it crashes: it sends no NOTIFICATION.
func (r *Router) StopBGP() { stop(r.bgpd) }

// PauseBGP freezes bgpd, whose connections stay open: only the hold timer of the
// other side finds out.
func (r *Router) PauseBGP() {
	r.t.Helper()
	pid, err := os.ReadFile(filepath.Join(r.dir, "bgpd.pid"))
	r.must(err)
	r.run("kill", "-STOP", strings.TrimSpace(string(pid)))
}

// StartBGP starts bgpd again with the configuration of New: what Configure changed
// is gone.
func (r *Router) StartBGP() {
	r.t.Helper()
	r.bgpd = r.daemon("bgpd")
}

func (r *Router) vtysh(command string) ([]byte, error) {
	return exec.CommandContext(r.t.Context(), "vtysh", "--vty_socket", r.dir, "-c", command).Output()
}

// Vtysh runs one command of FRR's shell.
func (r *Router) Vtysh(command string) string {
	r.t.Helper()
	out, err := r.vtysh(command)
	if err != nil {
		r.t.Fatalf("vtysh -c %q: %v\n%s", command, err, out)
	}
	return string(out)
}

// Configure runs configuration commands.
func (r *Router) Configure(lines ...string) {
	r.t.Helper()
	args := []string{"--vty_socket", r.dir, "-c", "configure terminal"}
	for _, l := range lines {
		args = append(args, "-c", l)
	}
	r.run("vtysh", args...)
}

// Eventually waits until ok, and fails the test after the timeout, with the end of
// FRR's log. It polls: FRR has nothing to wait on.
func (r *Router) Eventually(timeout time.Duration, what string, ok func() bool) {
	r.t.Helper()
	deadline := time.Now().Add(timeout)
	for !ok() {
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(r.dir, "log"))
			r.t.Fatalf("no %s within %s; FRR's log:\n%s", what, timeout, tail(string(log), 3000))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// Route is a BGP route as zebra installed it in the kernel of the router.
type Route struct {
	Prefix   netip.Prefix
	NextHops []netip.Addr
	// Uptime is how long zebra has had it in this form, as FRR writes it.
	Uptime string
}

// Routes returns the BGP routes of the router's forwarding table, by prefix.
func (r *Router) Routes() map[netip.Prefix]Route {
	r.t.Helper()
	out := map[netip.Prefix]Route{}
	for _, family := range []string{"ip", "ipv6"} {
		var found map[string][]struct {
			Installed bool
			Uptime    string
			NextHops  []struct{ IP string } `json:"nexthops"`
		}
		r.must(json.Unmarshal([]byte(r.Vtysh("show "+family+" route bgp json")), &found))
		for text, entries := range found {
			for _, e := range entries {
				if !e.Installed {
					continue
				}
				route := Route{Prefix: netip.MustParsePrefix(text), Uptime: e.Uptime}
				for _, h := range e.NextHops {
					if a, err := netip.ParseAddr(h.IP); err == nil {
						route.NextHops = append(route.NextHops, a)
					}
				}
				out[route.Prefix] = route
			}
		}
	}
	return out
}

// KernelRoutes counts the routes of the router's kernel that came from BGP; it
// is much faster than Routes.
func (r *Router) KernelRoutes() int {
	r.t.Helper()
	return strings.Count(r.Exec("ip", "route", "show", "proto", "bgp"), "\n")
}

// Communities returns the communities of a route in the router's BGP table, and
// its large communities.
func (r *Router) Communities(p netip.Prefix) (communities, large string) {
	r.t.Helper()
	family := "ipv4"
	if p.Addr().Is6() {
		family = "ipv6"
	}
	var found struct {
		Paths []struct {
			Community      struct{ String string }
			LargeCommunity struct{ String string } `json:"largeCommunity"`
		}
	}
	r.must(json.Unmarshal([]byte(r.Vtysh("show bgp "+family+" unicast "+p.String()+" json")), &found))
	if len(found.Paths) == 0 {
		return "", ""
	}
	return found.Paths[0].Community.String, found.Paths[0].LargeCommunity.String
}
