// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// pki is the lab's certificate authority; it lives as long as the lab.
type pki struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// certDays is longer than any lab lives.
const certDays = 30

// newPKI makes a CA, and the key that signs service account tokens.
func newPKI(dir string) (*pki, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the PKI's folder: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the CA's key: %w", err)
	}
	tmpl := template(pkix.Name{CommonName: "bm-ccm lab"})
	tmpl.IsCA, tmpl.BasicConstraintsValid = true, true
	tmpl.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	p := &pki{dir: dir, key: key}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("making the CA: %w", err)
	}
	if p.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("reading the CA: %w", err)
	}
	return p, errors.Join(writePEM(p.certFile("ca"), "CERTIFICATE", der), writeKey(p.keyFile("ca"), key), p.serviceAccountKey())
}

// loadPKI reads what newPKI wrote.
func loadPKI(dir string) (*pki, error) {
	p := &pki{dir: dir}
	pair, err := tls.LoadX509KeyPair(p.certFile("ca"), p.keyFile("ca"))
	if err != nil {
		return nil, fmt.Errorf("reading the lab's CA: %w", err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("the lab's CA has a %T", pair.PrivateKey)
	}
	p.cert, p.key = pair.Leaf, key
	return p, nil
}

func template(subject pkix.Name) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		panic(err) // the system has no randomness
	}
	return &x509.Certificate{
		SerialNumber: serial, Subject: subject,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 0, certDays),
	}
}

func (p *pki) certFile(name string) string { return filepath.Join(p.dir, name+".crt") }
func (p *pki) keyFile(name string) string  { return filepath.Join(p.dir, name+".key") }

// serviceAccountKey writes sa.key and sa.pub.
func (p *pki) serviceAccountKey() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making the service account key: %w", err)
	}
	pub, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return fmt.Errorf("encoding the service account key: %w", err)
	}
	return errors.Join(writeKey(p.keyFile("sa"), key), writePEM(filepath.Join(p.dir, "sa.pub"), "PUBLIC KEY", pub))
}

// issue writes a certificate for clients and servers.
func (p *pki) issue(name string, subject pkix.Name, ips []netip.Addr, dns ...string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making the key of %s: %w", name, err)
	}
	tmpl := template(subject)
	tmpl.KeyUsage = x509.KeyUsageDigitalSignature
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	tmpl.DNSNames = dns
	for _, a := range ips {
		tmpl.IPAddresses = append(tmpl.IPAddresses, net.IP(a.AsSlice()))
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, p.cert, key.Public(), p.key)
	if err != nil {
		return fmt.Errorf("making the certificate of %s: %w", name, err)
	}
	return errors.Join(writePEM(p.certFile(name), "CERTIFICATE", der), writeKey(p.keyFile(name), key))
}

// kubeconfig issues a client certificate and writes a kubeconfig around it.
func (p *pki) kubeconfig(name string, subject pkix.Name, server string) (string, error) {
	if err := p.issue(name, subject, nil); err != nil {
		return "", err
	}
	c := clientcmdapi.NewConfig()
	files := map[string]*[]byte{}
	cluster, user := clientcmdapi.NewCluster(), clientcmdapi.NewAuthInfo()
	files[p.certFile("ca")] = &cluster.CertificateAuthorityData
	files[p.certFile(name)] = &user.ClientCertificateData
	files[p.keyFile(name)] = &user.ClientKeyData
	for path, to := range files {
		raw, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("reading for the kubeconfig: %w", err)
		}
		*to = raw
	}
	cluster.Server = server
	c.Clusters["lab"], c.AuthInfos[name] = cluster, user
	c.Contexts["lab"] = &clientcmdapi.Context{Cluster: "lab", AuthInfo: name}
	c.CurrentContext = "lab"
	path := filepath.Join(p.dir, name+".kubeconfig")
	if err := clientcmd.WriteToFile(*c, path); err != nil {
		return "", fmt.Errorf("writing the kubeconfig of %s: %w", name, err)
	}
	return path, nil
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("encoding a key: %w", err)
	}
	return writePEM(path, "EC PRIVATE KEY", der)
}

func writePEM(path, kind string, der []byte) error {
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
