// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// waitingList holds the Services whose last sync failed. They are tried again
// when something changes that may help them.
type waitingList struct {
	mu sync.Mutex
	// woken tells of each whether it is being tried again already.
	woken map[string]bool
}

func (w *waitingList) add(svc *corev1.Service) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.woken == nil {
		w.woken = map[string]bool{}
	}
	w.woken[serviceKey(svc)] = false
	servicesWaiting.Set(float64(len(w.woken)))
}

func (w *waitingList) remove(svc *corev1.Service) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.woken, serviceKey(svc))
	servicesWaiting.Set(float64(len(w.woken)))
}

func (w *waitingList) has(svc *corev1.Service) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, waits := w.woken[serviceKey(svc)]
	return waits
}

// take returns up to n Services to be tried again, all of them if n is
// negative. Who fails again can be taken again.
func (w *waitingList) take(n int) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var keys []string
	for k, woken := range w.woken {
		if n >= 0 && len(keys) == n {
			break
		}
		if !woken {
			keys = append(keys, k)
			w.woken[k] = true
		}
	}
	return keys
}

// serviceKey is the key of a Service in informers and queues.
func serviceKey(svc *corev1.Service) string {
	return cache.ObjectName{Namespace: svc.Namespace, Name: svc.Name}.String()
}

// holderKey is the serviceKey of the Service that a claim is for.
func holderKey(key ipam.Key) string {
	return cache.ObjectName{Namespace: key.Namespace, Name: key.Service}.String()
}

// wakePause is the least time between two rounds of waking. It lets a burst of
// changes (a manifest with twenty pools) count as one.
const wakePause = 200 * time.Millisecond

// waker hands waiting Services to the service controller again.
type waker struct {
	waiting *waitingList
	replay  func(key string) bool
	signal  chan struct{}

	mu    sync.Mutex
	quota int // how many to wake; negative for all
}

func newWaker(waiting *waitingList, replay func(key string) bool) *waker {
	return &waker{waiting: waiting, replay: replay, signal: make(chan struct{}, 1)}
}

// all wakes every waiting Service soon.
func (w *waker) all() { w.add(-1) }

// one wakes one waiting Service soon: an address has become free. Waking all of
// a thousand waiting ones for it would only make them fail again.
func (w *waker) one() { w.add(1) }

func (w *waker) add(n int) {
	w.mu.Lock()
	if n < 0 || w.quota < 0 {
		w.quota = -1
	} else {
		w.quota += n
	}
	w.mu.Unlock()
	select {
	case w.signal <- struct{}{}:
	default: // a round is due already
	}
}

func (w *waker) takeQuota() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.quota
	w.quota = 0
	return n
}

// run wakes Services until ctx ends.
func (w *waker) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.signal:
		}
		for _, key := range w.waiting.take(w.takeQuota()) {
			w.replay(key)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wakePause):
		}
	}
}
