// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bm-ccm/bm-ccm/conformance/lab"
	"github.com/bm-ccm/bm-ccm/conformance/lab/labtest"
)

// envCrash makes the test binary a program that makes a lab and waits to be
// killed.
const envCrash = "BM_CCM_TEST_CRASH"

// crashSlot is one that other labs of this machine hardly take meanwhile.
const crashSlot = lab.Slots - 1

func TestMain(m *testing.M) {
	if os.Getenv(envCrash) == "" {
		os.Exit(m.Run())
	}
	slot := crashSlot
	l, err := lab.Start(context.Background(), lab.Options{Nodes: 1, NoCloudProvider: true, Slot: &slot, Log: os.Stderr})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(l.Slot())
	select {}
}

// TestLab makes one lab and looks at everything a test of the product relies
// on.
func TestLab(t *testing.T) {
	l := labtest.Start(t, lab.Options{Nodes: 2, NoCloudProvider: true})
	manifest, err := os.ReadFile("testdata/pods.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Apply(t.Context(), manifest); err != nil {
		t.Fatal(err)
	}
	kubectl(t, l, "rollout", "status", "deployment/web", "--timeout=60s")
	kubectl(t, l, "rollout", "status", "daemonset/agent", "--timeout=60s")

	t.Run("NodePort", func(t *testing.T) { testNodePort(t, l) })
	t.Run("pods", func(t *testing.T) { testPods(t, l) })
	t.Run("service account", func(t *testing.T) { testServiceAccount(t, l) })
	t.Run("bad pods", func(t *testing.T) { testBadPods(t, l) })
	t.Run("exec", func(t *testing.T) { testExec(t, l) })
	t.Run("router", func(t *testing.T) { testRouter(t, l) })
	t.Run("cable", func(t *testing.T) { testCable(t, l) })
	t.Run("power", func(t *testing.T) { testPower(t, l) })
	t.Run("second process", func(t *testing.T) { testOpen(t, l) })
	slot, dir := l.Slot(), l.Dir()
	t.Run("close", func(t *testing.T) {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		gone(t, slot, dir)
	})
}

