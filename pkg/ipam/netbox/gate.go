// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

const (
	// failuresToClose is how many requests in a row must fail before the gate
	// closes: single failures are told by the requests themselves.
	failuresToClose = 3
	firstPause      = 500 * time.Millisecond
	// longestPause is how late a NetBox that is back is noticed at most.
	longestPause = 10 * time.Second
)

// gate keeps requests from a NetBox that does not answer or that asked to be
// left alone. The zero value is open.
type gate struct {
	mu       sync.Mutex
	until    time.Time
	failures int
	last     error
}

// admit returns an error while the gate is closed.
func (g *gate) admit(doing string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	left := time.Until(g.until)
	if left <= 0 {
		return nil
	}
	return &ipam.UnavailableError{
		Doing: doing, RetryAfter: left,
		Err: fmt.Errorf("not asked, next try in %s: %w", left.Round(100*time.Millisecond), g.last),
	}
}

// note learns from what became of a request.
func (g *gate) note(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var u *ipam.UnavailableError
	if !errors.As(err, &u) {
		g.failures = 0
		return
	}
	pause := u.RetryAfter
	if pause == 0 && time.Now().Before(g.until) {
		return // sent before the gate closed
	}
	g.failures++
	g.last = u.Err
	if pause == 0 && g.failures >= failuresToClose {
		pause = min(firstPause<<min(g.failures-failuresToClose, 8), longestPause)
	}
	if until := time.Now().Add(pause); pause > 0 && until.After(g.until) {
		g.until = until
	}
}
