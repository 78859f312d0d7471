// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox_test

import (
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
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bm-ccm/bm-ccm/pkg/netbox"
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
	hs := httptest.NewUnstartedServer(netboxtest.New(netboxtest.Options{}))
	hs.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	hs.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that refuse are wanted here
	hs.StartTLS()
	t.Cleanup(hs.Close)
	return hs
}

// ask sends a request, the first one.
func ask(t *testing.T, o netbox.Options) error {
	t.Helper()
	o.Token, o.Timeout = netboxtest.DefaultToken, 5*time.Second
	c, err := netbox.NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Version(t.Context())
	return err
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
			err := ask(t, netbox.Options{URL: serveTLS(t, tt.cert).URL, CAFile: tt.caFile})
			if tt.want == "" && err != nil || tt.want != "" && (!errors.As(err, new(*netbox.UnavailableError)) || !strings.Contains(err.Error(), tt.want)) {
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
		back, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", to)
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
	if err := ask(t, o); err != nil || tunnels.Load() == 0 {
		t.Errorf("%d tunnels, %v", tunnels.Load(), err)
	}
	n := tunnels.Load()
	t.Setenv("NO_PROXY", "netbox.invalid")
	if err := ask(t, o); err == nil || !strings.Contains(err.Error(), "host netbox.invalid") || tunnels.Load() != n {
		t.Errorf("NO_PROXY: %d tunnels more, %v", tunnels.Load()-n, err)
	}
	t.Setenv("NO_PROXY", "")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	if err := ask(t, o); err == nil || !strings.Contains(err.Error(), "the proxy that HTTPS_PROXY or HTTP_PROXY names does not work") {
		t.Errorf("a dead proxy: %v", err)
	}
}
