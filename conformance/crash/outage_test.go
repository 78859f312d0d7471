// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// envOutage is how long NetBox is away in TestOutage.
	envOutage     = "OUTAGE"
	defaultOutage = 20 * time.Second
	// assigned have addresses when NetBox goes, newcomers come after that.
	assigned  = 40
	newcomers = 40
)

// TestOutage takes NetBox away. Who has an address keeps it, unwritten; who
// comes waits, is told why, and is served when NetBox is back, as is who left
// meanwhile. The controller neither grows nor floods its log nor hammers.
func TestOutage(t *testing.T) {
	length := defaultOutage
	if text := os.Getenv(envOutage); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatalf("%s: %v", envOutage, err)
		}
	}
	w := newHarness(t)
	seen := w.watch()
	w.start()
	w.crowd("old", assigned)
	w.converge()
	before := w.versions("old")
	log, memory := len(w.lines()), w.memoryKiB()

	w.ipx.cut.Store(true)
	begin, asked := time.Now(), w.ipx.requests.Load()
	w.crowd("new", newcomers)
	for i := range 5 {
		w.mustDelete(fmt.Sprintf("old-%d", i))
	}
	w.told(newcomers)
	time.Sleep(length - time.Since(begin))
	minutes := time.Since(begin).Minutes()
	asked, log, grown := w.ipx.requests.Load()-asked, len(w.lines())-log, w.memoryKiB()-memory
	w.untouched(before)
	w.ipx.cut.Store(false)

	begin = time.Now()
	w.converge()
	t.Logf("NetBox was away for %.1f min: %.0f requests to it a minute, %.0f lines of log a minute for %d waiting Services, %+d KiB of memory (of %d); all well %v after its return",
		minutes, float64(asked)/minutes, float64(log)/minutes, newcomers+5, grown, memory, time.Since(begin).Round(100*time.Millisecond))
	if wrongs := seen.take(); len(wrongs) > 0 {
		t.Errorf("%q", wrongs)
	}
	w.bounded("requests to a dead NetBox a minute", float64(asked)/minutes, 120)
	w.bounded("lines of log a minute and waiting Service", float64(log)/minutes/(newcomers+5), 20)
	w.bounded("KiB of memory more", float64(grown), 40<<10)
	w.bounded("seconds until all is well", time.Since(begin).Seconds(), 30)
}

func (w *harness) bounded(what string, value, limit float64) {
	w.t.Helper()
	if value > limit {
		w.t.Errorf("%.1f %s: want %g at most", value, what, limit)
	}
}

// crowd creates Services.
func (w *harness) crowd(name string, n int) {
	w.t.Helper()
	for i := range n {
		if err := w.create(fmt.Sprintf("%s-%d", name, i)); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *harness) mustDelete(name string) {
	w.t.Helper()
	if err := w.delete(name); err != nil {
		w.t.Fatal(err)
	}
}

// versions are the resource versions of the Services of a crowd.
func (w *harness) versions(crowd string) map[string]string {
	w.t.Helper()
	list, err := w.kube.CoreV1().Services(namespace).List(w.t.Context(), metav1.ListOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[string]string{}
	for i := range list.Items {
		if svc := &list.Items[i]; strings.HasPrefix(svc.Name, crowd) && svc.DeletionTimestamp == nil {
			out[svc.Name] = svc.ResourceVersion
		}
	}
	return out
}

// untouched wants nobody to have written the Services that are not deleted.
func (w *harness) untouched(before map[string]string) {
	w.t.Helper()
	now := w.versions("old")
	if len(now) != len(before)-5 {
		w.t.Errorf("%d Services of %d are left, five were deleted", len(now), len(before))
	}
	for name, version := range now {
		if before[name] != version {
			w.t.Errorf("Service %s was written while NetBox was away", name)
		}
	}
}

// told waits until n Services of the new crowd were told about NetBox.
func (w *harness) told(n int) {
	w.t.Helper()
	w.eventually(func(ctx context.Context) error {
		list, err := w.kube.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "type=Warning,involvedObject.kind=Service"})
		if err != nil {
			return err
		}
		told := map[string]bool{}
		for i := range list.Items {
			e := &list.Items[i]
			if e.Type == corev1.EventTypeWarning && strings.HasPrefix(e.InvolvedObject.Name, "new-") && strings.Contains(e.Message, "NetBox") {
				told[e.InvolvedObject.Name] = true
			}
		}
		if len(told) < n {
			return fmt.Errorf("%d of %d waiting Services have an Event that names NetBox", len(told), n)
		}
		return nil
	})
}

// eventually tries for as long as it should take.
func (w *harness) eventually(try func(context.Context) error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	for {
		err := try(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			w.t.Fatal(errors.Join(err, ctx.Err()))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (w *harness) lines() []string { return strings.Split(w.log(), "\n") }

// memoryKiB is the anonymous memory that the controller has in use.
func (w *harness) memoryKiB() int {
	w.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.controller.pid()))
	if err != nil {
		w.t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kib int
		if n, _ := fmt.Sscanf(line, "RssAnon: %d kB", &kib); n == 1 {
			return kib
		}
	}
	w.t.Fatalf("/proc/%d/status has no RssAnon", w.controller.pid())
	return 0
}
