// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// moment is when in a write the controller dies.
type moment string

const (
	before moment = "before the write"
	after  moment = "after the commit"
)

// guillotine kills the controller at one of its writes, counted over all
// proxies.
type guillotine struct {
	kill func()

	mu     sync.Mutex
	left   int // writes to let pass; negative: not armed
	when   moment
	writes []string // since it was armed
	struck string   // the write that it fell at
}

// arm makes it fall at the n-th write from now on; 0 is the next one.
func (g *guillotine) arm(n int, when moment) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left, g.when, g.writes, g.struck = n, when, nil, ""
}

// disarm lets all pass, and tells where it has fallen.
func (g *guillotine) disarm() (struck string, writes []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left = -1
	return g.struck, g.writes
}

// reach is called for each write; it says when to strike, or "".
func (g *guillotine) reach(write string) moment {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.writes = append(g.writes, write)
	if g.left < 0 {
		return ""
	}
	if g.left--; g.left >= 0 {
		return ""
	}
	g.struck = fmt.Sprintf("%s: %s", g.when, write)
	return g.when
}

// fault is what a proxy does to a request instead of forwarding it.
type fault string

const (
	slow     fault = "slow"  // forwarded after a while
	down     fault = "503"   // answered 503
	refused  fault = "403"   // answered 403
	reset    fault = "reset" // the connection breaks, nothing done
	lost     fault = "lost"  // done, and the connection breaks
	late     fault = "late"  // done after the client has given up
	maxDelay       = 300 * time.Millisecond
)

// faultMix is how often which fault happens, in per cent of the requests.
type faultMix map[fault]int

func (m faultMix) pick() fault {
	n := rand.IntN(100)
	for _, f := range []fault{slow, down, refused, reset, lost, late} {
		if n -= m[f]; n < 0 {
			return f
		}
	}
	return ""
}

// proxy stands between the controller and a server.
type proxy struct {
	name    string
	target  *url.URL
	rt      http.RoundTripper
	through http.Handler
	// counts tells which requests count as writes for the guillotine.
	counts func(*http.Request) bool
	blade  *guillotine
	url    string
	// patience is how long the controller waits for an answer.
	patience time.Duration

	mu     sync.Mutex
	faults faultMix
	hits   map[fault]int
	// cut makes every request fail, as a server that is not there.
	cut      atomic.Bool
	requests atomic.Int64
	// busy are the requests that the server is at work on.
	busy sync.WaitGroup
}

func newProxy(t *testing.T, name, target string, rt http.RoundTripper, blade *guillotine, counts func(*http.Request) bool) *proxy {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{name: name, target: u, rt: rt, blade: blade, counts: counts, hits: map[fault]int{}}
	p.through = &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(u) },
		Transport:     rt,
		FlushInterval: -1, // watches
		ErrorHandler:  func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	s := httptest.NewServer(p)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	p.url = s.URL
	return p
}

// hurt sets the faults from now on; nil ends them.
func (p *proxy) hurt(mix faultMix) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = mix
}

// hitCounts are the faults that happened so far.
func (p *proxy) hitCounts() map[fault]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.hits)
}

func (p *proxy) next() fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.faults.pick()
	if f != "" {
		p.hits[f]++
	}
	return f
}

// ServeHTTP implements http.Handler.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.requests.Add(1)
	if p.cut.Load() {
		panic(http.ErrAbortHandler)
	}
	if p.counts(r) {
		when := p.blade.reach(fmt.Sprintf("%s %s %s", p.name, r.Method, r.URL.Path))
		if when != "" {
			p.strike(r, when)
		}
	}
	switch p.next() {
	case slow:
		time.Sleep(rand.N(maxDelay))
	case down:
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case refused:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"detail":"You do not have permission to perform this action."}`))
		return
	case reset:
		panic(http.ErrAbortHandler)
	case lost:
		p.commit(r, 0)
		panic(http.ErrAbortHandler)
	case late:
		p.commit(r, p.patience+maxDelay)
		panic(http.ErrAbortHandler)
	}
	p.through.ServeHTTP(w, r)
}

// strike kills the controller; nothing is answered to the dead.
func (p *proxy) strike(r *http.Request, when moment) {
	if when == after {
		p.commit(r, 0)
	}
	p.blade.kill()
	panic(http.ErrAbortHandler)
}

// commit has the server do what was asked, after a delay, whether or not the
// client is still there, and drops the answer.
func (p *proxy) commit(r *http.Request, delay time.Duration) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client died in the middle of the request
	}
	p.busy.Add(1)
	defer p.busy.Done()
	time.Sleep(delay)
	out := r.Clone(context.WithoutCancel(r.Context()))
	out.URL.Scheme, out.URL.Host, out.Host, out.RequestURI = p.target.Scheme, p.target.Host, "", ""
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	res, err := p.rt.RoundTrip(out)
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, res.Body) // the answer is nobody's
	_ = res.Body.Close()
}

// writesOnServices are the writes on the Kubernetes API that belong to a
// Service's life. Events and the status of pools come when they come.
func writesOnServices(r *http.Request) bool {
	return r.Method != http.MethodGet && strings.Contains(r.URL.Path, "/services/")
}

// writes are all writes, for NetBox.
func writes(r *http.Request) bool { return r.Method != http.MethodGet }
