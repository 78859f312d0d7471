// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package story

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/bm-ccm/bm-ccm/conformance/lab"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/netboxtest"
)

const (
	labCluster = "lab"
	labPrefix  = "203.0.113.0/24"
	labSite    = "rack-1"
	netboxPort = "8000"
)

// MemoryNetBox serves the in-memory NetBox from this process, in the namespace
// of the control plane.
func MemoryNetBox(l *lab.Lab) (*IPAM, *netboxtest.Server, error) {
	const token = "89abcdef0123456789abcdef0123456789abcdef"
	seed := &netboxtest.Seed{
		ClaimFields: true,
		Sites:       []netboxtest.SeedSite{{Name: labSite, Region: "lab"}},
		Prefixes:    []netboxtest.SeedPrefix{{Prefix: labPrefix, Site: labSite, Description: "load balancers of the lab"}},
		Tokens: []netboxtest.Token{
			{User: "admin", Key: netboxtest.DefaultToken, Superuser: true},
			{User: "bm-ccm-" + labCluster, Key: token, Permissions: netboxtest.FencedPermissions(labCluster)},
		},
	}
	for _, n := range l.Nodes() {
		device := netboxtest.SeedDevice{Name: n.Name, Site: labSite, Primary4: n.Addr().String()}
		if a := n.Addr6(); a.IsValid() {
			device.Primary6 = a.String()
		}
		seed.Devices = append(seed.Devices, device)
	}
	server := netboxtest.New(netboxtest.Options{Seed: seed})
	n := &IPAM{Token: token, Prefix: labPrefix, Cluster: labCluster, Web: "in memory, gone with the lab", InMemory: true}
	if err := n.serveInLab(l, server); err != nil {
		return nil, nil, err
	}
	return n, server, nil
}

// serveInLab serves a handler where the cluster reaches it.
func (n *IPAM) serveInLab(l *lab.Lab, handler http.Handler) error {
	address := net.JoinHostPort(l.FabIP().String(), netboxPort)
	listener, err := listenOn(l.Fab(), address)
	if err != nil {
		return fmt.Errorf("serving NetBox in the lab: %w", err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }() // ends with Close
	n.stops = append(n.stops, server.Close)
	n.URL = "http://" + address
	n.client = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DialContext: dialFrom(l.Fab())}}
	return nil
}

// OwnNetBox lends the cluster a NetBox of the user's through a proxy in the
// lab. What it creates there it says before, and removes at the end.
func OwnNetBox(ctx context.Context, l *lab.Lab, target, tokenFile string, log io.Writer) (*IPAM, error) {
	u, err := url.Parse(target)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("NETBOX_URL is %q: want a URL like https://netbox.example.org", target)
	}
	token, err := os.ReadFile(tokenFile)
	if err != nil {
		return nil, fmt.Errorf("reading NETBOX_TOKEN_FILE: %w", err)
	}
	n := &IPAM{Token: strings.TrimSpace(string(token)), Prefix: ownPrefix, Cluster: ownCluster, Web: target}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) }}
	if err := n.serveInLab(l, proxy); err != nil {
		return nil, err
	}
	if err := n.borrow(ctx, l, log); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}
