// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-logr/logr"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

func fuzzPeer() *Peer {
	return &Peer{
		Name: "tor", Address: netip.MustParseAddr("192.0.2.1"), Port: 179, PeerASN: 64512, LocalASN: 64500, HoldTime: 9 * time.Second,
	}
}

// The text of a Cease comes from a router and ends up in a Kubernetes object.
func FuzzShutdownText(f *testing.F) {
	for _, seed := range []string{"", "\x00", "\x04rack", "\x05rack", "\x02\xff\xfe", "\xffrack"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got := shutdownText(data)
		if !utf8.ValidString(got) || len(got) > len(data) {
			t.Errorf("%q becomes %q", data, got)
		}
	})
}

// messages are well-formed answers of a router.
func messages(t testing.TB) map[string][]byte {
	t.Helper()
	open := fuzzPeer()
	open.LocalASN, open.PeerASN = open.PeerASN, open.LocalASN
	four := fuzzPeer()
	four.LocalASN = 4200000001
	id := netip.MustParseAddr("192.0.2.1")
	out := map[string][]byte{}
	for name, m := range map[string]*bgp.BGPMessage{
		"keepalive": bgp.NewBGPKeepAliveMessage(), "open": open.open(id), "open of another AS": four.open(id),
		"bad peer AS": bgp.NewBGPNotificationMessage(bgp.BGP_ERROR_OPEN_MESSAGE_ERROR, bgp.BGP_ERROR_SUB_BAD_PEER_AS, nil),
		"cease":       bgp.NewBGPNotificationMessage(bgp.BGP_ERROR_CEASE, bgp.BGP_ERROR_SUB_ADMINISTRATIVE_SHUTDOWN, []byte("\x04rack")),
	} {
		data, err := m.Serialize()
		if err != nil {
			t.Fatal(err)
		}
		out[name] = data
	}
	return out
}

// reader is a connection on which the router sends what is given and hangs up.
type reader struct {
	net.Conn
	io.Reader
}

func (r reader) Read(p []byte) (int, error) { return r.Reader.Read(p) }

// Whatever listens on the port of a router, a probe ends with a sentence, or with
// none if a router accepted our OPEN.
func FuzzReadRefusal(f *testing.F) {
	known := messages(f)
	for _, m := range known {
		f.Add(m)
	}
	f.Add(append(bytes.Clone(known["open"]), known["cease"]...))
	f.Add([]byte("SSH-2.0-OpenSSH_9.7\r\n"))
	f.Add(bytes.Repeat([]byte{0xff}, 64))
	f.Fuzz(func(t *testing.T, data []byte) {
		text := fuzzPeer().readRefusal(reader{Reader: bytes.NewReader(data)}, netip.MustParseAddr("192.0.2.2"))
		if !utf8.ValidString(text) {
			t.Errorf("%x: %q", data, text)
		}
		if text == "" && len(data) < bgp.BGP_HEADER_LENGTH {
			t.Errorf("%x is taken for an accepted OPEN", data)
		}
	})
}

// What is known of the answers of routers is said in words that name it.
func TestReadRefusal(t *testing.T) {
	known := messages(t)
	tests := []struct {
		name   string
		answer []byte
		want   string
	}{
		{"accepted", append(bytes.Clone(known["open"]), known["keepalive"]...), ""},
		{"another AS", known["open of another AS"], "the router's AS is 4200000001, not 64512"},
		{"refused", append(bytes.Clone(known["open"]), known["bad peer AS"]...), "Bad Peer AS"},
		{"shut down", known["cease"], `("rack")`},
		{"closed", nil, "without sending a NOTIFICATION"},
		{"closed after OPEN", known["open"], "without sending a NOTIFICATION"},
		{"no BGP", []byte("SSH-2.0-OpenSSH_9.7\r\n"), "without sending a NOTIFICATION"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := fuzzPeer().readRefusal(reader{Reader: bytes.NewReader(tt.answer)}, netip.MustParseAddr("192.0.2.2"))
			if !strings.Contains(got, tt.want) || tt.want == "" && got != "" {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// Events come from records of the known forms only, with a router and, where the
// form has one, with a text.
func FuzzLogRecord(f *testing.F) {
	f.Add("failed to connect", "192.0.2.1", "Error", "connection refused")
	f.Add("outgoing connection established", "2001:db8::1", "", "")
	f.Add("outgoing connection established", "2001:db8::1", "", "an attribute without a key")
	f.Add("received notification", "192.0.2.1", "Communicated-Reason", "rack \xff")
	f.Add("sent notification", "", "Code", "4")
	f.Add("sent notification", "192.0.2.1", "Code", "")
	f.Fuzz(func(t *testing.T, message, key, attr, value string) {
		calls := 0
		h := &logHandler{log: logr.Discard(), onEvent: func(router netip.Addr, what logEvent, text string) {
			calls++
			p, known := logPatterns[message]
			if !known || p.event != what || router.String() == "" || !router.IsValid() {
				t.Errorf("%q of %q is event %d of %s", message, key, what, router)
			}
			if (text == "") != (p.attr == "") {
				t.Errorf("%q has the text %q", message, text)
			}
		}}
		slog.New(h).With("Key", key).LogAttrs(context.Background(), slog.LevelInfo, message, slog.String(attr, value))
		if calls > 1 {
			t.Errorf("%d events of one record", calls)
		}
	})
}

// Every reason and error of gobgp becomes a sentence; those that are not known
// are shown as they are.
func FuzzExplain(f *testing.F) {
	for _, seed := range []string{"", "notification-received ", "notification-received code 6(cease) subcode 2", "bad-peer-as", "read-failed",
		"hold-timer-expired", "dial tcp 192.0.2.1:179: connect: connection refused", "i/o timeout", "no route to host"} {
		f.Add(seed, seed, false)
	}
	f.Fuzz(func(t *testing.T, reason, shutdown string, expired bool) {
		p := &peer{Peer: *fuzzPeer(), reason: reason, dialError: reason, shutdownText: shutdown, holdExpired: expired}
		for _, text := range []string{p.explainReason(), p.explainDial()} {
			if text == "" || utf8.ValidString(reason) && !utf8.ValidString(text) {
				t.Errorf("%q, %q: %q", reason, shutdown, text)
			}
			if strings.Contains(text, "\n") && !strings.Contains(reason, "\n") {
				t.Errorf("%q, %q: more than one line: %q", reason, shutdown, text)
			}
		}
	})
}
