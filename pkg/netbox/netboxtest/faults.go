// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// Fault is something that goes wrong with the requests that it matches. Times
// and the kinds of failure can be combined; the zero Fault does nothing to
// every request.
type Fault struct {
	// Match chooses requests, beyond Method and Path; nil is all.
	Match func(*http.Request) bool `json:"-"`
	// Method is the HTTP method; empty is any.
	Method string `json:"method,omitempty"`
	// Path is a regular expression on path and query; empty is any.
	Path string `json:"path,omitempty"`
	// Skip lets that many matching requests pass first.
	Skip int `json:"skip,omitempty"`
	// Times is how many requests it hits; 0 is all until it is removed.
	Times int `json:"times,omitempty"`

	// Latency is waited before the request is handled.
	Latency Duration `json:"latency,omitempty"`
	// GapLatency is waited between validation and commit of a bulk change,
	// where NetBox holds no lock.
	GapLatency Duration `json:"gapLatency,omitempty"`
	// HangBeforeCommit never answers and does nothing: until the client gives
	// up or the fault is removed, which breaks the connection.
	HangBeforeCommit bool `json:"hangBeforeCommit,omitempty"`
	// HangAfterCommit does what was asked, then never answers.
	HangAfterCommit bool `json:"hangAfterCommit,omitempty"`
	// LoseAnswerAfterCommit does what was asked, then breaks the connection.
	LoseAnswerAfterCommit bool `json:"loseAnswerAfterCommit,omitempty"`
	// Reset breaks the connection and does nothing, as a restart does.
	Reset bool `json:"reset,omitempty"`
	// Status is answered instead of doing anything.
	Status int `json:"status,omitempty"`
	// Header goes with Status, for example Retry-After.
	Header map[string]string `json:"header,omitempty"`
	// Body goes with Status; {"detail": ...} if empty.
	Body string `json:"body,omitempty"`
	// HTMLBody makes the answer a page of a proxy: with Status instead of doing
	// anything, without it a page with status 200.
	HTMLBody bool `json:"htmlBody,omitempty"`
	// Truncate does what was asked and breaks the connection in the middle of
	// the answer's body.
	Truncate bool `json:"truncate,omitempty"`
}

// Duration is a time.Duration that is a text like "1.5s" in JSON.
type Duration time.Duration

// MarshalText writes "1.5s".
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads "1.5s".
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("duration: %w", err)
	}
	*d = Duration(v)
	return nil
}

// activeFault is a fault in the list.
type activeFault struct {
	Fault
	id   int
	path *regexp.Regexp
	seen int
	gone chan struct{} // closed on removal
}

// faultList holds the faults, of which the first that matches is used.
type faultList struct {
	mu   sync.Mutex
	last int
	list []*activeFault
}

// Inject adds a fault and returns what removes it. Of several faults the one
// injected first that matches a request is used. It panics if Path is no
// regular expression.
func (s *Server) Inject(f Fault) (remove func()) {
	id, err := s.faults.add(f)
	if err != nil {
		panic("netboxtest: " + err.Error())
	}
	return func() { s.faults.remove(id) }
}

// ClearFaults removes all faults.
func (s *Server) ClearFaults() { s.faults.remove(0) }

