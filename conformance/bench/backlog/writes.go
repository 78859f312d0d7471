// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package backlog

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

var requestTotal = regexp.MustCompile(`(?m)^apiserver_request_total\{[^}]*verb="(?:POST|PUT|PATCH|DELETE)"[^}]*\} (\S+)$`)

// reviews are questions, though they are asked by POST.
var reviews = regexp.MustCompile(`resource="(?:tokenreviews|subjectaccessreviews)"`)

// Writes counts the writes that the API server has answered so far.
func (c *Cluster) Writes(ctx context.Context) (float64, error) {
	metrics, err := c.Client.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return 0, fmt.Errorf("reading the API server's metrics: %w", err)
	}
	total := 0.0
	for _, m := range requestTotal.FindAllSubmatch(metrics, -1) {
		if reviews.Match(m[0]) {
			continue
		}
		v, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			return 0, fmt.Errorf("reading the API server's metrics: %w", err)
		}
		total += v
	}
	return total, nil
}

// Settled waits until no write has been seen for a while and returns the count.
func (c *Cluster) Settled(ctx context.Context) (float64, error) {
	last, err := c.Writes(ctx)
	for since := time.Now(); err == nil && time.Since(since) < Quiet; {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
		var now float64
		if now, err = c.Writes(ctx); now != last {
			last, since = now, time.Now()
		}
	}
	return last, err
}
