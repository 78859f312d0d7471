// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Limits that NetBox has by default.
const (
	pageSize    = 50
	maxPageSize = 1000
)

// Options say what kind of NetBox the double is. The zero value is a NetBox
// 4.7.3 behind bare gunicorn, with the superuser token DefaultToken.
type Options struct {
	// Version is the release to behave like, "4.6" or "4.6.8"; see Versions.
	Version string
	// Tokens are the tokens there are. None means DefaultToken alone.
	Tokens []Token
	// AllowGlobalDuplicates turns ENFORCE_GLOBAL_UNIQUE off.
	AllowGlobalDuplicates bool
	// BufferedBodies reads chunked request bodies, as a NetBox behind nginx
	// does. Bare gunicorn takes them for empty, and so does the double.
	BufferedBodies bool
	// AddressStatuses are statuses of addresses that the site added with
	// FIELD_CHOICES, as "value=Label".
	AddressStatuses []string
	// Seed is put in at the start.
	Seed *Seed
}

// Validate says what is wrong with the options.
func (o Options) Validate() error {
	_, err := newServer(o)
	return err
}

// Server is a NetBox in memory. It is safe for concurrent use.
type Server struct {
	version  version
	opts     Options
	statuses []choice

	mu         sync.RWMutex // guards all below
	tables     map[*model]*table
	space      *space
	natOutside map[int64][]int64
	lastChange time.Time
	auth       authTable
	cfs        map[string]map[string]*object // by object type and name
	changes    []change

	faults faultList
	log    requestLog
}

// New returns a NetBox. It panics if the options are wrong, which
// Options.Validate tells beforehand: in a test there is nothing else to do.
func New(opts Options) *Server {
	s, err := newServer(opts)
	if err != nil {
		panic("netboxtest: " + err.Error())
	}
	return s
}

// newServer is New with its mistakes as errors.
func newServer(opts Options) (*Server, error) {
	v, err := parseVersion(opts.Version)
	if err != nil {
		return nil, err
	}
	s := &Server{
		version: v, opts: opts, tables: map[*model]*table{}, space: newSpace(),
		natOutside: map[int64][]int64{}, cfs: map[string]map[string]*object{},
	}
	for _, m := range models {
		s.tables[m] = newTable(m)
	}
	for _, t := range opts.AddressStatuses {
		s.statuses = append(s.statuses, pick("", "", t).choices...)
	}
	s.log.init()
	if len(opts.Tokens) == 0 && (opts.Seed == nil || len(opts.Seed.Tokens) == 0) {
		opts.Tokens = []Token{{User: "admin", Key: DefaultToken, Superuser: true}}
	}
	for _, t := range opts.Tokens {
		if err := s.AddToken(t); err != nil {
			return nil, err
		}
	}
	if opts.Seed != nil {
		if err := s.Apply(opts.Seed); err != nil {
			return nil, fmt.Errorf("seeding: %w", err)
		}
	}
	return s, nil
}

// Version is the release that the double behaves like, for example "4.7.3".
func (s *Server) Version() string { return s.version.String() }

// request is one API request while it is handled.
type request struct {
	*http.Request
	id    string
	who   *identity
	body  any
	empty bool
	// gap runs between the validation of a bulk change and its commit, where
	// NetBox holds no lock.
	gap func() error
}

// response is what a request is answered with. A nil body is an empty one.
type response struct {
	status int
	body   any
	etag   string
	header map[string]string
}

// ok is a success with a body.
func ok(body any) *response { return &response{status: http.StatusOK, body: body} }

// detail is an answer of one sentence, as Django REST framework gives it.
func detail(status int, format string, args ...any) *response {
	return &response{status: status, body: doc{{"detail", fmt.Sprintf(format, args...)}}}
}

// notImplemented answers what the double cannot do: loudly, so that nobody
// builds on a guess.
func notImplemented(format string, args ...any) *response {
	return detail(http.StatusNotImplemented, "netboxtest does not implement "+format, args...)
}

// ServeHTTP answers the API below /api/, the control endpoints below
// /_control/ and a page for people at /.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasPrefix(r.URL.Path, "/_control/"):
		s.serveControl(w, r)
	case r.URL.Path == "/api" || strings.HasPrefix(r.URL.Path, "/api/"):
		s.serveAPI(w, r)
	default:
		s.servePage(w, r)
	}
}

// serveAPI answers a request below /api/, with whatever fault is meant for it.
func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	body, err := s.readBody(r)
	if err != nil {
		return // the client went away
	}
	defer s.log.begin(r)()
	f := s.faults.take(r)
	rec := &recorder{w: w}
	rec.note = sync.OnceFunc(func() { s.log.add(r, body, rec.status, start) })
	defer rec.note()
	f.serve(rec, r, func(ctx context.Context, gap func() error) *answered {
		return s.answer(r.WithContext(ctx), body, gap)
	})
}

// answered is a response in bytes.
type answered struct {
	status int
	header http.Header
	body   []byte
}

// answer handles a request from its body to the bytes of its response.
func (s *Server) answer(r *http.Request, body []byte, gap func() error) *answered {
	q := &request{Request: r, id: newUUID(), gap: gap}
	resp := s.route(q, body)
	h := http.Header{}
	h.Set("API-Version", s.version.api())
	h.Set("X-Request-ID", q.id)
	h.Set("Vary", "HX-Request")
	if resp.etag != "" && s.version.etags() {
		h.Set("ETag", resp.etag)
	}
	for k, v := range resp.header {
		h.Set(k, v)
	}
	a := &answered{status: resp.status, header: h}
	if html, ok := resp.body.(htmlBody); ok {
		h.Set("Content-Type", "text/html; charset=utf-8")
		a.body = []byte(html)
		return a
	}
	if resp.body != nil {
		h.Set("Content-Type", "application/json")
		// The rows in a body are snapshots, so that no lock is needed here.
		var b bytes.Buffer
		writeJSON(&b, resp.body)
		a.body = b.Bytes()
	}
	return a
}

