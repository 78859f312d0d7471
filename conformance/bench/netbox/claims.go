// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bm-ccm/bm-ccm/conformance/bench"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/schema"
)

func request(name string, p netip.Prefix) ipam.Request {
	return ipam.Request{
		Key:   ipam.Key{Cluster: cluster, Namespace: "default", Service: name, Family: ipam.IPv4},
		Owner: ipam.Owner{UID: "uid-of-" + name, Class: "bench"}, Pools: []ipam.Pool{poolOf(p)},
	}
}

// body is what a plain client posts for an address: what bm-ccm posts.
func body(name string) map[string]any {
	return map[string]any{
		"status": "active", "description": "k8s " + cluster + " default/" + name, "prefix_length": 32,
		"custom_fields": map[string]any{
			schema.FieldClaim: cluster + "/default/" + name + "/ipv4", schema.FieldCluster: cluster, schema.FieldClusterUID: "bench-uid",
			schema.FieldServiceUID: "uid-of-" + name, schema.FieldClass: "bench", schema.FieldRelease: schema.ReleaseDelete,
		},
	}
}

// measured adds up what some things took.
type measured struct {
	things   int
	took     time.Duration
	requests int64
}

func (m measured) perSecond() float64 { return float64(m.things) / m.took.Seconds() }
func (m measured) each() float64      { return float64(m.requests) / float64(m.things) }

// crowd does things, some at a time, and adds to what they took.
func (s *scene) crowd(m *measured, from, to, workers int, do func(i int) error) error {
	before, begin := s.count.Load(), time.Now()
	next := atomic.Int64{}
	next.Store(int64(from))
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := int(next.Add(1) - 1); i < to; i = int(next.Add(1) - 1) {
				if err := do(i); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
					return
				}
			}
		})
	}
	wg.Wait()
	m.things += to - from
	m.took += time.Since(begin)
	m.requests += s.count.Load() - before
	return errors.Join(errs...)
}

// contender claims addresses in its own way and gives them back.
type contender struct {
	name    string
	workers int
	// n is how many it claims.
	n              int
	claim, release func(i int) error

	claims, releases measured
}

// plain is a client that asks for one address at a time.
func (s *scene) plain(ctx context.Context, n int) *contender {
	_, prefix := s.unused()
	ids := make([]int64, n)
	return &contender{
		name: "one by one", workers: 1, n: n,
		claim: func(i int) error {
			var got struct {
				ID int64 `json:"id"`
			}
			err := s.do(ctx, http.MethodPost, fmt.Sprintf("/api/ipam/prefixes/%d/available-ips/", prefix), body(fmt.Sprintf("plain-%d", i)), &got)
			ids[i] = got.ID
			return err
		},
		release: func(i int) error {
			return s.do(ctx, http.MethodDelete, fmt.Sprintf("/api/ipam/ip-addresses/%d/", ids[i]), nil, nil)
		},
	}
}

// ours is the allocator, asked by some at a time.
func (s *scene) ours(ctx context.Context, n, workers int) (*contender, error) {
	p, _ := s.unused()
	a, err := s.allocator()
	if err != nil {
		return nil, err
	}
	if _, err := a.Claim(ctx, request("first", p)); err != nil { // it checks NetBox and looks for the prefix
		return nil, err
	}
	if err := a.Release(ctx, request("first", p).Key); err != nil {
		return nil, err
	}
	name := func(i int) string { return fmt.Sprintf("w%d-%d", workers, i) }
	return &contender{
		name: fmt.Sprintf("%d workers", workers), workers: workers, n: n,
		claim:   func(i int) error { _, err := a.Claim(ctx, request(name(i), p)); return err },
		release: func(i int) error { return a.Release(ctx, request(name(i), p).Key) },
	}, nil
}

// legs is how many legs each contender runs, in turn with the others: a
// machine that is busy with something else is so for all of them.
const legs = 5

// claims compares the allocator with a plain client.
func (s *scene) claims(ctx context.Context, n int) ([]bench.Figure, error) {
	contenders := []*contender{s.plain(ctx, n/10)}
	for _, w := range workers {
		c, err := s.ours(ctx, n, w)
		if err != nil {
			return nil, err
		}
		contenders = append(contenders, c)
	}
	for leg := range legs {
		bench.Progress("claims, leg %d of %d", leg+1, legs)
		for _, c := range contenders {
			if err := s.crowd(&c.claims, c.n*leg/legs, c.n*(leg+1)/legs, c.workers, c.claim); err != nil {
				return nil, err
			}
		}
	}
	for leg := range legs {
		bench.Progress("releases, leg %d of %d", leg+1, legs)
		for _, c := range contenders {
			if err := s.crowd(&c.releases, c.n*leg/legs, c.n*(leg+1)/legs, c.workers, c.release); err != nil {
				return nil, err
			}
		}
	}
	return compare(contenders[0], contenders[1:]), nil
}

