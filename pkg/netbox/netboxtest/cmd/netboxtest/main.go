// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/bm-ccm/bm-ccm/pkg/netbox/netboxtest"
)

const usage = `netboxtest serves a NetBox in memory: the part of its REST API that bm-ccm uses,
behaving like NetBox 4.4, 4.5, 4.6 or 4.7. Nothing is kept when it ends.

Usage: netboxtest [flags]

It prints one line with its URL when it is ready, shows what it holds at that
URL, and ends on SIGTERM or SIGINT. Without tokens in the seed there is one
superuser token: ` + netboxtest.DefaultToken + `

Seed file (YAML or JSON), all parts optional:

  claimFields: true              # k8s_lb_claim, k8s_cluster, k8s_cluster_uid, k8s_service_uid
  tokens:
  - {user: admin, key: nbt_adminadmin12.0123456789abcdef0123456789abcdef01234567, superuser: true}
  - user: cluster1
    key: nbt_cluster10001.0123456789abcdef0123456789abcdef01234567
    permissions:
    - {objectTypes: [ipam.prefix, ipam.ipaddress, extras.customfield], actions: [view]}
    - objectTypes: [ipam.ipaddress]
      actions: [add, change, delete]
      constraints: {custom_field_data__k8s_cluster: c1}
  sites: [{name: dc1, region: europe}]
  vrfs: [{name: blue, rd: "65000:1"}]
  prefixes: [{prefix: 203.0.113.0/24, tags: [k8s]}, {prefix: "2001:db8::/64", vrf: blue}]
  ranges: [{start: 10.0.0.10/24, end: 10.0.0.20/24}]
  devices: [{name: node1, site: dc1, type: r640, rack: r1, primary4: 192.0.2.11/24}]
  addresses: [{address: 203.0.113.1/24, description: gateway}]

Faults are injected at /_control/faults, as JSON (PUT a list of them, POST one,
GET, DELETE), for example the loss of one answer after the claim was made:

  curl -X POST URL/_control/faults -d '{"method":"POST","path":"available-ips","times":1,"loseAnswerAfterCommit":true}'

Keys: method, path (regular expression), skip, times, latency, gapLatency,
hangBeforeCommit, hangAfterCommit, loseAnswerAfterCommit, reset, status, header,
body, htmlBody, truncate. GET /_control/requests lists and counts the API
requests; POST /_control/ui writes an address past all locks and checks, as the
web pages of NetBox can; POST /_control/seed puts in more of a seed.

Flags:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "netboxtest:", err)
		os.Exit(1)
	}
}

// config is what the flags say.
type config struct {
	listen, seed, version, cert, key string
	buffered                         bool
}

func parse(args []string, stdout io.Writer) (config, error) {
	var c config
	fs := flag.NewFlagSet("netboxtest", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&c.listen, "listen", "127.0.0.1:8000", "`address` and port to listen on; port 0 takes a free one")
	fs.StringVar(&c.seed, "seed", "", "`file` with what NetBox holds at the start")
	fs.StringVar(&c.version, "version", "4.7", "NetBox `release` to behave like: 4.4, 4.5, 4.6 or 4.7")
	fs.StringVar(&c.cert, "tls-cert", "", "`file` with the certificate, PEM; serves https")
	fs.StringVar(&c.key, "tls-key", "", "`file` with the certificate's key, PEM")
	fs.BoolVar(&c.buffered, "buffered-bodies", false, "read chunked request bodies, as behind nginx, instead of taking them for empty, as bare gunicorn does")
	fs.Usage = func() {}
	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		fs.SetOutput(stdout)
		fs.PrintDefaults()
		return c, err
	case err != nil:
		return c, fmt.Errorf("%w (see --help)", err)
	case fs.NArg() > 0:
		return c, fmt.Errorf("unexpected argument %q (see --help)", fs.Arg(0))
	case (c.cert == "") != (c.key == ""):
		return c, errors.New("--tls-cert and --tls-key go together")
	}
	return c, nil
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	c, err := parse(args, stdout)
	if err != nil {
		return err
	}
	opts := netboxtest.Options{Version: c.version, BufferedBodies: c.buffered}
	if c.seed != "" {
		if opts.Seed, err = netboxtest.ReadSeed(c.seed); err != nil {
			return err
		}
	}
	if err := opts.Validate(); err != nil {
		return err
	}
	return serve(ctx, c, netboxtest.New(opts), stdout)
}

// serve answers requests until the context ends.
func serve(ctx context.Context, c config, nb *netboxtest.Server, stdout io.Writer) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.listen)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	url := "http://" + l.Addr().String()
	if c.cert != "" {
		pair, err := tls.LoadX509KeyPair(c.cert, c.key)
		if err != nil {
			return errors.Join(fmt.Errorf("loading the certificate: %w", err), l.Close())
		}
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
		url = strings.Replace(url, "http:", "https:", 1)
	}
	srv := &http.Server{Handler: nb, ReadHeaderTimeout: 30 * time.Second}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	fmt.Fprintf(stdout, "netboxtest %s ready at %s\n", nb.Version(), url)
	select {
	case err := <-done:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	nb.ClearFaults() // ends requests that hang
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := srv.Shutdown(stopping); err != nil {
		return srv.Close()
	}
	return nil
}
