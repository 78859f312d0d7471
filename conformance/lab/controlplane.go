// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strconv"
	"time"
)

const apiPort = 6443

// apiServer is an etcd with a kube-apiserver in front of it.
type apiServer struct {
	dir     string
	netns   string
	bins    binaries
	pki     *pki
	addr    netip.Addr // where it is reached
	port    int
	etcd    int // port on loopback
	peer    int // port on loopback
	v4only  bool
	lab     bool // with nodes: admission and authorization for them
	daemons []*Daemon
}

// url is the server's address for clients in its namespace or beside it.
func (a *apiServer) url() string {
	return "https://" + net.JoinHostPort(a.addr.String(), strconv.Itoa(a.port))
}

// certificates issues what the server itself needs.
func (a *apiServer) certificates() error {
	ips := []netip.Addr{a.addr, netip.MustParseAddr("127.0.0.1"), hostAddr(services.v4, 1), hostAddr(services.v6, 1)}
	return errors.Join(
		a.pki.issue("apiserver", pkix.Name{CommonName: "kube-apiserver"}, ips,
			"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"),
		a.pki.issue("apiserver-kubelet", pkix.Name{CommonName: "kube-apiserver", Organization: []string{"system:masters"}}, nil),
	)
}

func (a *apiServer) start() error {
	if err := a.certificates(); err != nil {
		return err
	}
	etcd, err := start(a.dir, command{name: "etcd", netns: a.netns, argv: a.etcdArgv(), tied: !a.lab})
	if err != nil {
		return err
	}
	a.daemons = append(a.daemons, etcd)
	server, err := start(a.dir, command{name: "kube-apiserver", netns: a.netns, argv: a.serverArgv(), tied: !a.lab})
	if err != nil {
		return err
	}
	a.daemons = append(a.daemons, server)
	return nil
}

// etcdArgv never waits for the disk: the lab's data need not survive anything.
func (a *apiServer) etcdArgv() []string {
	client := "http://127.0.0.1:" + strconv.Itoa(a.etcd)
	peer := "http://127.0.0.1:" + strconv.Itoa(a.peer)
	return []string{
		a.bins.path("etcd"), "--data-dir=" + filepath.Join(a.dir, "etcd"), "--log-level=warn", "--unsafe-no-fsync",
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=default=" + peer,
	}
}

func (a *apiServer) serverArgv() []string {
	argv := []string{
		a.bins.path("kube-apiserver"), "--etcd-servers=http://127.0.0.1:" + strconv.Itoa(a.etcd),
		"--secure-port=" + strconv.Itoa(a.port), "--advertise-address=" + a.addr.String(),
		"--service-cluster-ip-range=" + services.list(a.v4only),
		"--client-ca-file=" + a.pki.certFile("ca"),
		// Clients that serve (a CCM does) look for it in extension-apiserver-authentication.
		"--requestheader-client-ca-file=" + a.pki.certFile("ca"), "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group", "--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--tls-cert-file=" + a.pki.certFile("apiserver"), "--tls-private-key-file=" + a.pki.keyFile("apiserver"),
		"--kubelet-client-certificate=" + a.pki.certFile("apiserver-kubelet"),
		"--kubelet-client-key=" + a.pki.keyFile("apiserver-kubelet"),
		"--kubelet-certificate-authority=" + a.pki.certFile("ca"),
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + filepath.Join(a.pki.dir, "sa.pub"),
		"--service-account-signing-key-file=" + a.pki.keyFile("sa"),
		"--authorization-mode=Node,RBAC", "--allow-privileged", "--profiling=false",
	}
	if a.lab {
		return append(argv, "--bind-address=::", "--enable-admission-plugins=NodeRestriction")
	}
	// Without a controller manager there is no default ServiceAccount, and
	// loopback cannot be an endpoint.
	return append(argv, "--bind-address=127.0.0.1", "--disable-admission-plugins=ServiceAccount", "--endpoint-reconciler-type=none")
}

// ready waits until the server says it is ready at url.
func (a *apiServer) ready(ctx context.Context, url string) error {
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{
		// Only whether it answers matters here; clients check the certificate.
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives: true,
	}}
	return a.daemons[len(a.daemons)-1].until(ctx, 50*time.Millisecond, func(ctx context.Context) error {
		if err := a.daemons[0].failed(); err != nil {
			return err
		}
		return getOK(ctx, client, url+"/readyz")
	})
}

func getOK(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("making the request: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return fmt.Errorf("reading %s: %w", url, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", url, resp.Status, body)
	}
	return nil
}

// freePorts returns n ports of 127.0.0.1 that were free a moment ago.
func freePorts(n int) ([]int, error) {
	var out []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("finding a free port: %w", err)
		}
		defer l.Close()
		addr, ok := l.Addr().(*net.TCPAddr)
		if !ok {
			return nil, fmt.Errorf("unexpected address %v", l.Addr())
		}
		out = append(out, addr.Port)
	}
	return out, nil
}

// managers starts the controller manager and the scheduler.
func (l *Lab) managers() error {
	kcm, err := l.pki.kubeconfig("kube-controller-manager", pkix.Name{CommonName: "system:kube-controller-manager"}, l.api.url())
	if err != nil {
		return err
	}
	sched, err := l.pki.kubeconfig("kube-scheduler", pkix.Name{CommonName: "system:kube-scheduler"}, l.api.url())
	if err != nil {
		return err
	}
	if _, err := l.RunInFab("kube-controller-manager", []string{
		l.bins.path("kube-controller-manager"), "--kubeconfig=" + kcm, "--leader-elect=false", "--bind-address=127.0.0.1",
		"--kube-api-qps=200", "--kube-api-burst=400", // asks for forty tokens when it starts
		"--cloud-provider=external", "--allocate-node-cidrs=false", "--configure-cloud-routes=false",
		"--use-service-account-credentials", "--root-ca-file=" + l.pki.certFile("ca"),
		"--service-account-private-key-file=" + l.pki.keyFile("sa"), "--profiling=false",
	}, nil); err != nil {
		return err
	}
	_, err = l.RunInFab("kube-scheduler", []string{
		l.bins.path("kube-scheduler"), "--kubeconfig=" + sched, "--leader-elect=false", "--bind-address=127.0.0.1", "--profiling=false",
	}, nil)
	return err
}
