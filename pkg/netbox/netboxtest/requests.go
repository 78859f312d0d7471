// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxRequests is how many requests the log keeps in full.
const maxRequests = 10000

// Request is one API request that was made.
type Request struct {
	Method string `json:"method"`
	// Path has no query; Query is the raw one.
	Path  string `json:"path"`
	Query string `json:"query,omitempty"`
	// Body as it was read: empty for a chunked one.
	Body string `json:"body,omitempty"`
	// Chunked tells that the body came without a Content-Length.
	Chunked bool `json:"chunked,omitempty"`
	// Status is what was answered; 0 if no answer was sent.
	Status int       `json:"status"`
	Time   time.Time `json:"time"`
	// Took is from the end of the request's body to the answer.
	Took Duration `json:"took"`
}

// requestLog keeps the last requests and counts all.
type requestLog struct {
	mu   sync.Mutex
	list []Request
	// pending are the requests that are not answered yet, by a number.
	pending    map[int]string
	last       int
	counts     map[string]int // "POST /api/ipam/prefixes/1/available-ips/" to number
	total      int
	violations []string
}

// init makes the log ready.
func (l *requestLog) init() { l.counts, l.pending = map[string]int{}, map[int]string{} }

// begin notes that a request is being handled; call what it returns when it
// no longer is.
func (l *requestLog) begin(r *http.Request) (end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	n := l.last
	l.pending[n] = r.Method + " " + r.URL.RequestURI()
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.pending, n)
	}
}

// Pending returns the API requests that are being handled, hanging ones
// included, as "GET /api/status/".
func (s *Server) Pending() []string {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return slices.Sorted(maps.Values(s.log.pending))
}

// add notes a request that was answered, and what a real NetBox would not stand.
func (l *requestLog) add(r *http.Request, body []byte, status int, start time.Time) {
	e := Request{
		Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Body: string(body), Chunked: r.ContentLength < 0,
		Status: status, Time: start, Took: Duration(time.Since(start)),
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total++
	l.counts[kindOf(r)]++
	if e.Chunked {
		l.noteViolation("chunked body of " + r.Method + " " + r.URL.Path + ": NetBox behind bare gunicorn reads it as empty")
	}
	if len(l.list) >= 2*maxRequests {
		l.list = slices.Clone(l.list[maxRequests:])
	}
	l.list = append(l.list, e)
}

// kindOf is method and path with numbers left out, to count by.
func kindOf(r *http.Request) string {
	parts := strings.Split(r.URL.Path, "/")
	for i, p := range parts {
		if p != "" && strings.Trim(p, "0123456789") == "" {
			parts[i] = "<id>"
		}
	}
	return r.Method + " " + strings.Join(parts, "/")
}

// violation notes something that no client may do.
func (l *requestLog) violation(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noteViolation(text)
}

// noteViolation keeps the first ones, which tell as much as all. The lock is
// held.
func (l *requestLog) noteViolation(text string) {
	if len(l.violations) < 1000 {
		l.violations = append(l.violations, text)
	}
}

// Requests returns the API requests so far, oldest first, the last 10000 at
// least. Those to /_control/ and of the page are not among them.
func (s *Server) Requests() []Request {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return slices.Clone(s.log.list)
}

// RequestCounts counts all API requests by method and path, numbers in the path
// written as <id>: "POST /api/ipam/prefixes/<id>/available-ips/".
func (s *Server) RequestCounts() map[string]int {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	out := make(map[string]int, len(s.log.counts))
	maps.Copy(out, s.log.counts)
	return out
}

// ResetRequests forgets the requests so far.
func (s *Server) ResetRequests() {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.log.list, s.log.counts, s.log.total, s.log.violations = nil, map[string]int{}, 0, nil
}

// Violations are the things that clients did and a client of a real NetBox
// must not do: chunked bodies, empty lists to available-ips.
func (s *Server) Violations() []string {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return slices.Clone(s.log.violations)
}
