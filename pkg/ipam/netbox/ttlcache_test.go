// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

func TestTTLCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, away := 0, false
		var wrong *sourceError
		k := newTTLCache(func(context.Context) (int, error) {
			time.Sleep(time.Second)
			if away {
				return 0, &ipam.UnavailableError{Doing: "asking", Err: errors.New("away")}
			}
			asked++
			if wrong != nil {
				return asked, wrong
			}
			return asked, nil
		})
		want := func(maxAge time.Duration, value int, ok bool) {
			t.Helper()
			if got, err := k.get(t.Context(), maxAge); (err == nil) != ok || ok && got != value {
				t.Errorf("after %d answers: got %d, %v; want %d", asked, got, err, value)
			}
		}
		away = true
		want(time.Minute, 0, false) // nothing is known yet
		away = false
		var wg sync.WaitGroup
		for range 9 { // one of them asks for all
			wg.Go(func() { want(time.Minute, 1, true) })
		}
		wg.Wait()
		time.Sleep(50 * time.Second)
		want(time.Minute, 1, true)
		want(0, 2, true)
		time.Sleep(time.Minute)
		want(time.Minute, 3, true)
		k.invalidate()
		want(time.Minute, 4, true)

		away = true
		time.Sleep(time.Minute)
		want(time.Minute, 4, true) // what was known
		before := time.Now()
		want(time.Minute, 4, true) // without waiting for NetBox again
		if waited := time.Since(before); waited > 0 {
			t.Errorf("waited %s", waited)
		}
		want(0, 0, false)
		time.Sleep(absentTTL)
		away, wrong = false, newSourceError("nothing there")
		want(time.Minute, 5, false)
		want(time.Minute, 5, false)
		if asked != 5 {
			t.Errorf("asked %d times, want what is missing to be remembered", asked)
		}
		time.Sleep(absentTTL) // but not for long
		want(time.Minute, 6, false)
		if asked != 6 {
			t.Errorf("asked %d times", asked)
		}
	})
}

func TestTTLCacheEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTTLCache(func(context.Context) (int, error) { time.Sleep(time.Hour); return 1, nil })
		go k.get(context.Background(), time.Minute) //nolint:errcheck // the slow one
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := k.get(ctx, time.Minute); !errors.As(err, new(*ipam.UnavailableError)) {
			t.Errorf("got %v", err)
		}
		time.Sleep(2 * time.Hour)
	})
}

// TestTTLCacheAsksAnew: with maxAge 0 an answer counts only if it was asked for
// afterwards, and a slow answer from before does not replace it.
func TestTTLCacheAsksAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inNetBox := 1
		slow := true
		k := newTTLCache(func(context.Context) (int, error) {
			seen := inNetBox
			if slow {
				slow = false
				time.Sleep(time.Minute)
			}
			return seen, nil
		})
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = k.get(t.Context(), time.Hour) })
		synctest.Wait()
		time.Sleep(time.Second)
		inNetBox = 2
		if got, err := k.get(t.Context(), 0); got != 2 || err != nil {
			t.Errorf("got %d, %v", got, err)
		}
		wg.Wait()
		if got, err := k.get(t.Context(), time.Hour); got != 2 || err != nil {
			t.Errorf("after the slow answer: got %d, %v", got, err)
		}
	})
}
