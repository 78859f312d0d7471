// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	gonetbox "github.com/netbox-community/go-netbox/v4"
	"golang.org/x/net/http/httpproxy"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
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
	api     *gonetbox.APIClient
	url     string
	caFile  string
	token   *tokenFile
	timeout time.Duration
	gate    gate
}

// NewClient checks the options and reads the token. It does not yet ask NetBox
// anything, so that a controller starts while NetBox is down.
func NewClient(o Options) (*Client, error) {
	base, err := url.Parse(strings.TrimRight(o.URL, "/"))
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, &ipam.ConfigError{Problem: fmt.Sprintf("netbox.url %q: must be a URL like https://netbox.example.org", o.URL)}
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
	cfg := gonetbox.NewConfiguration()
	cfg.Servers[0].URL = base.String()
	cfg.UserAgent = "bm-ccm"
	cfg.HTTPClient = &http.Client{
		Transport: &transport{next: o.Transport, token: token},
		// Following a redirect turns a POST into a GET, which answers 200 and
		// changes nothing.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	c := &Client{api: gonetbox.NewAPIClient(cfg), url: base.String(), caFile: o.CAFile, token: token, timeout: o.Timeout}
	if c.timeout <= 0 {
		c.timeout = DefaultTimeout
	}
	return c, nil
}

func trustedRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil //nolint:nilnil // nil means the system's to crypto/tls
	}
	pem, err := os.ReadFile(file) //nolint:gosec // the administrator names the file
	if err != nil {
		return nil, &ipam.ConfigError{Problem: fmt.Sprintf("netbox.caFile: %v", err)}
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, &ipam.ConfigError{Problem: fmt.Sprintf("netbox.caFile: %s holds no PEM certificate", file)}
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

// do sends one request: call names it to go-netbox, x holds what is ours of it
// and receives the answer. out, unless nil, receives the decoded body.
//
// Errors: *answerError for a definite refusal by NetBox; *ipam.ConfigError or
// *ipam.UnavailableError otherwise, and then what was asked may have happened.
func (c *Client) do(ctx context.Context, x *exchange, out any, call func(context.Context) error) error {
	if err := c.gate.admit(x.doing); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	// go-netbox sees an empty body, so what it returns tells no more than x.
	callErr := call(context.WithValue(limited, exchangeKey{}, x))
	err := c.judge(x, callErr)
	if ctx.Err() == nil { // else the caller gave up, which says nothing of NetBox
		c.gate.note(err)
	}
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(x.answer, out); err != nil {
		return &ipam.UnavailableError{Doing: x.doing, Err: fmt.Errorf("NetBox's answer is not understood: %w", err)}
	}
	return nil
}

// judge makes an error of an answer that is not a success.
func (c *Client) judge(x *exchange, callErr error) error {
	unavailable := func(format string, args ...any) error {
		return &ipam.UnavailableError{Doing: x.doing, Err: fmt.Errorf(format, args...), RetryAfter: x.retryAfter}
	}
	switch {
	case x.err != nil && errors.As(x.err, new(*ipam.ConfigError)):
		return x.err
	case errors.Is(x.err, context.DeadlineExceeded) || x.status == 0 && errors.Is(callErr, context.DeadlineExceeded):
		return unavailable("NetBox at %s did not answer in time (%s): %w", c.url, c.timeout, context.DeadlineExceeded)
	case x.err != nil:
		return unavailable("NetBox at %s: %s%w", c.url, c.advice(x.err), x.err)
	case x.status == 0:
		return unavailable("NetBox at %s: %w", c.url, callErr)
	case x.status >= 500 || x.status == http.StatusTooManyRequests:
		return unavailable("NetBox at %s answers %d%s", c.url, x.status, x.detail())
	case x.status >= 300 && x.status < 400:
		return &ipam.ConfigError{Problem: fmt.Sprintf("%s: %s redirects to %s: correct netbox.url", x.doing, c.url, x.location)}
	case x.html():
		return &ipam.ConfigError{Problem: fmt.Sprintf("%s: %s answered HTML, not JSON: check netbox.url and what stands before NetBox", x.doing, c.url)}
	case x.status >= 400:
		return refusal(x)
	default:
		return nil
	}
}
