// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	"k8s.io/klog/v2"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// ttlCache keeps the last answer to one question to NetBox. However many want
// to know at once, one asks. A *sourceError is an answer: what NetBox lacks is
// remembered too, for absentTTL.
type ttlCache[T any] struct {
	ask    func(context.Context) (T, error)
	flight singleflight.Group // of one key, ""

	mu     sync.Mutex
	value  T
	wrong  *sourceError
	known  bool
	asked  time.Time // when the question was asked that value answers
	at     time.Time // of the last answer
	failed time.Time // of the last failure, if that came after it
}

// newTTLCache returns a cache that asks when it is asked first.
func newTTLCache[T any](ask func(context.Context) (T, error)) *ttlCache[T] {
	return &ttlCache[T]{ask: ask}
}

// get returns what NetBox had maxAge ago or later; with 0 it is asked. While
// NetBox is away, what was known last counts, unless maxAge is 0: whoever waits
// for an address is better served by a prefix of yesterday than by an error.
func (c *ttlCache[T]) get(ctx context.Context, maxAge time.Duration) (T, error) {
	if value, ok, err := c.recent(maxAge); ok {
		return value, err
	}
	var none T
	if maxAge == 0 {
		c.flight.Forget("") // what is under way may have been read before
	}
	// The answer is for everybody who waits, so it must not end with the context
	// of who came first. Requests have deadlines of their own.
	result := c.flight.DoChan("", func() (any, error) { return nil, c.refresh(context.WithoutCancel(ctx)) })
	var err error
	select {
	case r := <-result:
		err = r.Err
	case <-ctx.Done():
		return none, &ipam.UnavailableError{Doing: "waiting for a look into NetBox", Err: ctx.Err()}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil && (!c.known || maxAge == 0 || !errors.As(err, new(*ipam.UnavailableError))):
		return none, err
	case err != nil:
		klog.FromContext(ctx).V(2).Info("NetBox cannot be asked which addresses a pool has, going on with those known", "err", err)
	}
	return c.value, c.answerError()
}

// refresh asks NetBox and remembers the answer, unless a later question was
// answered meanwhile.
func (c *ttlCache[T]) refresh(ctx context.Context) error {
	asked := time.Now()
	value, err := c.ask(ctx)
	var wrong *sourceError
	isAnswer := err == nil || errors.As(err, &wrong)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !isAnswer {
		c.failed = time.Now()
		return err
	}
	if !asked.Before(c.asked) {
		c.value, c.wrong, c.known, c.asked, c.at, c.failed = value, wrong, true, asked, time.Now(), time.Time{}
	}
	return nil
}

// recent returns what is known if that is new enough, or if asking has just
// failed: a backlog of Services must not wait for a dead NetBox once each.
func (c *ttlCache[T]) recent(maxAge time.Duration) (value T, ok bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wrong != nil {
		maxAge = min(maxAge, absentTTL)
	}
	ok = c.known && maxAge > 0 && (time.Since(c.at) < maxAge || time.Since(c.failed) < absentTTL)
	return c.value, ok, c.answerError()
}

// answerError is the part of the answer that is an error; the caller holds mu.
func (c *ttlCache[T]) answerError() error {
	if c.wrong == nil {
		return nil // and not a nil *sourceError
	}
	return c.wrong
}

// peek returns what is known, however old.
func (c *ttlCache[T]) peek() T {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.value
}

// invalidate makes the next call ask NetBox.
func (c *ttlCache[T]) invalidate() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = time.Time{}
}

// update changes what is known: what this process has just written is newer than
// what was read.
func (c *ttlCache[T]) update(change func(*T)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.value)
}
