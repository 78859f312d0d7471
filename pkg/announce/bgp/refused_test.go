// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package bgp_test

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bm-ccm/bm-ccm/pkg/announce/bgp"
	"github.com/bm-ccm/bm-ccm/pkg/announce/bgp/frrtest"
)

// watchKernel records changes of the router's kernel routes for 192.0.2.0/24
// and 2001:db8::/32 until the function that it returns is called.
func watchKernel(t *testing.T, r *frrtest.Router) (stop func() string) {
	t.Helper()
	cmd := r.Command("ip", "-o", "monitor", "route")
	var mu sync.Mutex
	var out bytes.Buffer
	cmd.Stdout = writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return out.Write(p)
	})
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	return func() string {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		mu.Lock()
		defer mu.Unlock()
		var relevant []string
		for line := range strings.Lines(out.String()) {
			if strings.Contains(line, "192.0.2.") || strings.Contains(line, "2001:db8:") {
				relevant = append(relevant, line)
			}
		}
		return strings.Join(relevant, "")
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// down waits for a message that contains all of the words.
func down(t *testing.T, s *bgp.Speaker, words ...string) bgp.Session {
	t.Helper()
	last := ""
	return session(t, s, "tor", upTimeout, func(s bgp.Session) bool {
		if s.Message != last {
			last = s.Message
			t.Logf("%s: %s", s.State, s.Message)
		}
		for _, w := range words {
			if !strings.Contains(s.Message, w) {
				return false
			}
		}
		return !s.Up()
	})
}

func TestRefusedByTheRouter(t *testing.T) {
	tests := []struct {
		name   string
		lines  []string
		change func(*bgp.Peer)
		words  []string
	}{
		{
			name: "our AS is not what it expects", lines: neighbor4,
			change: func(p *bgp.Peer) { p.LocalASN = 64999 },
			words:  []string{"router refused: OPEN Message Error/Bad Peer AS", "64999", `spec.localASN of BGPPeer "tor"`},
		},
		{
			name: "its AS is not what we expect", lines: neighbor4,
			change: func(p *bgp.Peer) { p.PeerASN = 64999 },
			words:  []string{"AS is 64512, not 64999", `spec.peerASN of BGPPeer "tor"`},
		},
		{
			name: "not its neighbor", lines: []string{"bgp graceful-restart"},
			words: []string{"closes the connection without sending a NOTIFICATION", "configure 10.9.1.1 (this node) as its neighbor"},
		},
		{
			name: "shut down", lines: append([]string{"neighbor {4} remote-as 64500", "neighbor {4} shutdown"}, neighbor4[1:]...),
			words: []string{"router", "10.9.1.1"},
		},
		{
			name: "no BGP on that port", lines: neighbor4,
			change: func(p *bgp.Peer) { p.Port = 1790 },
			words:  []string{"connection refused by 10.9.1.2:1790"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := frrtest.New(t, 1, tt.lines...)
			s := newSpeaker(t)
			p := peer("tor", r.Addr4)
			if tt.change != nil {
				tt.change(&p)
			}
			setPeers(t, s, nil, p)
			t.Logf("%+v", down(t, s, tt.words...))
			// It comes up by itself once the mistake is mended.
			if tt.change != nil {
				setPeers(t, s, nil, peer("tor", r.Addr4))
				session(t, s, "tor", upTimeout, up)
			}
		})
	}
}

func TestShutdownText(t *testing.T) {
	r := frrtest.New(t, 1, neighbor4...)
	s := newSpeaker(t)
	setPeers(t, s, nil, peer("tor", r.Addr4))
	session(t, s, "tor", upTimeout, up)
	r.Configure(fmt.Sprintf("router bgp %d", frrtest.ASN), "neighbor "+r.Local4.String()+" shutdown message maintenance of rack 7")
	down(t, s, "router ended the session", "maintenance of rack 7")
}

func TestUnreachable(t *testing.T) {
	r := frrtest.New(t, 1, neighbor4...)
	s := newSpeaker(t)
	t.Run("no route", func(t *testing.T) {
		setPeers(t, s, nil, peer("tor", netip.MustParseAddr("198.51.100.1")))
		down(t, s, "no route to 198.51.100.1", "spec.address of BGPPeer tor")
	})
	t.Run("nobody there", func(t *testing.T) {
		setPeers(t, s, nil, peer("tor", netip.MustParseAddr("10.9.1.77")))
		down(t, s, "10.9.1.77:179", "check spec.address")
	})
	t.Run("a route appears", func(t *testing.T) {
		const late = "10.99.0.2"
		p := peer("tor", netip.MustParseAddr(late))
		p.Multihop = 2
		setPeers(t, s, nil, p)
		down(t, s, "no route to")
		r.Exec("ip", "addr", "add", late+"/32", "dev", "lo")
		add := exec.CommandContext(t.Context(), "ip", "route", "add", late, "via", r.Addr4.String())
		if out, err := add.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		r.Configure(fmt.Sprintf("router bgp %d", frrtest.ASN), "neighbor "+r.Local4.String()+" ebgp-multihop 2",
			"neighbor "+r.Local4.String()+" update-source "+late)
		session(t, s, "tor", upTimeout, up)
	})
}

func TestTwoPeersWithOneAddress(t *testing.T) {
	r := frrtest.New(t, 1, neighbor4...)
	s := newSpeaker(t)
	setPeers(t, s, nil, peer("a", r.Addr4), peer("b", r.Addr4))
	session(t, s, "a", upTimeout, up)
	session(t, s, "b", upTimeout, func(s bgp.Session) bool {
		return strings.Contains(s.Message, `BGPPeer "a" has the address`)
	})
	// The other takes over when the first goes.
	setPeers(t, s, nil, peer("b", r.Addr4))
	session(t, s, "b", upTimeout, up)
}

func TestRouterGoesSilent(t *testing.T) {
	r := frrtest.New(t, 1, neighbor4...)
	s := newSpeaker(t)
	p := peer("tor", r.Addr4)
	p.HoldTime = 3 * time.Second
	setPeers(t, s, nil, p)
	session(t, s, "tor", upTimeout, up)
	r.PauseBGP()
	down(t, s, "hold timer expired")
}

// TestListensNowhere: port 179 belongs to others on the host.
func TestListensNowhere(t *testing.T) {
	newSpeaker(t)
	frrtest.Need(t)
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:179")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}
