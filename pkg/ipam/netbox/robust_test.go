// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox/schema"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/netboxtest"
)

// authority makes certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key, file}
}

// issue makes a certificate for a name that ends at a time.
func (a *authority) issue(t *testing.T, name string, end time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: end}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// serveTLS runs a NetBox in memory behind a certificate.
func serveTLS(t *testing.T, cert tls.Certificate) *httptest.Server {
	t.Helper()
	hs := httptest.NewUnstartedServer(netboxtest.New(netboxtest.Options{Seed: seed()}))
	hs.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	hs.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that refuse are wanted here
	hs.StartTLS()
	t.Cleanup(hs.Close)
	return hs
}

// check starts an allocator's check, which sends the first requests.
func check(t *testing.T, o netbox.Options) error {
	t.Helper()
	o.Token, o.Timeout = netboxtest.DefaultToken, 5*time.Second
	c, err := netbox.NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	return netbox.NewAllocator(c, "lab", "", netbox.Record{}).Check(t.Context())
}

// TestCertificates: caFile replaces the system's authorities, and each mistake
// has its own sentence.
func TestCertificates(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	good := ours.issue(t, "127.0.0.1", time.Now().Add(time.Hour))
	tests := map[string]struct {
		cert   tls.Certificate
		caFile string
		want   string
	}{
		"own authority":     {good, ours.file, ""},
		"another authority": {good, others.file, "not signed by one in netbox.caFile (" + others.file + ")"},
		"no caFile":         {good, "", "name it in netbox.caFile"},
		"another name":      {ours.issue(t, "netbox.example.org", time.Now().Add(time.Hour)), ours.file, "its certificate is for other names: use one of those in netbox.url"},
		"expired":           {ours.issue(t, "127.0.0.1", time.Now().Add(-time.Hour)), ours.file, "its certificate is out of date"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := check(t, netbox.Options{URL: serveTLS(t, tt.cert).URL, CAFile: tt.caFile})
			if tt.want == "" && err != nil || tt.want != "" && (!errors.As(err, new(*ipam.UnavailableError)) || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// connectProxy is a proxy for CONNECT that leads every host to one address.
func connectProxy(t *testing.T, to string) (proxy *httptest.Server, tunnels *atomic.Int32) {
	t.Helper()
	tunnels = &atomic.Int32{}
	proxy = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != "netbox.invalid:443" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		back, err := net.Dial("tcp", to)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer back.Close()
		tunnels.Add(1)
		w.WriteHeader(http.StatusOK)
		front, buffered, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer front.Close()
		go func() { _, _ = io.Copy(back, buffered); _ = back.Close() }()
		_, _ = io.Copy(front, back)
	}))
	t.Cleanup(proxy.Close)
	return proxy, tunnels
}

// TestProxy: the environment's proxy is used, but for what NO_PROXY lists. The
// name of NetBox exists nowhere, so that only the proxy can reach it.
func TestProxy(t *testing.T) {
	ours := newAuthority(t)
	hs := serveTLS(t, ours.issue(t, "netbox.invalid", time.Now().Add(time.Hour)))
	proxy, tunnels := connectProxy(t, hs.Listener.Addr().String())
	o := netbox.Options{URL: "https://netbox.invalid", CAFile: ours.file}
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"} {
		t.Setenv(name, "")
	}
	t.Setenv("HTTPS_PROXY", proxy.URL)
	if err := check(t, o); err != nil || tunnels.Load() == 0 {
		t.Errorf("%d tunnels, %v", tunnels.Load(), err)
	}
	n := tunnels.Load()
	t.Setenv("NO_PROXY", "netbox.invalid")
	if err := check(t, o); err == nil || !strings.Contains(err.Error(), "host netbox.invalid") || tunnels.Load() != n {
		t.Errorf("NO_PROXY: %d tunnels more, %v", tunnels.Load()-n, err)
	}
	t.Setenv("NO_PROXY", "")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	if err := check(t, o); err == nil || !strings.Contains(err.Error(), "the proxy that HTTPS_PROXY or HTTP_PROXY names does not work") {
		t.Errorf("a dead proxy: %v", err)
	}
}

// TestTokenReplacedMeanwhile: a token that NetBox refuses is read once more,
// also if its file looks the same as before, and what was asked is sent again
// once and no more.
func TestTokenReplacedMeanwhile(t *testing.T) {
	srv, target := startWithPool(t)
	a := newAllocator(t, target)
	eventually(t, func() error { return claiming("first", "")(t, a) })
	next := strings.Replace(fencedToken, "fenced", "denced", 1)
	if err := srv.AddToken(netboxtest.Token{User: "lab", Key: next}); err != nil {
		t.Fatal(err)
	}
	srv.RevokeToken(fencedToken)
	replaceUnseen(t, target.TokenFile, next)
	before := len(srv.Requests())
	if err := claiming("web", "")(t, a); err != nil {
		t.Error(err)
	}
	refused := 0
	for _, r := range srv.Requests()[before:] {
		if r.Status == http.StatusForbidden {
			refused++
		}
	}
	if refused > 1 {
		t.Errorf("%d requests were refused, want the first one alone", refused)
	}
	wantRecords(t, srv, map[string]string{"203.0.113.1": "first/ipv4", "203.0.113.2": "web/ipv4"})

	srv.RevokeToken(next)
	before = len(srv.Requests())
	if err := claiming("more", "")(t, a); !errors.As(err, new(*ipam.ConfigError)) || !strings.Contains(err.Error(), "netbox.tokenFile") {
		t.Errorf("got %v", err)
	}
	if n := len(srv.Requests()) - before; n > 1 {
		t.Errorf("%d requests with a token that is refused and not replaced, want 1", n)
	}
}

