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

func (b *batcher[T]) run() {
	for {
		part := b.take()
		if part == nil {
			return
		}
		b.work(part)
	}
}

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
