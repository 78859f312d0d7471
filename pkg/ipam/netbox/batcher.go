// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import "sync"

// maxBatch is how many addresses one request claims or releases. NetBox's rate
// grows little beyond it, and what waits behind a list waits longer.
const maxBatch = 50

// batcher works on what is waiting, many at a time while there is much, one at
// once while there is little: nothing ever waits for company.
type batcher[T any] struct {
	work func([]T)

	mu      sync.Mutex
	waiting []T
	busy    bool
}

// newBatcher returns a batcher that works on up to maxBatch at a time.
func newBatcher[T any](work func([]T)) *batcher[T] { return &batcher[T]{work: work} }

// add hands over one piece of work and returns at once.
func (b *batcher[T]) add(t T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = append(b.waiting, t)
	if !b.busy {
		b.busy = true
		go b.run()
	}
}

// run works until nothing waits. There is one at most, so that work on one source
// never overtakes itself: NetBox would only let it queue at its lock.
func (b *batcher[T]) run() {
	for {
		part := b.take()
		if part == nil {
			return
		}
		b.work(part)
	}
}

// take returns what is to be worked on next, nil if nothing is. It ends run in the
// same step, or an add in between would be forgotten.
func (b *batcher[T]) take() []T {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(len(b.waiting), maxBatch)
	if n == 0 {
		b.busy, b.waiting = false, nil
		return nil
	}
	part := b.waiting[:n:n]
	b.waiting = b.waiting[n:]
	return part
}
