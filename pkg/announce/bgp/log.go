// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"context"
	"log/slog"
	"net/netip"

	"github.com/go-logr/logr"
)

// logHandler passes what gobgp logs on to the program's logger: errors as
// errors, what happens to sessions at V(2), the rest at V(4). It also calls
// onEvent for the steps in which a session is opened, because gobgp reports them
// nowhere else: its events have the states of a session, not why one failed.
type logHandler struct {
	log     logr.Logger
	onEvent func(router netip.Addr, what logEvent, text string)
	// key is the router's address: gobgp gives each session a logger with it as
	// the attribute "Key".
	key   string
	attrs []any
}

// Verbosity of what gobgp logs at Info and at Debug. At the default of 0 an agent
// logs nothing of its sessions: their state is in the NodeAnnouncement, and
// gobgp logs several lines for each of the attempts at a router that is down.
const (
	infoLevel  = 2
	debugLevel = 4
)

func (h *logHandler) Enabled(context.Context, slog.Level) bool {
	// Failed connection attempts are logged at debug level, and match must see
	// them whatever the program's own level.
	return true
}

func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	h.match(r)
	level := infoLevel
	if r.Level < slog.LevelInfo {
		level = debugLevel
	}
	isError := r.Level >= slog.LevelError
	if !isError && !h.log.V(level).Enabled() {
		return nil
	}
	// The capacity is cut off so that append copies: handlers of one session
	// share the array, and gobgp logs from several goroutines.
	values := h.attrs[:len(h.attrs):len(h.attrs)]
	r.Attrs(func(a slog.Attr) bool {
		values = append(values, a.Key, a.Value.String())
		return true
	})
	if isError {
		h.log.Error(nil, r.Message, values...)
		return nil
	}
	h.log.V(level).Info(r.Message, values...)
	return nil
}

// logEvent is something about a session that is only in the log.
type logEvent int

const (
	// logDialFailed: no TCP connection; the text is the error.
	logDialFailed logEvent = iota + 1
	// logConnected: there is a TCP connection, and the OPEN goes out next.
	logConnected
	// logNotification: the router sent a Cease with a text (RFC 9003).
	logNotification
	// logNotificationSent: we ended the session; the text is the error code.
	logNotificationSent
)

// logPatterns are the messages of records that matter, with the attribute that
// holds the text. gobgp promises nothing about its log: TestRefusedByTheRouter
// and TestShutdownText fail if a new version words them differently.
var logPatterns = map[string]struct {
	event logEvent
	attr  string
}{
	"failed to connect":               {logDialFailed, "Error"},
	"outgoing connection established": {logConnected, ""},
	"received notification":           {logNotification, "Communicated-Reason"},
	"sent notification":               {logNotificationSent, "Code"},
}

// match calls onEvent if the record is one of logPatterns and says which router
// it is about. A record that lacks its text is passed over: onEvent would take an
// empty error for the reason.
func (h *logHandler) match(r slog.Record) {
	t, ok := logPatterns[r.Message]
	if !ok {
		return
	}
	router, err := netip.ParseAddr(h.key)
	if err != nil {
		return
	}
	text := ""
	r.Attrs(func(a slog.Attr) bool {
		if t.attr != "" && a.Key == t.attr {
			text = a.Value.String()
		}
		return true
	})
	if text != "" || t.attr == "" {
		h.onEvent(router, t.event, text)
	}
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	n := *h
	n.attrs = h.attrs[:len(h.attrs):len(h.attrs)]
	for _, a := range attrs {
		if a.Key == "Key" {
			n.key = a.Value.String()
		}
		n.attrs = append(n.attrs, a.Key, a.Value.String())
	}
	return &n
}

// WithGroup ignores groups: gobgp makes none.
func (h *logHandler) WithGroup(string) slog.Handler { return h }
