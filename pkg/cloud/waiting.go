// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"container/list"
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/workqueue"

	"github.com/bm-ccm/bm-ccm/pkg/cloud/service"
)

// waitingList has the Services whose last sync failed, in the order in which
// they began to wait. They are tried again when something changes that may help
// them.
type waitingList struct {
	mu sync.Mutex
	// order has their keys, the one that has waited longest first.
	order *list.List
	byKey map[string]*waiting
}

// waiting is a Service that waits.
type waiting struct {
	element *list.Element
	// woken says that it is being tried again already.
	woken bool
}

func newWaitingList() *waitingList {
	return &waitingList{order: list.New(), byKey: map[string]*waiting{}}
}

// add notes that a Service has failed. It keeps its place.
func (w *waitingList) add(svc *corev1.Service) {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := service.Key(svc)
	if known := w.byKey[key]; known != nil {
		known.woken = false
		return
	}
	w.byKey[key] = &waiting{element: w.order.PushBack(key)}
	servicesWaiting.Set(float64(len(w.byKey)))
}

// remove notes that a Service has what it wants, or is gone.
func (w *waitingList) remove(svc *corev1.Service) {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := service.Key(svc)
	if known := w.byKey[key]; known != nil {
		w.order.Remove(known.element)
		delete(w.byKey, key)
	}
	servicesWaiting.Set(float64(len(w.byKey)))
}

func (w *waitingList) has(svc *corev1.Service) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.byKey[service.Key(svc)] != nil
}

// take returns up to n Services to be tried again that are not yet being tried,
// or simply all of them if n is negative: one that is being tried may have looked
// before whatever has changed.
func (w *waitingList) take(n int) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var keys []string
	for e := w.order.Front(); e != nil && len(keys) != n; e = e.Next() {
		if known := w.byKey[e.Value.(string)]; n < 0 || !known.woken {
			known.woken = true
			keys = append(keys, e.Value.(string))
		}
	}
	return keys
}

// wakePause is how late a waiting Service is tried again. It lets a burst of
// changes (a manifest with twenty pools) count as one.
const wakePause = 200 * time.Millisecond

// waker has waiting Services tried again.
type waker struct {
	waiting *waitingList
	requeue func(key string) bool
	// queue takes one key once, however often it is woken within wakePause.
	queue workqueue.TypedDelayingInterface[string]
}

func newWaker(waiting *waitingList, requeue func(key string) bool) *waker {
	return &waker{waiting: waiting, requeue: requeue, queue: workqueue.NewTypedDelayingQueue[string]()}
}

// all wakes every waiting Service soon.
func (w *waker) all() { w.wake(-1) }

// one wakes the Service that has waited longest: an address has become free.
// Waking all of a thousand waiting ones for it would only make them fail again.
func (w *waker) one() { w.wake(1) }

// wake takes Services off the list and has them tried once wakePause is over.
func (w *waker) wake(n int) {
	for _, key := range w.waiting.take(n) {
		w.queue.AddAfter(key, wakePause)
	}
}

// run wakes Services until ctx ends.
func (w *waker) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, w.queue.ShutDown)
	defer stop()
	for {
		key, shutdown := w.queue.Get()
		if shutdown {
			return
		}
		w.requeue(key)
		w.queue.Done(key)
	}
}
