// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/bm-ccm/bm-ccm/conformance/netns"
)

// newNetNS makes a network namespace, whose loopback is down yet.
func newNetNS(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("BM_CCM_REQUIRE_ROOT") == "1" {
			t.Fatal("BM_CCM_REQUIRE_ROOT=1, and this is not root: network namespaces need it")
		}
		t.Skip("not root: network namespaces need it")
	}
	name := fmt.Sprintf("bmnbtest%d", os.Getpid())
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		t.Fatalf("adding a network namespace: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "del", name).CombinedOutput(); err != nil {
			t.Errorf("removing the network namespace: %v: %s", err, out)
		}
	})
	return name
}

func TestNetNS(t *testing.T) {
	ns := newNetNS(t)
	if err := raiseLoopback(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	socket, address, err := listenIn(t.Context(), ns, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.FileListener(socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := socket.Close(); err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.NotFoundHandler()}
	go func() { _ = server.Serve(l) }() // ends with Close
	t.Cleanup(func() { _ = server.Close() })
	res, err := clientIn(ns).Get("http://" + address)
	if err != nil {
		t.Fatal("from within:", err)
	}
	if err := res.Body.Close(); err != nil || res.StatusCode != http.StatusNotFound {
		t.Errorf("from within: %s (%v), want 404", res.Status, err)
	}
	if c, err := new(net.Dialer).DialContext(t.Context(), "tcp", address); err == nil {
		t.Errorf("%s answers outside its network namespace (%v)", address, c.Close())
	}
	checkProcessIn(t.Context(), t, ns)
}

// checkProcessIn starts a program in the namespace.
func checkProcessIn(ctx context.Context, t *testing.T, ns string) {
	t.Helper()
	var out strings.Builder
	cmd := exec.CommandContext(ctx, "readlink", "/proc/self/ns/net")
	cmd.Stdout = &out
	if err := netns.Do(ns, cmd.Run); err != nil {
		t.Fatal(err)
	}
	here, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(out.String()); got == here || got == "" {
		t.Errorf("the program ran in %q, the caller's is %q", got, here)
	}
}
