// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
	"k8s.io/klog/v2"
)

const (
	// failuresToOpen is how many requests in a row must fail before the circuit
	// opens: single failures are reported by the requests themselves.
	failuresToOpen = 3
	// openFor is how long no request is sent then. After it a single one goes
	// out to see whether NetBox is back, so this is how late that is noticed,
	// and a NetBox that is down gets no more than one request in this time.
	openFor = time.Second
)

// circuitBreaker keeps requests from a NetBox that does not answer or that
// asked to be left alone. Without it a backlog of Services would hold a request
// each until its deadline, and fall upon a NetBox that has just come back.
//
// The counting is gobreaker's. What is added is Retry-After, which is a pause
// of its own for each answer, and which error opened the circuit.
type circuitBreaker struct {
	url     string // for the log
	breaker *gobreaker.TwoStepCircuitBreaker[struct{}]

	mu sync.Mutex
	// last is what the requests that were sent failed with, as the error of
	// those that are not.
	last error
	// resume is when the pause ends that NetBox asked for.
	resume time.Time
	// open is whether the log and the metric say that requests are held back.
	open bool
}

func newCircuitBreaker(url string) *circuitBreaker {
	return &circuitBreaker{url: url, breaker: gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name:        "netbox",
		MaxRequests: 1, // probes while half-open
		Timeout:     openFor,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= failuresToOpen },
		// A refusal is an answer: NetBox works.
		IsSuccessful: func(err error) bool { return !errors.As(err, new(*UnavailableError)) },
		IsExcluded:   func(err error) bool { return errors.Is(err, errCallerGaveUp) },
	})}
}

// admit returns an error while the circuit is open. Otherwise done must be
// called with what came of the request. The error names no remaining time: it
// ends up in Events and conditions, where each new text is a new one.
func (b *circuitBreaker) admit(doing string) (done func(error), err error) {
	b.mu.Lock()
	last, left := b.last, time.Until(b.resume)
	b.mu.Unlock()
	if left <= 0 {
		report, err := b.breaker.Allow()
		if err == nil {
			return func(err error) { b.learn(err, report) }, nil
		}
		left = openFor
	}
	return nil, &UnavailableError{Doing: doing, RetryAfter: left, Err: fmt.Errorf("circuit open: %w", last)}
}

// learn notes what came of a request, and says once when the circuit opens or
// closes. Answers to requests that were sent before do neither.
func (b *circuitBreaker) learn(err error, report func(error)) {
	var away *UnavailableError
	failed := errors.As(err, &away)
	b.mu.Lock()
	defer b.mu.Unlock()
	if failed {
		b.last = away.Err
		if until := time.Now().Add(away.RetryAfter); away.RetryAfter > 0 && until.After(b.resume) {
			b.resume = until
		}
	}
	report(err) // after last: whoever is held back from now on names it
	state := b.breaker.State()
	pause := max(time.Until(b.resume), 0)
	switch {
	case !b.open && (state == gobreaker.StateOpen || pause > 0):
		b.open = true
		circuitOpen.Set(1)
		klog.Background().Info("NetBox circuit opened, requests are held back", "url", b.url, "retryAfter", pause.Round(time.Second), "err", b.last)
	case b.open && !failed && state == gobreaker.StateClosed && pause == 0 && !errors.Is(err, errCallerGaveUp):
		b.open = false
		circuitOpen.Set(0)
		klog.Background().Info("NetBox circuit closed, requests go out again", "url", b.url)
	}
}
