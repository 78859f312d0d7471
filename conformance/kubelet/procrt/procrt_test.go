// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package procrt

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestRepository(t *testing.T) {
	for ref, want := range map[string]string{
		"luksa/kiada:0.5":                             "luksa/kiada",
		"registry.k8s.io/e2e-test-images/agnhost":     "registry.k8s.io/e2e-test-images/agnhost",
		"localhost:5000/bm-ccm":                       "localhost:5000/bm-ccm",
		"localhost:5000/bm-ccm:v1":                    "localhost:5000/bm-ccm",
		"ghcr.io/bm-ccm/bm-ccm:v1@sha256:0123456789a": "ghcr.io/bm-ccm/bm-ccm",
	} {
		if got := Repository(ref); got != want {
			t.Errorf("Repository(%q) = %q, want %q", ref, got, want)
		}
	}
}

// TestFind finds images of the default registry by their short names, too.
func TestFind(t *testing.T) {
	rt := &Runtime{cfg: Config{Images: map[string]Image{
		"docker.io/library/mysql": {Command: []string{"/mysql"}},
		"docker.io/luksa/kiada":   {Command: []string{"/kiada"}},
	}}}
	for ref, want := range map[string]bool{
		"mysql:8": true, "luksa/kiada:0.5": true, "docker.io/luksa/kiada": true, "kiada": false, "example.com/mysql": false,
	} {
		if _, got := rt.find(ref); got != want {
			t.Errorf("find(%q) = %t, want %t", ref, got, want)
		}
	}
}

// TestTake never gives an address twice, and gives a released one again only
// after the others.
func TestTake(t *testing.T) {
	n := newPodNetwork("x-", []netip.Prefix{netip.MustParsePrefix("10.1.0.0/29"), netip.MustParsePrefix("fd00::/64")})
	var first []netip.Addr
	seen := map[netip.Addr]bool{}
	for i := range 5 { // .2 to .6; .1 is the gateway, .0 and .7 are not used
		got, err := n.take()
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = got
		}
		for _, a := range got {
			if seen[a] {
				t.Errorf("round %d: %s again", i, a)
			}
			seen[a] = true
		}
	}
	if seen[netip.MustParseAddr("10.1.0.1")] || seen[netip.MustParseAddr("10.1.0.7")] {
		t.Errorf("gateway or broadcast address given: %v", seen)
	}
	if got, err := n.take(); err == nil {
		t.Errorf("a full network gave %v", got)
	}
	n.release(first)
	if got, err := n.take(); err != nil || got[0] != first[0] {
		t.Errorf("after a release: %v, %v; want %s", got, err, first[0])
	}
}

type buffer struct{ bytes.Buffer }

func (*buffer) Close() error { return nil }

// TestLog writes the format that the kubelet reads, whatever pieces the text
// comes in.
func TestLog(t *testing.T) {
	long := strings.Repeat("x", maxLine+10)
	var b buffer
	log := &logFile{w: &b}
	s := log.stream("stdout")
	for _, piece := range []string{"one\ntw", "o\n", "\n", long + "\nlast"} {
		if n, err := s.Write([]byte(piece)); err != nil || n != len(piece) {
			t.Fatalf("Write: %d, %v", n, err)
		}
	}
	if err := s.flush(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(b.String()) {
		_, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ") // the time
		got = append(got, rest)
	}
	want := []string{"stdout F one", "stdout F two", "stdout F ", "stdout P " + long[:maxLine], "stdout F " + long[maxLine:], "stdout F last"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q", got)
	}
}

func TestResolvConf(t *testing.T) {
	got := string(resolvConf(&runtimeapi.DNSConfig{
		Servers: []string{"10.96.0.10"}, Searches: []string{"a.local", "local"}, Options: []string{"ndots:5"},
	}))
	if want := "nameserver 10.96.0.10\nsearch a.local local\noptions ndots:5\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
