// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"fmt"
	"net/http"

	"k8s.io/klog/v2"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/schema"
)

// Release implements ipam.Allocator.
func (a *Allocator) Release(ctx context.Context, key ipam.Key) error {
	return a.releaseClaim(ctx, key, released)
}

// Retain implements ipam.Allocator.
func (a *Allocator) Retain(ctx context.Context, key ipam.Key) error {
	return a.releaseClaim(ctx, key, retained)
}

// releaseClaim takes the claim of a key from its Service. It works on what NetBox
// has now, not on what the cache says there is not: a Service that is deleted
// right after a restart must not leave its record behind.
func (a *Allocator) releaseClaim(ctx context.Context, key ipam.Key, reason releaseReason) error {
	text := key.String()
	unlock, err := a.lockAll(ctx, []ipam.Key{key})
	if err != nil {
		return err
	}
	defer unlock()
	if err := a.ready(ctx); err != nil {
		return err
	}
	recs, ok := a.claims.get(text)
	if !ok || recs.empty() {
		if recs, err = a.lookup(ctx, key); err != nil {
			return err
		}
	}
	steps := []releaseStep{{recs.next, replaced}, {recs.main, reason}}
	if recs.main == nil {
		steps = []releaseStep{{recs.next, reason}}
	}
	// The successor goes first: without it, main is a claim like any other.
	for _, s := range steps {
		if s.rec == nil {
			continue
		}
		if err := a.releaseRecord(ctx, text, *s.rec, s.reason); err != nil {
			a.recheckAfter(err)
			return err
		}
	}
	return nil
}

// releaseStep is one of the records of a key, and why it is released.
type releaseStep struct {
	rec    *record
	reason releaseReason
}

// releaseReason is why a record is released. What becomes of it depends on that
// and on who created it.
type releaseReason int

const (
	// released: its Service is gone.
	released releaseReason = iota
	// retained: its Service is gone, and the address stays reserved for it.
	retained
	// replaced: its Service has another address.
	replaced
)

// changesFor returns what must be written into a record to release it; remove
// says that it is to be deleted. Neither means that nothing is to be done. This
// is the one place that decides what is deleted: only what bm-ccm has created,
// and never for a Service that keeps its address.
func changesFor(r record, reason releaseReason) (changes map[string]any, remove bool) {
	// A record without a Service and without a release field is one that
	// an engineer wrote and that no controller has touched yet.
	handMade := r.release == schema.ReleaseKeep || r.release == "" && r.serviceUID == ""
	// A null clears a field and leaves the others: NetBox merges custom fields.
	noService := map[string]any{schema.FieldServiceUID: nil, schema.FieldClass: nil}
	noClaim := map[string]any{
		schema.FieldClaim: nil, schema.FieldServiceUID: nil, schema.FieldClass: nil, schema.FieldClusterUID: nil, schema.FieldRelease: nil,
	}
	switch {
	case reason == retained || reason == released && handMade:
		if r.serviceUID == "" {
			return nil, false
		}
		return map[string]any{"status": statusReserved, "custom_fields": noService}, false
	case r.release == schema.ReleaseReturn:
		// The cluster stays: it is what the token's permission is bound to.
		return map[string]any{"status": statusReserved, "custom_fields": noClaim}, false
	case handMade:
		return map[string]any{"custom_fields": noClaim}, false
	}
	return nil, true
}

// removal is a record to be released, if it still is what it was. What waits is
// worked on in batches: after a namespace is deleted there are hundreds.
type removal struct {
	key    string
	rec    record
	reason releaseReason
	// done has room for the one result, so that who works does not wait for who
	// has given up waiting.
	done chan error
}

// releaseRecord releases a record of a key of ours, as its own field and the
// reason say: nothing that an engineer created is ever deleted. It is no error if the record is gone
// or now somebody else's; it is one (*ipam.ConflictError) if it still has the
// key and another cluster.
func (a *Allocator) releaseRecord(ctx context.Context, key string, rec record, reason releaseReason) error {
	m := &removal{key: key, rec: rec, reason: reason, done: make(chan error, 1)}
	if changes, remove := changesFor(rec, reason); changes == nil && !remove {
		return nil
	}
	a.removals.add(m)
	select {
	case err := <-m.done:
		return err
	case <-ctx.Done():
		a.claims.markStale(key)
		return &ipam.UnavailableError{Doing: "releasing " + rec.addr.String(), Err: ctx.Err()}
	}
}

