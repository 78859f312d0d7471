// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/component-base/metrics/testutil"
)

// TestCircuitBreaker: it opens after failures in a row, lets one request
// through after a while, and closes with the first good answer.
func TestCircuitBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCircuitBreaker("http://netbox")
		down := &UnavailableError{Doing: "asking", Err: errors.New("down")}
		admit := func() func(error) {
			t.Helper()
			done, err := b.admit("asking")
			if err != nil {
				t.Fatalf("not admitted: %v", err)
			}
			return done
		}
		refused := func(when string) {
			t.Helper()
			_, err := b.admit("claiming")
			var away *UnavailableError
			if !errors.As(err, &away) || err.Error() != "claiming: circuit open: down" || away.RetryAfter <= 0 {
				t.Errorf("%s: got %v", when, err)
			}
			if open, err := testutil.GetGaugeMetricValue(circuitOpen.GaugeMetric); err != nil || open != 1 {
				t.Errorf("%s: the metric is %v, %v", when, open, err)
			}
		}
		underWay := admit()
		for range failuresToOpen - 1 {
			admit()(down)
		}
		admit()(&AnswerError{Status: 400}) // NetBox works
		admit()(errCallerGaveUp)
		for range failuresToOpen {
			admit()(down)
		}
		refused("open")
		underWay(nil) // sent before, so it says nothing
		refused("after an answer to a request from before")
		for range 5 {
			time.Sleep(openFor + time.Millisecond)
			probe := admit()
			refused("while the probe is under way")
			probe(down)
			refused("after the probe")
		}
		time.Sleep(openFor + time.Millisecond)
		admit()(nil)
		admit()(down)
		admit()(nil)
		if open, err := testutil.GetGaugeMetricValue(circuitOpen.GaugeMetric); err != nil || open != 0 {
			t.Errorf("closed: the metric is %v, %v", open, err)
		}
	})
}

// TestCircuitBreakerHeedsRetryAfter from the first answer on, and for as long
// as NetBox has asked.
func TestCircuitBreakerHeedsRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCircuitBreaker("http://netbox")
		done, err := b.admit("asking")
		if err != nil {
			t.Fatal(err)
		}
		done(&UnavailableError{Doing: "asking", Err: errors.New("busy"), RetryAfter: time.Minute})
		time.Sleep(20 * time.Second)
		var away *UnavailableError
		if _, err := b.admit("asking"); !errors.As(err, &away) || away.RetryAfter != 40*time.Second || !strings.Contains(err.Error(), "circuit open: busy") {
			t.Errorf("got %v", err)
		}
		time.Sleep(40 * time.Second)
		if done, err = b.admit("asking"); err != nil {
			t.Fatal(err)
		}
		done(nil)
		if b.open {
			t.Error("still open after a good answer")
		}
	})
}
