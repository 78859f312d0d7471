// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/bm-ccm/bm-ccm/conformance/bench"
	"github.com/bm-ccm/bm-ccm/conformance/bench/backlog"
)

func manifests(p netip.Prefix) string {
	return fmt.Sprintf(`
apiVersion: bm-ccm.io/v1alpha1
kind: AddressPool
metadata: {name: bench}
spec: {netbox: {prefixes: [{prefix: %s}]}}
---
apiVersion: bm-ccm.io/v1alpha1
kind: LoadBalancerClass
metadata: {name: bench}
spec: {pools: [bench]}
`, p)
}

// rate is how fast Services were served, and with how many requests each.
type rate struct{ perSecond, requests float64 }

// services measures the whole way, from Services in the API server to
// addresses in their statuses.
func (s *scene) services(ctx context.Context, n int, binary string) ([]bench.Figure, error) {
	var figures []bench.Figure
	for _, w := range workers {
		bench.Progress("the controller, %d Services, %d workers", n, w)
		r, err := s.backlog(ctx, n, w, binary)
		if err != nil {
			return nil, fmt.Errorf("the controller with %d workers: %w", w, err)
		}
		note := fmt.Sprintf("%d Services, --concurrent-service-syncs=%d", n, w)
		figures = append(figures,
			bench.Reference("backlog to addressed", r.perSecond, "Services/s", note),
			bench.AtMost("backlog, requests to NetBox each", r.requests, "", 1, note+", with its start"),
		)
	}
	return figures, nil
}

func (s *scene) backlog(ctx context.Context, n, workers int, binary string) (rate, error) {
	p, _ := s.unused()
	c, err := backlog.Start(ctx)
	if err != nil {
		return rate{}, err
	}
	defer c.Close()
	if err := c.Prepare(ctx, manifests(p)); err != nil {
		return rate{}, err
	}
	class := "bm-ccm.io/bench"
	if err := c.CreateServices(ctx, n, &class); err != nil {
		return rate{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wait := c.WatchAddressed(ctx, n)
	before := s.count.Load()
	config := fmt.Sprintf("netbox: {url: %q, tokenFile: %q}\n", s.proxy.URL, s.tokenFile())
	process, err := c.Run(ctx, binary, config, fmt.Sprintf("--concurrent-service-syncs=%d", workers))
	if err != nil {
		return rate{}, err
	}
	defer process.Stop() // again, if all went well
	first, last, err := wait()
	if err != nil {
		return rate{}, process.WithLog(err)
	}
	r := rate{float64(n-1) / last.Sub(first).Seconds(), float64(s.count.Load()-before) / float64(n)}
	process.Stop()
	// The next cluster has the same name and is another one.
	return r, s.clear(ctx, p)
}
