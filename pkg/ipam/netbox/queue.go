// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/netbox"
)

// claimQueues hold the claims that wait for an address, by source. NetBox
// allocates behind one lock, so a list of claims costs little more than one.
type claimQueues struct {
	allocator *Allocator

	mu       sync.Mutex
	bySource map[sourceKey]*batcher[*waitingClaim]
}

// newClaimQueues returns queues that work for an allocator.
func newClaimQueues(a *Allocator) *claimQueues {
	return &claimQueues{allocator: a, bySource: map[sourceKey]*batcher[*waitingClaim]{}}
}

// waitingClaim is a claim in a queue.
type waitingClaim struct {
	item item
	// abandoned is set when nobody waits for the claim any more.
	abandoned atomic.Bool
	done      chan claimResult // has room for the one result
}

// claimResult is what became of a claim in a queue.
type claimResult struct {
	rec record
	err error
}

// claim takes the next free address of a source. Whoever gives up waiting cannot
// take the claim back: it may be written, and the next claim finds it by its key.
// Errors: errFull, errKeyTaken, *sourceError, or one for the user.
func (q *claimQueues) claim(ctx context.Context, src source, it item) (record, error) {
	w := &waitingClaim{item: it, done: make(chan claimResult, 1)}
	q.queue(src).add(w) //nolint:contextcheck // a list POST is of many callers, and ends with none of them
	select {
	case res := <-w.done:
		return res.rec, res.err
	case <-ctx.Done():
		q.allocator.claims.markStale(it.key.String())
		w.abandoned.Store(true)
		return record{}, &ipam.UnavailableError{Doing: "claiming an address in " + src.String(), Err: ctx.Err()}
	}
}

// queue returns the queue of a source. Sources have one each, so that a large
// prefix that NetBox is slow in does not hold up the others.
func (q *claimQueues) queue(src source) *batcher[*waitingClaim] {
	q.mu.Lock()
	defer q.mu.Unlock()
	b := q.bySource[src.key()]
	if b == nil {
		b = newBatcher(func(part []*waitingClaim) {
			part = slices.DeleteFunc(part, func(w *waitingClaim) bool { return w.abandoned.Load() })
			if len(part) > 0 {
				// Requests have deadlines of their own, and a batch must not
				// end with the context of one of its claims.
				q.allocator.claimBatch(context.Background(), src, part)
			}
		})
		q.bySource[src.key()] = b
	}
	return b
}

// claimBatch claims for all in part and tells each its result. It returns true
// when the source turned out to be full.
//
// NetBox does all of a list or nothing, so each way in which it refuses one is
// about some of its items at most: the list is divided until those are found.
func (a *Allocator) claimBatch(ctx context.Context, src source, part []*waitingClaim) (isFull bool) {
	items := make([]item, len(part))
	for i, w := range part {
		items[i] = w.item
	}
	take := a.api.claimNext
	if src.avoidZeroAnd255 {
		take = a.claimPicked
	}
	records, err := take(ctx, src, items)
	switch {
	case err == nil:
		a.claimed(ctx, part, records)
	// 409: NetBox has fewer free addresses than items, and has taken none.
	case netbox.StatusOf(err) == http.StatusConflict, errors.Is(err, errTooFew):
		return a.claimLess(ctx, src, part)
	case netbox.StatusOf(err) == http.StatusBadRequest:
		a.claimRefused(ctx, src, part, err)
	case netbox.StatusOf(err) == http.StatusNotFound:
		a.sources.forget(src)
		finish(part, newSourceError("%s %s is gone from NetBox, or the token may not see it: restore it or correct %s of the pool", src.kind, src, src.field))
	case definite(err):
		finish(part, err)
	default:
		a.claimUnclear(ctx, part, err)
	}
	return false
}

// claimed hands out what NetBox created, each record to whom it names. The order
// of the answer is not relied on.
func (a *Allocator) claimed(ctx context.Context, part []*waitingClaim, records []record) {
	byClaim := make(map[string]record, len(records))
	var ownerless []record
	for _, r := range records {
		if r.claim == "" {
			ownerless = append(ownerless, r)
		}
		byClaim[r.claim] = r
	}
	if len(ownerless) > 0 {
		err := a.releaseUnowned(ctx, ownerless)
		for _, w := range part {
			a.claims.markStale(w.item.key.String())
		}
		finish(part, err)
		return
	}
	for _, w := range part {
		r := byClaim[w.item.claim]
		if !w.item.echoed(r) {
			a.claims.markStale(w.item.key.String())
			a.invalidate()
			w.done <- claimResult{err: notEchoed(r)}
			continue
		}
		a.claims.put(w.item.key.String(), claimRecords{main: &r})
		w.done <- claimResult{rec: r}
	}
}

// claimLess handles a source that has fewer free addresses than were asked for:
// the first ones get them. NetBox does not say how many there are.
func (a *Allocator) claimLess(ctx context.Context, src source, part []*waitingClaim) (isFull bool) {
	if len(part) == 1 {
		finish(part, errFull)
		return true
	}
	half := len(part) / 2
	if a.claimBatch(ctx, src, part[:half]) {
		finish(part[half:], errFull)
		return true
	}
	return a.claimBatch(ctx, src, part[half:])
}

// claimRefused handles an answer 400. NetBox created nothing; it says of a
// list which items are to blame.
func (a *Allocator) claimRefused(ctx context.Context, src source, part []*waitingClaim, err error) {
	if len(part) == 1 {
		if netbox.AnswerSays(err, textNotUnique) {
			a.claims.markStale(part[0].item.key.String())
			err = errKeyTaken
		}
		finish(part, err)
		return
	}
	var good, bad []*waitingClaim
	if items, ok := itemErrors(err, len(part)); ok {
		for i, w := range part {
			if isGoodItem(items[i]) {
				good = append(good, w)
			} else {
				bad = append(bad, w)
			}
		}
	}
	if len(bad) == 0 {
		good, bad = nil, part
	}
	isFull := len(good) > 0 && a.claimBatch(ctx, src, good)
	for i := range bad {
		if isFull {
			finish(bad[i:], errFull)
			return
		}
		isFull = a.claimBatch(ctx, src, bad[i:i+1])
	}
}

// claimUnclear finds out what became of a list whose answer was lost. What is not
// there may still be on its way, so it is an error and not claimed again here.
func (a *Allocator) claimUnclear(ctx context.Context, part []*waitingClaim, cause error) {
	claims := make([]string, len(part))
	for i, w := range part {
		a.claims.markStale(w.item.key.String())
		claims[i] = w.item.claim
	}
	found, err := a.api.addressesByClaim(ctx, claims)
	if err != nil {
		finish(part, cause)
		return
	}
	// Of several records the one with the lowest id counts: found ascends.
	byClaim := map[string]record{}
	for _, r := range slices.Backward(found) {
		byClaim[r.claim] = r
	}
	for _, w := range part {
		r, ok := byClaim[w.item.claim]
		switch {
		case !ok:
			w.done <- claimResult{err: cause}
		case !w.item.echoed(r):
			w.done <- claimResult{err: errKeyTaken}
		default:
			a.claims.put(w.item.key.String(), claimRecords{main: &r})
			w.done <- claimResult{rec: r}
		}
	}
}

// finish tells all in part the same error.
func finish(part []*waitingClaim, err error) {
	for _, w := range part {
		w.done <- claimResult{err: err}
	}
}
