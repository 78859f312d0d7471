// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"errors"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// knowledge is what NetBox has for a description, as far as it is known.
type knowledge[T any] struct {
	ask func(context.Context) (T, *problem, error)
	// turn is held by the one call that asks.
	turn chan struct{}

	mu      sync.Mutex
	value   T
	problem *problem
	known   bool
	at      time.Time // of the last answer
	failed  time.Time // of the last failure, if that came after it
}

func newKnowledge[T any](ask func(context.Context) (T, *problem, error)) *knowledge[T] {
	return &knowledge[T]{ask: ask, turn: make(chan struct{}, 1)}
}

// now returns what NetBox had maxAge ago or later; with 0 it is asked. However
// many want to know, one asks. While NetBox is away, what was known last counts,
// unless maxAge is 0.
func (f *knowledge[T]) now(ctx context.Context, maxAge time.Duration) (T, *problem, error) {
	if value, wrong, ok := f.recent(maxAge); ok {
		return value, wrong, nil
	}
	select {
	case f.turn <- struct{}{}:
		defer func() { <-f.turn }()
	case <-ctx.Done():
		var none T
		return none, nil, &ipam.UnavailableError{Doing: "waiting for a look into NetBox", Err: ctx.Err()}
	}
	if value, wrong, ok := f.recent(maxAge); ok { // since another one has asked
		return value, wrong, nil
	}
	value, wrong, err := f.ask(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		f.value, f.problem, f.known, f.at, f.failed = value, wrong, true, time.Now(), time.Time{}
		return value, wrong, nil
	}
	f.failed = time.Now()
	if !f.known || maxAge == 0 || !errors.As(err, new(*ipam.UnavailableError)) {
		return value, nil, err
	}
	klog.FromContext(ctx).V(2).Info("NetBox cannot be asked which addresses a pool has, going on with those known", "err", err)
	return f.value, f.problem, nil
}

// recent returns what is known if that is new enough, or if asking has just
// failed.
func (f *knowledge[T]) recent(maxAge time.Duration) (value T, wrong *problem, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.problem != nil {
		maxAge = min(maxAge, absentTTL)
	}
	ok = f.known && maxAge > 0 && (time.Since(f.at) < maxAge || time.Since(f.failed) < absentTTL)
	return f.value, f.problem, ok
}

// expire makes the next call ask NetBox.
func (f *knowledge[T]) expire() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = time.Time{}
}

// amend changes what is known.
func (f *knowledge[T]) amend(change func(*T)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.value)
}
