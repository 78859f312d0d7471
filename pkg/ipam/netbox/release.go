// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"net/http"

	"k8s.io/klog/v2"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// Release implements ipam.Allocator.
func (a *Allocator) Release(ctx context.Context, key ipam.Key) error {
	text := key.String()
	unlock, err := a.locks.lock(ctx, text)
	if err != nil {
		return &ipam.UnavailableError{Doing: "waiting for another request about claim " + text, Err: err}
	}
	defer unlock()
	if err := a.ready(ctx); err != nil {
		return err
	}
	h, ok := a.claims.get(text)
	if !ok || h.empty() {
		if h, err = a.lookup(ctx, key); err != nil {
			return err
		}
	}
	// The successor goes first: without it, main is a claim like any other.
	for _, rec := range []*record{h.next, h.main} {
		if rec == nil {
			continue
		}
		if err := a.drop(ctx, text, *rec); err != nil {
			a.recheckAfter(err)
			return err
		}
	}
	return nil
}

// removal is a record to be deleted, if it still is what it was.
type removal struct {
	key  string
	rec  record
	done chan error // has room for the one result
}

// drop deletes a record of a key of ours. It is no error if the record is gone
// or now somebody else's; it is one (*ipam.ConflictError) if it still has the
// key and another cluster.
func (a *Allocator) drop(ctx context.Context, key string, rec record) error {
	m := &removal{key: key, rec: rec, done: make(chan error, 1)}
	a.removals.add(m)
	select {
	case err := <-m.done:
		return err
	case <-ctx.Done():
		a.claims.doubt(key)
		return &ipam.UnavailableError{Doing: "releasing " + rec.addr.String(), Err: ctx.Err()}
	}
}

// removeBatch deletes what waits for it.
func (a *Allocator) removeBatch(part []*removal) {
	// Requests have deadlines of their own, see claimQueues.queue.
	ctx := context.Background()
	if len(part) == 1 {
		a.finishRemoval(part[0], a.removeOne(ctx, part[0]))
		return
	}
	ids := make([]int64, len(part))
	for i, m := range part {
		ids[i] = m.rec.id
	}
	found, err := a.client.addressesByID(ctx, ids)
	if err != nil {
		for _, m := range part {
			a.finishRemoval(m, err)
		}
		return
	}
	a.removeFound(ctx, part, found)
}

// removeFound deletes those that are still what they were, in one request, and
// one by one where NetBox does not take that.
func (a *Allocator) removeFound(ctx context.Context, part []*removal, found map[int64]record) {
	var due []*removal
	var ids []int64
	for _, m := range part {
		rec, ok := found[m.rec.id]
		mine, err := a.mayRemove(m, rec)
		if !ok || !mine || err != nil {
			a.finishRemoval(m, err)
			continue
		}
		due, ids = append(due, m), append(ids, m.rec.id)
	}
	if len(due) == 0 {
		return
	}
	err := a.client.deleteAll(ctx, ids)
	for _, m := range due {
		if err != nil {
			// Unclear or refused as a whole (NetBox 4.7 when one is gone): a
			// DELETE can be repeated, so each is tried by itself.
			a.finishRemoval(m, a.removeOne(ctx, m))
		} else {
			a.finishRemoval(m, nil)
		}
	}
}

// removeOne deletes one record, guarded by its ETag where NetBox has those.
func (a *Allocator) removeOne(ctx context.Context, m *removal) error {
	for range 3 {
		rec, etag, err := a.client.address(ctx, m.rec.id)
		if status(err) == http.StatusNotFound {
			return nil
		}
		if err != nil {
			return err
		}
		mine, err := a.mayRemove(m, rec)
		if !mine || err != nil {
			return err
		}
		switch err := a.client.delete(ctx, rec.id, etag); status(err) {
		case http.StatusPreconditionFailed: // changed meanwhile: look again
		case http.StatusNotFound:
			return a.goneOrForbidden(ctx, m)
		default:
			return err
		}
	}
	return &ipam.UnavailableError{Doing: "releasing " + m.rec.addr.String(), Err: errChanging}
}

// mayRemove tells whether a record is still the claim to be released.
func (a *Allocator) mayRemove(m *removal, now record) (bool, error) {
	if now.claim != m.rec.claim || now.cluster == "" {
		return false, nil
	}
	return true, a.conflict(now)
}

// goneOrForbidden tells a record that is gone from one that the token may see
// but not delete: NetBox answers 404 for both.
func (a *Allocator) goneOrForbidden(ctx context.Context, m *removal) error {
	rec, _, err := a.client.address(ctx, m.rec.id)
	if status(err) == http.StatusNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	return forbiddenDelete(rec)
}

// finishRemoval tells the cache and who waits.
func (a *Allocator) finishRemoval(m *removal, err error) {
	if err != nil {
		a.claims.doubt(m.key)
		klog.Background().V(2).Info("Release failed", "claim", m.rec.claim, "id", m.rec.id, "err", err)
	} else {
		a.claims.update(m.key, func(h *holding) {
			if h.main != nil && h.main.id == m.rec.id {
				h.main = nil
			}
			if h.next != nil && h.next.id == m.rec.id {
				h.next = nil
			}
		})
	}
	m.done <- err
}

// Retain implements ipam.Allocator.
func (a *Allocator) Retain(ctx context.Context, key ipam.Key) error {
	return a.Release(ctx, key)
}
