// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package keylock

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestOneAtATime: one key in turn, different keys at the same time, and nothing
// is kept of keys that nobody uses.
func TestOneAtATime(t *testing.T) {
	tests := []struct {
		name string
		keys []string
		want time.Duration
	}{
		{"one key", []string{"a", "a", "a"}, 3 * time.Second},
		{"several keys", []string{"a", "b", "c"}, time.Second},
		{"mixed", []string{"a", "b", "a", "b"}, 2 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var locks Locks[string]
				var wg sync.WaitGroup
				start := time.Now()
				for _, key := range tt.keys {
					wg.Go(func() {
						unlock, err := locks.Lock(t.Context(), key)
						if err != nil {
							t.Error(err)
							return
						}
						defer unlock()
						time.Sleep(time.Second)
					})
				}
				wg.Wait()
				if took := time.Since(start); took != tt.want {
					t.Errorf("took %s, want %s", took, tt.want)
				}
				if len(locks.byKey) != 0 {
					t.Errorf("%d locks are left", len(locks.byKey))
				}
			})
		})
	}
}

// TestWaitingEnds with the context, and leaves the lock to its holder.
func TestWaitingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var locks Locks[int]
		unlock, err := locks.Lock(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if _, err := locks.Lock(ctx, 1); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("got %v after %s", err, time.Since(start))
		}
		unlock()
		// The context is over, and the lock is free: still an error.
		if _, err := locks.Lock(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if unlock, err = locks.Lock(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		unlock()
		if len(locks.byKey) != 0 {
			t.Errorf("%d locks are left", len(locks.byKey))
		}
	})
}