// replaceUnseen replaces a file's content by one of the same length and leaves
// its times.
func replaceUnseen(t *testing.T, file, content string) {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
}

// recorder is a transport that keeps what is sent.
type recorder struct {
	next http.RoundTripper
	seen []*http.Request
	body []string
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	var content []byte
	if req.Body != nil {
		content, _ = io.ReadAll(req.Body)
		req.Body = io.NopCloser(bytes.NewReader(content))
	}
	r.seen, r.body = append(r.seen, req), append(r.body, string(content))
	return r.next.RoundTrip(req)
}

// TestWireFormat holds every request to what all versions of NetBox need: a
// path that ends with a slash, and a body with its length.
func TestWireFormat(t *testing.T) {
	_, target := startWithPool(t)
	for _, suffix := range []string{"", "/", "//"} {
		wire := &recorder{next: http.DefaultTransport}
		c, err := netbox.NewClient(netbox.Options{URL: target.URL + suffix, TokenFile: target.TokenFile, Transport: wire})
		if err != nil {
			t.Fatal(err)
		}
		a := netbox.NewAllocator(c, "lab", "uid-1", netbox.Record{})
		if err := claiming("web", "203.0.113.40")(t, a); err != nil {
			t.Fatal(err)
		}
		if err := claiming("web", "203.0.113.41")(t, a); err != nil {
			t.Fatal(err)
		}
		a.Inspect(t.Context(), []ipam.Pool{pool})
		if err := releasing("web")(t, a); err != nil {
			t.Fatal(err)
		}
		if len(wire.seen) < 20 {
			t.Errorf("only %d requests", len(wire.seen))
		}
		for i, req := range wire.seen {
			if !strings.HasSuffix(req.URL.Path, "/") || strings.Contains(req.URL.Path, "//") {
				t.Errorf("%s %s", req.Method, req.URL)
			}
			if body := wire.body[i]; req.ContentLength != int64(len(body)) || req.Method == http.MethodPost && body == "[]" {
				t.Errorf("%s %s: length %d of body %q", req.Method, req.URL, req.ContentLength, body)
			}
		}
	}
}

// TestURLWithPath: NetBox may live below a path (BASE_PATH).
func TestURLWithPath(t *testing.T) {
	srv, target := startWithPool(t)
	back, err := url.Parse(target.URL)
	if err != nil {
		t.Fatal(err)
	}
	wire := &recorder{next: http.DefaultTransport}
	below := roundTrip(func(req *http.Request) (*http.Response, error) {
		path, ok := strings.CutPrefix(req.URL.Path, "/netbox/api/")
		if !ok {
			return nil, errors.New("outside of /netbox/: " + req.URL.Path)
		}
		req = req.Clone(req.Context())
		req.URL.Host, req.URL.Scheme, req.URL.Path = back.Host, "http", "/api/"+path
		return wire.RoundTrip(req)
	})
	c, err := netbox.NewClient(netbox.Options{URL: "https://dcim.example.org/netbox/", TokenFile: target.TokenFile, Transport: below})
	if err != nil {
		t.Fatal(err)
	}
	if err := claiming("web", "")(t, netbox.NewAllocator(c, "lab", "uid-1", netbox.Record{})); err != nil {
		t.Error(err)
	}
	wantRecords(t, srv, map[string]string{"203.0.113.1": "web/ipv4"})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (r roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return r(req) }

// TestSmallPages: a NetBox whose MAX_PAGE_SIZE is small gives less than what
// was asked for, and says nothing.
func TestSmallPages(t *testing.T) {
	var addrs []netboxtest.SeedAddress
	for _, last := range []string{"1", "2", "3", "4", "5"} {
		addrs = append(addrs, netboxtest.SeedAddress{Address: "192.0.2." + last + "/32", CustomFields: map[string]any{"k8s_lb_claim": "claim" + last}})
	}
	addrs[4].CustomFields["k8s_lb_claim"] = "claim1"
	_, base := bare(t, "", &netboxtest.Seed{Addrs: addrs, CustomFields: []netboxtest.CustomField{{Name: "k8s_lb_claim"}}})
	small := roundTrip(func(req *http.Request) (*http.Response, error) {
		req = req.Clone(req.Context())
		query := req.URL.Query()
		if query.Has("limit") {
			query.Set("limit", "2")
		}
		req.URL.RawQuery = query.Encode()
		return http.DefaultTransport.RoundTrip(req)
	})
	c, err := netbox.NewClient(netbox.Options{URL: base, Token: netboxtest.DefaultToken, Transport: small})
	if err != nil {
		t.Fatal(err)
	}
	var wrong []string
	for range 2 { // the second time through existing permissions, of which there are three
		wrong = nil
		if _, err := c.Init(t.Context(), schema.Access{Cluster: "lab"}.Plan(), func(s netbox.Step) {
			if s.Outcome == netbox.StepWrong {
				wrong = append(wrong, s.Detail)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	if len(wrong) != 1 || !strings.Contains(wrong[0], `1 (192.0.2.1/32) and 5 (192.0.2.5/32) both hold "claim1"`) {
		t.Errorf("wrong: %q", wrong)
	}
}