// removeBatch releases what waits for it. The records are read again first: they
// may have been given to somebody else since they were cached.
func (a *Allocator) removeBatch(part []*removal) {
	// Requests have deadlines of their own, see claimQueues.queue.
	ctx := context.Background()
	if len(part) == 1 {
		a.removeOne(ctx, part[0])
		return
	}
	ids := make([]int64, len(part))
	for i, m := range part {
		ids[i] = m.rec.id
	}
	found, err := a.api.addressesByID(ctx, ids)
	if err != nil {
		for _, m := range part {
			a.finishRemoval(m, nil, err)
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
			a.finishRemoval(m, nil, err)
			continue
		}
		if _, remove := changesFor(rec, m.reason); !remove {
			a.removeOne(ctx, m)
			continue
		}
		due, ids = append(due, m), append(ids, m.rec.id)
	}
	if len(due) == 0 {
		return
	}
	err := a.api.deleteAll(ctx, ids)
	for _, m := range due {
		if err != nil {
			// Unclear or refused as a whole (NetBox 4.7 when one is gone): a
			// DELETE can be repeated, so each is tried by itself.
			a.removeOne(ctx, m)
		} else {
			a.finishRemoval(m, nil, nil)
		}
	}
}

// removeOne releases one record and tells who waits for it.
func (a *Allocator) removeOne(ctx context.Context, m *removal) {
	left, err := a.tryRemove(ctx, m)
	a.finishRemoval(m, left, err)
}

// tryRemove releases one record, guarded by its ETag where NetBox has those (4.6).
// Before, a change between reading and deleting would be lost with the record;
// it takes milliseconds, and nothing better is to be had there.
// left is the record if it still has a claim.
func (a *Allocator) tryRemove(ctx context.Context, m *removal) (left *record, err error) {
	// Three times: a record that changes under our hands that often is in dispute.
	for range 3 {
		rec, etag, err := a.api.address(ctx, m.rec.id)
		if netbox.StatusOf(err) == http.StatusNotFound {
			return nil, nil //nolint:nilnil // nothing is left
		}
		if err != nil {
			return nil, err
		}
		mine, err := a.mayRemove(m, rec)
		if !mine || err != nil {
			return nil, err
		}
		changes, remove := changesFor(rec, m.reason)
		switch {
		case remove:
			err = a.api.delete(ctx, rec.id, etag)
		case changes != nil:
			rec, err = a.api.change(ctx, rec.id, etag, changes)
		}
		switch netbox.StatusOf(err) {
		case http.StatusPreconditionFailed: // changed meanwhile: look again
			continue
		case http.StatusNotFound:
			return nil, a.goneOrForbidden(ctx, m)
		}
		if err == nil && !remove && rec.claim != "" {
			left = &rec
		}
		return left, err
	}
	return nil, &ipam.UnavailableError{Doing: "releasing " + m.rec.addr.String(), Err: errChanging}
}

// mayRemove reports whether a record is still the claim to be released. One that
// names no cluster was written by hand: it may lose its claim, never more.
func (a *Allocator) mayRemove(m *removal, now record) (bool, error) {
	if now.claim != m.rec.claim || now.cluster == "" && m.reason != replaced {
		return false, nil
	}
	return true, a.conflict(now)
}

// goneOrForbidden distinguishes a record that is gone from one that the token may see
// but not delete: NetBox answers 404 for both.
func (a *Allocator) goneOrForbidden(ctx context.Context, m *removal) error {
	rec, _, err := a.api.address(ctx, m.rec.id)
	if netbox.StatusOf(err) == http.StatusNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	return &ipam.ConfigError{Problem: fmt.Sprintf(
		"the NetBox token may not delete address %d (%s): grant delete on %s, with a constraint on custom field %s if it is fenced", rec.id, rec.addr, schema.ObjectType, schema.FieldCluster)}
}

// finishRemoval tells the cache and who waits. left is the record if it still
// has the claim.
func (a *Allocator) finishRemoval(m *removal, left *record, err error) {
	if err != nil {
		a.claims.markStale(m.key)
		klog.Background().V(2).Info("Release failed", "claim", m.rec.claim, "id", m.rec.id, "err", err)
	} else {
		a.claims.update(m.key, func(recs *claimRecords) {
			if recs.main != nil && recs.main.id == m.rec.id {
				recs.main = left
			}
			if recs.next != nil && recs.next.id == m.rec.id {
				recs.next = nil
			}
		})
	}
	m.done <- err
}
