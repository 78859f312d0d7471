// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package announce

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	// proxyInterval is how often kube-proxy is asked, and proxyTimeout how long
	// an answer may take. With proxyFailures they make it about 6 s until a node whose
	// kube-proxy is gone withdraws: traffic to it goes nowhere meanwhile.
	proxyInterval = 2 * time.Second
	proxyTimeout  = time.Second
	// proxyFailures in a row make kube-proxy unhealthy: fewer would withdraw
	// every address of the node while kube-proxy is restarted.
	proxyFailures = 3
)

// proxyCheck asks kube-proxy on this node whether it forwards. Until it first
// said so it does not: right after boot the rules are not there yet.
type proxyCheck struct {
	url    string
	client *http.Client
	// changed is called with why kube-proxy is unhealthy, empty if it is not.
	changed func(problem string)

	failures int
	healthy  bool
	problem  string
}

func newProxyCheck(url string, changed func(string)) *proxyCheck {
	return &proxyCheck{
		url: url, changed: changed,
		// No keep-alive: a new connection also proves that new ones work.
		client: &http.Client{Timeout: proxyTimeout, Transport: &http.Transport{DisableKeepAlives: true}},
	}
}

// run asks until the context ends.
func (p *proxyCheck) run(ctx context.Context) {
	tick := time.NewTicker(proxyInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.once(ctx)
		}
	}
}

// once asks and reports a change. An answer that the end of the context cut off is
// no answer.
func (p *proxyCheck) once(ctx context.Context) {
	err := p.ask(ctx)
	if ctx.Err() != nil {
		return
	}
	problem := p.judge(err)
	if problem != p.problem {
		p.problem = problem
		p.changed(problem)
	}
}

// judge returns the problem after one more answer: one good answer is enough to be
// healthy, while a single bad one is not enough to be unhealthy.
func (p *proxyCheck) judge(err error) string {
	if err == nil {
		p.failures, p.healthy = 0, true
		return ""
	}
	p.failures++
	if p.healthy && p.failures < proxyFailures {
		return p.problem
	}
	p.healthy = false
	return fmt.Sprintf("kube-proxy is not healthy: %v; if no kube-proxy runs here, start the agent with --kube-proxy-health=\"\"", err)
}

// ask returns nil for the status 200 only: kube-proxy answers 503 while its rules
// are out of date, or its node is about to be deleted (KEP-3836).
func (p *proxyCheck) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, proxyTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
	if err != nil {
		return fmt.Errorf("asking kube-proxy: %w", err)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return err // a *url.Error, which names the URL and what was done
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)); err != nil {
		return fmt.Errorf("%s: %w", p.url, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", p.url, resp.Status)
	}
	return nil
}