// compare makes figures of contenders.
func compare(plain *contender, ours []*contender) []bench.Figure {
	figures := []bench.Figure{
		bench.Reference("one by one, claims", plain.claims.perSecond(), "1/s", fmt.Sprintf("%d addresses, a plain client, in turn with the others", plain.n)),
		bench.Reference("one by one, releases", plain.releases.perSecond(), "1/s", "DELETE without a look, which bm-ccm never does"),
	}
	for _, c := range ours {
		note := fmt.Sprintf("%d addresses, %s", c.n, c.name)
		figures = append(figures,
			bench.Reference("claims", c.claims.perSecond(), "1/s", note),
			bench.AtLeast("claims, ratio to one by one", c.claims.perSecond()/plain.claims.perSecond(), "", 3, note),
			bench.AtMost("claims, requests each", c.claims.each(), "", 1, note),
			bench.Reference("releases", c.releases.perSecond(), "1/s", note),
			bench.AtLeast("releases, ratio to one by one", c.releases.perSecond()/plain.releases.perSecond(), "", 1, note),
			bench.AtMost("releases, requests each", c.releases.each(), "", 1, note),
		)
	}
	return figures
}

// idle compares one claim on an idle allocator with one request.
func (s *scene) idle(ctx context.Context) ([]bench.Figure, error) {
	const times = 25
	bench.Progress("single claims, %d of each kind in turn", times)
	p, id := s.unused()
	a, err := s.allocator()
	if err != nil {
		return nil, err
	}
	if _, err := a.Claim(ctx, request("first", p)); err != nil { // it looks for the prefix, too
		return nil, err
	}
	var plain, ours []time.Duration
	for i := range times {
		begin := time.Now()
		if err := s.do(ctx, http.MethodPost, fmt.Sprintf("/api/ipam/prefixes/%d/available-ips/", id), body(fmt.Sprintf("idle-%d", i)), nil); err != nil {
			return nil, err
		}
		plain = append(plain, time.Since(begin))
		begin = time.Now()
		if _, err := a.Claim(ctx, request(fmt.Sprintf("single-%d", i), p)); err != nil {
			return nil, err
		}
		ours = append(ours, time.Since(begin))
	}
	post, claim := bench.Median(plain), bench.Median(ours)
	return []bench.Figure{
		bench.Reference("one POST, idle", ms(post), "ms", "median"),
		bench.Reference("one claim, idle", ms(claim), "ms", "median"),
		bench.AtMost("one claim, ratio to one POST", float64(claim)/float64(post), "", 1.2, "nothing waits for company"),
	}, nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// fill measures the start of an allocator that finds many records.
func (s *scene) fill(ctx context.Context, n int) ([]bench.Figure, error) {
	bench.Progress("putting %d records into NetBox", n)
	_, id := s.unused()
	for done := 0; done < n; done += 100 {
		var list []map[string]any
		for i := done; i < min(done+100, n); i++ {
			list = append(list, body(fmt.Sprintf("there-%d", i)))
		}
		if err := s.do(ctx, http.MethodPost, fmt.Sprintf("/api/ipam/prefixes/%d/available-ips/", id), list, nil); err != nil {
			return nil, err
		}
	}
	bench.Progress("starts of an allocator, %d records", n)
	var starts, lists []time.Duration
	for range 5 {
		a, err := s.allocator()
		if err != nil {
			return nil, err
		}
		begin := time.Now()
		if _, err := a.Find(ctx, "default", "there-0"); err != nil {
			return nil, err
		}
		starts = append(starts, time.Since(begin))
		begin = time.Now()
		found, err := a.List(ctx)
		if err != nil {
			return nil, err
		}
		if len(found) < n {
			return nil, fmt.Errorf("NetBox has %d records of the cluster, and the allocator lists %d", n, len(found))
		}
		lists = append(lists, time.Since(begin))
	}
	return []bench.Figure{
		bench.Below("filling the cache", bench.Median(lists).Seconds(), "s", 1, fmt.Sprintf("%d records", n)),
		bench.Reference("start of an allocator", bench.Median(starts).Seconds(), "s", "with the check of NetBox's set-up"),
	}, nil
}