func kubectl(t testing.TB, l *lab.Lab, args ...string) string {
	t.Helper()
	out, err := l.Kubectl(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// get fetches a URL from the client, on a new connection.
func get(ctx context.Context, l *lab.Lab, addr netip.Addr, port uint16, path string) (string, error) {
	return l.Client().Exec(ctx, "curl", "-sS", "--max-time", "2", fmt.Sprintf("http://%s%s", netip.AddrPortFrom(addr, port), path))
}

// testNodePort reaches both pods through either node and family.
func testNodePort(t *testing.T, l *lab.Lab) {
	for _, n := range l.Nodes() {
		for _, addr := range []netip.Addr{n.Addr(), n.Addr6()} {
			seen := map[string]bool{}
			labtest.Eventually(t, 20*time.Second, func(ctx context.Context) error {
				name, err := get(ctx, l, addr, 30080, "/hostname")
				if err != nil {
					return err
				}
				if seen[name] = true; len(seen) < 2 {
					return fmt.Errorf("only %v answered on %s", seen, addr)
				}
				return nil
			})
		}
	}
}

// testPods looks at what a restricted container is given.
func testPods(t *testing.T, l *lab.Lab) {
	pod := kubectl(t, l, "get", "pod", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.name}")
	for _, c := range []struct{ name, script, want string }{
		{"user", "id -u; id -g", "65532\n65532"},
		{"config map", "cat /etc/web/greeting", "hello from a config map"},
		{"host name", "hostname", pod},
		{"pid namespace", "cat /proc/1/cmdline | tr '\\0' ' '", "/agnhost netexec --http-port=8080"},
		{"read-only root", "touch /x 2>/dev/null || echo refused", "refused"},
		{"scratch", "touch /scratch/x && ls /scratch", "x"},
		{"DNS", "grep nameserver /etc/resolv.conf", "nameserver 10.96.0.10"},
		{"capabilities", "grep CapBnd /proc/1/status | tr -d '[:space:]'", "CapBnd:0000000000000000"},
		{"privileges", "grep NoNewPrivs /proc/1/status | tr -d '[:space:]'", "NoNewPrivs:1"},
		{"network", "ls /sys/class/net | tr '\\n' ' '", "eth0 lo"},
	} {
		if got := kubectl(t, l, "exec", pod, "--", "sh", "-c", c.script); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if got := kubectl(t, l, "logs", pod); !strings.Contains(got, "Started HTTP server") {
		t.Errorf("logs: %q", got)
	}
}

// testServiceAccount asks the API as the pod's service account: what its role
// allows, and what it does not.
func testServiceAccount(t *testing.T, l *lab.Lab) {
	const ask = `d=/var/run/secrets/kubernetes.io/serviceaccount
curl -sS -o /dev/null -w '%{http_code} ' --cacert $d/ca.crt -H "Authorization: Bearer $(cat $d/token)" \
  https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT/api/v1/nodes \
  https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT/api/v1/secrets -o /dev/null`
	pod := kubectl(t, l, "get", "pod", "-l", "app=agent", "-o", "jsonpath={.items[0].metadata.name}")
	if got := kubectl(t, l, "exec", pod, "--", "sh", "-c", ask); got != "200 403" {
		t.Errorf("list nodes, list secrets: %q, want 200 and 403", got)
	}
}

// testBadPods wants pods that cannot run to say why.
func testBadPods(t *testing.T, l *lab.Lab) {
	for pod, want := range map[string]string{
		"unknown": `image "example.com/not/known:1" is unknown to the lab`,
		"broken":  "/no/such/program: no such file or directory",
	} {
		labtest.Eventually(t, 20*time.Second, func(ctx context.Context) error {
			out, err := l.Kubectl(ctx, "get", "events", "--field-selector", "involvedObject.name="+pod, "-o", "jsonpath={.items[*].message}")
			if err == nil && !strings.Contains(out, want) {
				err = fmt.Errorf("events of pod %s do not say %q: %s", pod, want, out)
			}
			return err
		})
	}
}

// testExec passes input, output and the exit code through exec.
func testExec(t *testing.T, l *lab.Lab) {
	pod := kubectl(t, l, "get", "pod", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.name}")
	cmd := l.KubectlCommand(t.Context(), "exec", "-i", pod, "--", "sh", "-c", "tr a-z A-Z; exit 7")
	cmd.Stdin = strings.NewReader("shout")
	out, err := cmd.Output()
	if string(out) != "SHOUT" || cmd.ProcessState.ExitCode() != 7 {
		t.Errorf("output %q, %v; want SHOUT and exit code 7", out, err)
	}
}

// testRouter announces a route from n1 with another BGP daemon and finds it in
// the router's kernel.
func testRouter(t *testing.T, l *lab.Lab) {
	n := l.Node(1)
	dir := filepath.Join(l.Dir(), "speaker")
	if out, err := exec.CommandContext(t.Context(), "install", "-d", "-o", "frr", "-g", "frr", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	conf := fmt.Sprintf(`router bgp %d
 bgp router-id %s
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor %[3]s remote-as %d
 address-family ipv4 unicast
  network 203.0.113.7/32
`, lab.NodeASN, n.Addr(), l.Router().Addr(), lab.RouterASN)
	if err := os.WriteFile(filepath.Join(dir, "bgpd.conf"), []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	speaker := n.Command(t.Context(), "/usr/lib/frr/bgpd", "-Z", "-f", filepath.Join(dir, "bgpd.conf"),
		"-i", filepath.Join(dir, "pid"), "--vty_socket", dir, "-P", "0", "-p", "1179")
	if err := speaker.Start(); err != nil {
		t.Fatal(err)
	}
	want := netip.MustParsePrefix("203.0.113.7/32")
	find := func(ctx context.Context) (bool, error) {
		routes, err := l.Router().Routes(ctx)
		return slices.ContainsFunc(routes, func(r lab.Route) bool {
			return r.Prefix == want && slices.Equal(r.NextHops, []netip.Addr{n.Addr()})
		}), err
	}
	expect := func(present bool) func(context.Context) error {
		return func(ctx context.Context) error {
			found, err := find(ctx)
			if err == nil && found != present {
				summary, _ := l.Router().Vtysh(ctx, "show bgp summary")
				err = fmt.Errorf("route to %s via %s: %t, want %t\n%s", want, n.Addr(), found, present, summary)
			}
			return err
		}
	}
	labtest.Eventually(t, 30*time.Second, expect(true))
	if err := speaker.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := speaker.Wait(); err == nil {
		t.Error("the speaker ended by itself")
	}
	labtest.Eventually(t, 30*time.Second, expect(false))
}

// testCable cuts a node off in both ways and reconnects it.
func testCable(t *testing.T, l *lab.Lab) {
	n := l.Node(2)
	reach := func(ctx context.Context) error {
		_, err := l.Client().Exec(ctx, "nc", "-z", "-w", "1", n.Addr().String(), "10250")
		return err
	}
	for _, c := range []struct {
		name     string
		cut, fix func(context.Context) error
	}{{"unplugged", n.Unplug, n.Plug}, {"silenced", n.Silence, n.Unsilence}} {
		if err := c.cut(t.Context()); err != nil {
			t.Fatal(err)
		}
		if reach(t.Context()) == nil {
			t.Errorf("n2 is reached while %s", c.name)
		}
		if err := c.fix(t.Context()); err != nil {
			t.Fatal(err)
		}
		labtest.Eventually(t, 20*time.Second, reach)
	}
}

// testPower turns a node off and on; its pods come back.
func testPower(t *testing.T, l *lab.Lab) {
	n := l.Node(1)
	if err := n.PowerOff(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := get(t.Context(), l, n.Addr(), 30080, "/hostname"); err == nil {
		t.Error("n1 answers without power")
	}
	if err := n.PowerOn(t.Context()); err != nil {
		t.Fatal(err)
	}
	labtest.Eventually(t, 60*time.Second, func(ctx context.Context) error {
		_, err := get(ctx, l, n.Addr(), 8099, "/hostname") // the DaemonSet's pod
		return err
	})
}

// testOpen uses the lab as another process would.
func testOpen(t *testing.T, l *lab.Lab) {
	other, err := lab.Open(l.Slot())
	if err != nil {
		t.Fatal(err)
	}
	if got := kubectl(t, other, "get", "nodes", "-o", "name"); got != "node/n1\nnode/n2" {
		t.Errorf("nodes: %q", got)
	}
	if err := lab.Remove(l.Slot()); err == nil {
		t.Error("a living process's lab was removed from outside")
	}
}

// gone checks that nothing of the lab is left.
func gone(t *testing.T, slot int, dir string) {
	t.Helper()
	names, err := filepath.Glob(fmt.Sprintf("/run/netns/bmccm%d-*", slot))
	if err != nil || len(names) > 0 {
		t.Errorf("namespaces are left: %v, %v", names, err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", dir, err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), dir+"/") {
		t.Errorf("mounts below %s are left (%v)", dir, err)
	}
	for _, cmdline := range processes(t) {
		if strings.Contains(cmdline, dir+"/") {
			t.Errorf("a process is left: %s", cmdline)
		}
	}
}

func processes(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, path := range paths {
		if raw, err := os.ReadFile(path); err == nil { // it may have ended meanwhile
			out = append(out, strings.ReplaceAll(string(raw), "\x00", " "))
		}
	}
	return out
}

// TestCrash kills the process that made a lab, and makes another.
func TestCrash(t *testing.T) {
	labtest.Require(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	victim := exec.CommandContext(t.Context(), self)
	victim.Env = append(os.Environ(), envCrash+"=1")
	victim.Stderr = t.Output()
	pipe, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	var slot int
	if _, err := fmt.Fscan(bufio.NewReader(pipe), &slot); err != nil {
		t.Fatal(err)
	}
	dir := labDir(t, slot)
	if err := victim.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := victim.Wait(); err == nil {
		t.Error("the process ended well although it was killed")
	}
	labtest.Start(t, lab.Options{Nodes: 1, NoCloudProvider: true})
	gone(t, slot, dir)
}

func labDir(t *testing.T, slot int) string {
	t.Helper()
	l, err := lab.Open(slot)
	if err != nil {
		t.Fatal(err)
	}
	return l.Dir()
}
