// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"
)

// DefaultTimeout is the deadline of a request where Options set none. NetBox
// answers in tens of milliseconds, and takes seconds when its one allocation
// lock is held.
const DefaultTimeout = 10 * time.Second

// Options say how to reach NetBox.
type Options struct {
	// URL is where NetBox is, without /api.
	URL string
	// TokenFile holds the API token. It is read again when it changes.
	TokenFile string
	// Token is the API token itself, where it is in no file.
	Token string
	// CAFile holds the PEM certificates to trust instead of the system's; may be
	// empty.
	CAFile string
	// Timeout is the deadline of every request; 0 means DefaultTimeout.
	Timeout time.Duration
	// Transport sends the requests; nil means over the network, by the proxies
	// that the environment names.
	Transport http.RoundTripper
}

// Client sends requests to one NetBox. It is safe for concurrent use.
type Client struct {
	url       string // without a slash at its end
	caFile    string
	token     *tokenFile
	timeout   time.Duration
	transport http.RoundTripper
	breaker   *circuitBreaker
}

// NewClient checks the options and reads the token. It does not yet ask NetBox
// anything, so that a controller starts while NetBox is down. An error is a
// *ConfigError.
func NewClient(o Options) (*Client, error) {
	base, err := url.Parse(strings.TrimRight(o.URL, "/"))
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, &ConfigError{Problem: fmt.Sprintf("netbox.url %q: must be a URL like https://netbox.example.org", o.URL)}
	}
	if o.Transport == nil {
		roots, err := trustedRoots(o.CAFile)
		if err != nil {
			return nil, err
		}
		o.Transport = newHTTPTransport(roots)
	}
	token := &tokenFile{path: o.TokenFile, value: o.Token}
	if _, err := token.header(); err != nil {
		return nil, err
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	return &Client{
		url: base.String(), caFile: o.CAFile, token: token, timeout: o.Timeout,
		transport: o.Transport, breaker: newCircuitBreaker(base.String()),
	}, nil
}

// URL is where NetBox is, without /api and without a slash at its end.
func (c *Client) URL() string { return c.url }

// HasV2Token reports whether the token is one of version 2, which NetBox has
// from 4.5 on and wants from 5.0 on.
func (c *Client) HasV2Token() bool { return c.token.isV2() }

func trustedRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil //nolint:nilnil // nil means the system's to crypto/tls
	}
	pem, err := os.ReadFile(file) //nolint:gosec // the administrator names the file
	if err != nil {
		return nil, &ConfigError{Problem: fmt.Sprintf("netbox.caFile: %v", err)}
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, &ConfigError{Problem: fmt.Sprintf("netbox.caFile: %s holds no PEM certificate", file)}
	}
	return roots, nil
}

func newHTTPTransport(roots *x509.CertPool) *http.Transport {
	// net/http reads the environment once in a process, this once for a client.
	proxy := httpproxy.FromEnvironment().ProxyFunc()
	return &http.Transport{
		Proxy:                 func(req *http.Request) (*url.URL, error) { return proxy(req.URL) },
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   5 * time.Second,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       30 * time.Second,
		ExpectContinueTimeout: time.Second,
	}
}

// Request is what to ask of NetBox.
type Request struct {
	// Doing is what an error says was being done, for example "claiming an
	// address in 203.0.113.0/24".
	Doing string
	// Method is the HTTP method; empty means GET.
	Method string
	// Path is below /api/ and ends with a slash: without one NetBox redirects,
	// and a redirected POST loses its body.
	Path  string
	Query url.Values
	// Body is sent as JSON, unless nil.
	Body any
	// IfMatch is the ETag that the object must still have; empty means any.
	// NetBox heeds it from 4.6 on, and passes over it before.
	IfMatch string
	// ETag, unless nil, receives that of the answer, which is empty before
	// NetBox 4.6.
	ETag *string
}

// Do sends one request. out, unless nil, receives the decoded body.
//
// Errors: *AnswerError for a definite refusal by NetBox; *ConfigError or
// *UnavailableError otherwise, and then what was asked may have happened.
func (c *Client) Do(ctx context.Context, r Request, out any) error {
	if r.Method == "" {
		r.Method = http.MethodGet
	}
	x := &exchange{doing: r.Doing, ifMatch: r.IfMatch}
	if r.Body != nil {
		body, err := json.Marshal(r.Body)
		if err != nil {
			return fmt.Errorf("%s: encoding the request: %w", r.Doing, err)
		}
		x.body = body
	}
	done, err := c.breaker.admit(r.Doing)
	if err != nil {
		countFailure(reasonCircuitOpen)
		return err
	}
	start := time.Now()
	err = c.exchange(ctx, r, x)
	if ctx.Err() != nil {
		// The caller gave up, which says nothing of NetBox.
		done(errCallerGaveUp)
	} else {
		done(err)
	}
	if err == nil && out != nil {
		err = decode(x, out)
	}
	observe(r, time.Since(start), failureReason(ctx, err))
	if r.ETag != nil {
		*r.ETag = x.etag
	}
	return err
}

// exchange sends a request within its deadline and makes an error of an answer
// that is no success.
func (c *Client) exchange(ctx context.Context, r Request, x *exchange) error {
	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	address := c.url + "/api/" + r.Path
	if len(r.Query) > 0 {
		address += "?" + r.Query.Encode()
	}
	// The body comes with the headers in transport.go: it may be sent twice.
	req, err := http.NewRequestWithContext(limited, r.Method, address, http.NoBody)
	if err != nil {
		return fmt.Errorf("%s: %w", r.Doing, err)
	}
	return c.judge(x, c.send(req, x))
}

func decode(x *exchange, out any) error {
	if err := json.Unmarshal(x.answer, out); err != nil {
		// Whether it was done cannot be told from an answer that makes no sense,
		// so this is no definite refusal.
		return &UnavailableError{Doing: x.doing, Err: fmt.Errorf("NetBox's answer is not understood: %w", &decodeError{err})}
	}
	return nil
}

// isHTML reports whether a body is a page for humans: of a proxy or a load
// balancer before NetBox, or of NetBox's web interface.
func isHTML(body []byte) bool { return bytes.HasPrefix(bytes.TrimSpace(body), []byte("<")) }
