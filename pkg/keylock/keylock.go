// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package keylock

import (
	"context"
	"fmt"
	"sync"
)

// Locks are one lock per key. The zero value is ready for use. A Locks must not
// be copied after its first use.
type Locks[K comparable] struct {
	mu    sync.Mutex
	byKey map[K]*lock
}

// lock is the lock of one key. It exists while somebody holds it or waits for
// it, so that the map does not grow with every key there ever was.
type lock struct {
	// turn holds one value while the lock is held. A channel and not a mutex,
	// because only a channel can be waited for together with a context.
	turn chan struct{}
	// users counts holders and waiters, guarded by Locks.mu.
	users int
}

// Lock waits until nobody else holds the key, or the context ends, which is the
// error then. unlock must be called exactly once. Locks are not reentrant:
// who needs several keys takes them in one order everywhere.
func (l *Locks[K]) Lock(ctx context.Context, key K) (unlock func(), err error) {
	k := l.join(key)
	// Of several ready cases select takes any: a context that is over must not
	// get the lock by luck.
	if err := context.Cause(ctx); err != nil {
		l.leave(key, k)
		return nil, fmt.Errorf("waiting for the lock of %v: %w", key, err)
	}
	select {
	case k.turn <- struct{}{}:
		return func() { <-k.turn; l.leave(key, k) }, nil
	case <-ctx.Done():
		l.leave(key, k)
		return nil, fmt.Errorf("waiting for the lock of %v: %w", key, context.Cause(ctx))
	}
}

func (l *Locks[K]) join(key K) *lock {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.byKey[key]
	if k == nil {
		if l.byKey == nil {
			l.byKey = map[K]*lock{}
		}
		k = &lock{turn: make(chan struct{}, 1)}
		l.byKey[key] = k
	}
	k.users++
	return k
}

func (l *Locks[K]) leave(key K, k *lock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k.users--; k.users == 0 {
		delete(l.byKey, key)
	}
}