// add makes a fault active and returns its id.
func (l *faultList) add(f Fault) (int, error) {
	re, err := regexp.Compile(f.Path)
	if err != nil {
		return 0, fmt.Errorf("fault: path: %w", err)
	}
	if f.Status != 0 && (f.Status < 200 || f.Status > 599) {
		return 0, fmt.Errorf("fault: status %d: want 200 to 599", f.Status)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	l.list = append(l.list, &activeFault{Fault: f, id: l.last, path: re, gone: make(chan struct{})})
	return l.last, nil
}

// remove removes one fault, or all for id 0; it reports whether there was one.
func (l *faultList) remove(id int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	var keep []*activeFault
	for _, f := range l.list {
		if id != 0 && f.id != id {
			keep = append(keep, f)
			continue
		}
		close(f.gone)
	}
	found := len(keep) < len(l.list)
	l.list = keep
	return found
}

// take finds the fault for a request, if any, and counts it.
func (l *faultList) take(r *http.Request) *activeFault {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.list {
		if !f.matches(r) {
			continue
		}
		f.seen++
		if f.seen <= f.Skip || f.Times > 0 && f.seen > f.Skip+f.Times {
			continue
		}
		return f
	}
	return nil
}

// matches reports whether a fault is for a request, however often it has happened.
func (f *activeFault) matches(r *http.Request) bool {
	return (f.Method == "" || f.Method == r.Method) && f.path.MatchString(r.URL.RequestURI()) &&
		(f.Match == nil || f.Match(r))
}

// errCutShort ends a request whose client has left while a fault let it wait.
var errCutShort = errors.New("the request was cut short")

// serve lets do answer a request, or not, as the fault has it. do gets a
// function to call between the validation and the commit of a bulk change.
func (f *activeFault) serve(w *recorder, r *http.Request, do func(context.Context, func() error) *answered) {
	ctx := r.Context()
	if f == nil {
		w.send(do(ctx, func() error { return nil }), 0)
		return
	}
	if err := f.wait(ctx, time.Duration(f.Latency)); err != nil {
		abort()
	}
	switch {
	case f.Reset:
		abort()
	case f.HangBeforeCommit:
		f.hang(ctx)
	case f.Status != 0:
		w.send(f.fake(), 0)
		return
	}
	a := do(ctx, func() error { return f.wait(ctx, time.Duration(f.GapLatency)) })
	switch {
	case f.HangAfterCommit:
		f.hang(ctx)
	case f.LoseAnswerAfterCommit:
		abort()
	case f.HTMLBody:
		w.send(f.fake(), 0)
	case f.Truncate:
		w.send(a, len(a.body)/2)
		abort()
	default:
		w.send(a, 0)
	}
}

// abort breaks the connection, without a log line of net/http.
func abort() { panic(http.ErrAbortHandler) }

// hang never answers.
func (f *activeFault) hang(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-f.gone:
	}
	abort()
}

// wait lets time pass, unless the client leaves first.
func (f *activeFault) wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return errCutShort
	}
}

// fake is the answer of a fault.
func (f *activeFault) fake() *answered {
	a := &answered{status: f.Status, header: http.Header{}}
	if a.status == 0 {
		a.status = http.StatusOK
	}
	switch {
	case f.HTMLBody:
		a.header.Set("Content-Type", "text/html")
		a.body = fmt.Appendf(nil, "<html>\r\n<head><title>%d %s</title></head>\r\n<body>\r\n<center><h1>%d %s</h1></center>\r\n"+
			"<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n", a.status, http.StatusText(a.status), a.status, http.StatusText(a.status))
	default:
		a.header.Set("Content-Type", "application/json")
		a.body = []byte(`{"detail":"` + http.StatusText(a.status) + `"}`)
	}
	if f.Body != "" {
		a.body = []byte(f.Body)
	}
	for k, v := range f.Header {
		a.header.Set(k, v)
	}
	return a
}

// send writes an answer, or only its first bytes if cut is not 0.
func (w *recorder) send(a *answered, cut int) {
	maps.Copy(w.w.Header(), a.header)
	w.w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	if a.status == http.StatusNoContent {
		w.w.Header().Del("Content-Length")
	}
	w.status = a.status
	w.note()
	w.w.WriteHeader(a.status)
	body := a.body
	if cut > 0 {
		body = body[:cut]
	}
	_, _ = w.w.Write(body) // a client that went away is no concern of NetBox
	if cut > 0 {
		if f, ok := w.w.(http.Flusher); ok {
			f.Flush()
		}
	}
}