// htmlBody is a body that is no JSON.
type htmlBody string

// notFoundPage is HTML even below /api/: NetBox's router answers a path that it does
// not know before the API gets to see it. Clients must not take it for a missing
// object.
const notFoundPage = htmlBody("<!DOCTYPE html>\n<html><head><title>Page Not Found</title></head>" +
	"<body><h1>Page Not Found</h1></body></html>\n")

// readBody reads a request's body. Without a Content-Length it is empty, as
// for NetBox behind bare gunicorn.
func (s *Server) readBody(r *http.Request) ([]byte, error) {
	if r.ContentLength < 0 && !s.opts.BufferedBodies {
		return nil, nil
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fmt.Errorf("reading the body: %w", err)
	}
	return b, nil
}

// route finds the view of a request.
func (s *Server) route(q *request, body []byte) *response {
	p := q.URL.Path
	if !strings.HasSuffix(p, "/") {
		return s.withoutSlash(q, p)
	}
	v := s.view(strings.Trim(strings.TrimPrefix(p, "/api/"), "/"))
	if v == nil {
		return &response{status: http.StatusNotFound, body: notFoundPage}
	}
	s.mu.RLock()
	fail := s.authenticate(q)
	s.mu.RUnlock()
	if fail != nil {
		return fail
	}
	if fail := q.parse(body); fail != nil {
		return fail
	}
	return v(q)
}

// withoutSlash answers a path that lacks the trailing slash: reads are sent to
// the right one; so are writes before 4.5.9, which clients turn into reads.
func (s *Server) withoutSlash(q *request, p string) *response {
	safe := q.Method == http.MethodGet || q.Method == http.MethodHead
	if s.view(strings.Trim(strings.TrimPrefix(p, "/api"), "/")) == nil || !safe && s.version.noSlashIs404() {
		return &response{status: http.StatusNotFound, body: notFoundPage}
	}
	to := p + "/"
	if q.URL.RawQuery != "" {
		to += "?" + q.URL.RawQuery
	}
	return &response{status: http.StatusMovedPermanently, body: htmlBody(""), header: map[string]string{"Location": to}}
}

// parse decodes the body.
func (q *request) parse(body []byte) *response {
	if len(bytes.TrimSpace(body)) == 0 {
		q.empty, q.body = true, map[string]any{}
		return nil
	}
	if t := q.Header.Get("Content-Type"); !strings.HasPrefix(strings.ToLower(t), "application/json") {
		if q.Method == http.MethodGet || q.Method == http.MethodHead {
			return nil
		}
		return detail(http.StatusUnsupportedMediaType, "Unsupported media type %q in request.", t)
	}
	data, err := decodeJSON(body)
	if err != nil {
		return detail(http.StatusBadRequest, "JSON parse error - %v", err)
	}
	q.body = data
	return nil
}

// view is what answers a path.
type view func(*request) *response

// view finds the view of a path below /api/ without slashes around it.
func (s *Server) view(p string) view {
	switch p {
	case "":
		return s.rootView
	case "status":
		return get(s.statusView)
	case "authentication-check":
		if s.version.authCheck() {
			return get(s.authCheckView)
		}
		return nil
	case "core/object-changes":
		return get(s.changesView)
	}
	if m := byPath[p]; m != nil {
		return func(q *request) *response { return s.listView(q, m) }
	}
	parts := strings.Split(p, "/")
	if len(parts) < 2 {
		return nil
	}
	m := byPath[parts[0]+"/"+parts[1]]
	if m == nil || s.unknownView(p) != nil {
		return s.unknownView(p)
	}
	id, err := strconv.ParseInt(parts[2], 10, 64)
	switch {
	case err != nil:
		return nil
	case len(parts) == 3:
		return func(q *request) *response { return s.objectView(q, m, id) }
	case len(parts) == 4 && parts[3] == "available-ips" && (m == prefix || m == ipRange):
		return func(q *request) *response { return s.availableView(q, m, id) }
	case len(parts) == 4 && parts[3] == "available-prefixes" && m == prefix:
		return func(*request) *response { return notImplemented("/api/%s/", p) }
	}
	return nil
}

// get refuses every other method.
func get(v view) view {
	return func(q *request) *response {
		if q.Method != http.MethodGet && q.Method != http.MethodHead {
			return methodNotAllowed(q)
		}
		return v(q)
	}
}

// methodNotAllowed refuses a method.
func methodNotAllowed(q *request) *response {
	return detail(http.StatusMethodNotAllowed, "Method \"%s\" not allowed.", q.Method)
}

// recorder notes the status that a client is given, before the client has it:
// whoever has an answer finds the request in the log.
type recorder struct {
	w      http.ResponseWriter
	status int
	note   func()
}

// newUUID makes a random UUID (RFC 9562, version 4).
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// base is the part of absolute URLs before the path.
func (q *request) base() string {
	scheme := "http"
	if q.TLS != nil || q.Header.Get("X-Forwarded-Proto") == "https" {
		scheme = "https"
	}
	return scheme + "://" + q.Host
}
