// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package trigger

// Trigger is pending or not. Its methods may be called concurrently; use New,
// because the zero value never fires.
type Trigger struct {
	// c has room for exactly one value. Without room, a change that comes while
	// the loop is at work would be lost; with more, the loop would go round for
	// changes that it has already seen.
	c chan struct{}
}

// New returns a trigger that is not pending.
func New() *Trigger { return &Trigger{c: make(chan struct{}, 1)} }

// Fire makes the trigger pending; firing it again before it is received
// changes nothing. It never blocks, so that informers, hooks of libraries and
// holders of a lock can call it.
//
// Change the state first and fire then: who receives from C sees all that was
// written before the Fire that it answers, and before those coalesced into it.
func (t *Trigger) Fire() {
	select {
	case t.c <- struct{}{}:
	default:
	}
}

// C returns the channel that receives once for each time the trigger became
// pending. A receive takes the pending state away, so there is one receiver,
// which reads the state after it received: what fires from then on is news.
func (t *Trigger) C() <-chan struct{} { return t.c }
