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
// errors, what happens to sessions at V(2), the rest at V(4). It also hands
// what tells how the opening of a session goes to onEvent, because gobgp tells
// that nowhere else.
type logHandler struct {
	log     logr.Logger
	onEvent func(router netip.Addr, what logEvent, text string)
	key     string
	attrs   []any
}

const (
	infoLevel  = 2
	debugLevel = 4
)

func (h *logHandler) Enabled(context.Context, slog.Level) bool {
	// Failed connection attempts are logged at debug level.
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

// logEvent is something that only the log tells.
type logEvent int

const (
	logDialFailed logEvent = iota + 1
	logConnected
	logNotification
	logNotificationSent
)

// The records that tell something, and the attribute that holds the text.
// TestRefusedByTheRouter and TestShutdownText fail if a new gobgp words them
// differently.
var logPatterns = map[string]struct {
	event logEvent
	attr  string
}{
	"failed to connect":               {logDialFailed, "Error"},
	"outgoing connection established": {logConnected, ""},
	"received notification":           {logNotification, "Communicated-Reason"},
	"sent notification":               {logNotificationSent, "Code"},
}

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
		if a.Key == t.attr {
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
