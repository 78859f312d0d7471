// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package trigger

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func pending(t *Trigger) bool {
	select {
	case <-t.C():
		return true
	default:
		return false
	}
}

func TestNewIsNotPending(t *testing.T) {
	if pending(New()) {
		t.Error("a new trigger is pending")
	}
}

func TestFireCoalesces(t *testing.T) {
	for _, times := range []int{1, 2, 100} {
		tr := New()
		for range times {
			tr.Fire()
		}
		if !pending(tr) {
			t.Errorf("fired %d times: not pending", times)
		}
		if pending(tr) {
			t.Errorf("fired %d times: pending after one receive", times)
		}
		tr.Fire()
		if !pending(tr) {
			t.Errorf("fired %d times and received: does not fire again", times)
		}
	}
}

// A change that comes while the receiver is at work makes it go round once
// more, and a burst of them no more than once.
func TestFireWhileAtWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, done := New(), make(chan struct{})
		rounds := 0
		go func() {
			for {
				select {
				case <-done:
					return
				case <-tr.C():
					rounds++
					time.Sleep(time.Second)
				}
			}
		}()
		tr.Fire()
		synctest.Wait()
		for range 10 {
			tr.Fire()
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Minute)
		synctest.Wait() // also what orders the read below after the last write
		if rounds != 2 {
			t.Errorf("%d rounds, want 2", rounds)
		}
		close(done)
	})
}

// The receiver sees what was written before the last Fire, whichever of
// several concurrent ones woke it.
func TestNoChangeIsMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const writers, changes = 8, 100
		tr, done := New(), make(chan struct{})
		var mu sync.Mutex
		written, seen := 0, 0
		go func() {
			for {
				select {
				case <-done:
					return
				case <-tr.C():
					mu.Lock()
					seen = written
					mu.Unlock()
				}
			}
		}()
		var wg sync.WaitGroup
		for range writers {
			wg.Go(func() {
				for range changes {
					mu.Lock()
					written++
					mu.Unlock()
					tr.Fire()
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if seen != writers*changes {
			t.Errorf("saw %d of %d changes", seen, writers*changes)
		}
		close(done)
	})
}

func BenchmarkFire(b *testing.B) {
	tr := New()
	for b.Loop() {
		tr.Fire()
	}
}
