// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"fmt"
	"net/http"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/schema"
)

// change moves a claim to the address that the user asks for, in the steps of
// the package documentation. It returns the record of the new address as soon as
// that is recorded; the old one is released by the Claim after the status names
// the new one.
func (a *Allocator) change(ctx context.Context, r ipam.Request, recs claimRecords) (record, error) {
	key := r.Key.String()
	// First, so that asking for an address that cannot be had changes nothing.
	if _, err := a.prefixWith(ctx, r.Addr, r.Pools); err != nil {
		return record{}, err
	}
	if recs.next != nil && recs.next.addr == r.Held && recs.next.addr != r.Addr {
		// The user has changed their mind before the last change was over.
		got, err := a.replace(ctx, r, recs)
		if err != nil {
			return record{}, err
		}
		recs = claimRecords{main: &got}
	}
	if recs.next != nil && recs.next.addr != r.Addr {
		if err := a.releaseRecord(ctx, key, *recs.next, replaced); err != nil {
			return record{}, err
		}
		recs.next = nil
	}
	if recs.next == nil {
		next, err := a.claimAsked(ctx, r, r.Addr, key+nextSuffix)
		if err != nil {
			return record{}, err
		}
		recs.next = &next
	}
	if r.Held.IsValid() && r.Held == recs.main.addr {
		// Clients still use the old one: it goes when the status names the new.
		return a.stamp(ctx, r, *recs.next, key+nextSuffix)
	}
	return a.replace(ctx, r, recs)
}

// replace ends a change: what the Service has is the next record. The old record
// goes first, because two cannot have the key; a crash in between leaves the
// next one alone, which settle promotes.
func (a *Allocator) replace(ctx context.Context, r ipam.Request, recs claimRecords) (record, error) {
	if err := a.releaseRecord(ctx, r.Key.String(), *recs.main, replaced); err != nil {
		return record{}, err
	}
	return a.promote(ctx, r, *recs.next)
}

// promote gives the key itself to the record that held the next one.
func (a *Allocator) promote(ctx context.Context, r ipam.Request, next record) (record, error) {
	return a.stamp(ctx, r, next, r.Key.String())
}

// moved handles a claim whose record is of another address than the Service
// has, though its user asked for nothing. Traffic goes to the address that the
// Service has, so NetBox does not get to move it: that takes the user's word.
func (a *Allocator) moved(ctx context.Context, r ipam.Request, recs claimRecords) (record, error) {
	mine := recs.main.serviceUID != "" && recs.main.serviceUID == r.Owner.UID
	if recs.next != nil && recs.next.addr == r.Held && mine {
		return a.replace(ctx, r, recs) // the rest of a change
	}
	if mine {
		// Somebody gave our record another address. From now on it is a wish of
		// theirs, and the address that is in use gets a record of its own.
		if err := a.clearOwner(ctx, r, *recs.main); err != nil {
			return record{}, err
		}
	}
	problem := &ipam.MovedError{Held: r.Held, Recorded: recs.main.addr, Where: fmt.Sprintf("NetBox address %d", recs.main.id)}
	if recs.next != nil && recs.next.addr == r.Held {
		return record{}, problem
	}
	if recs.next != nil {
		if err := a.releaseRecord(ctx, r.Key.String(), *recs.next, replaced); err != nil {
			return record{}, err
		}
	}
	if _, err := a.recordHeld(ctx, r, r.Key.String()+nextSuffix); err != nil {
		return record{}, fmt.Errorf("%w; the address in use is not recorded: %w", problem, err)
	}
	return record{}, problem
}

// clearOwner marks a record as somebody's wish for the Service, not what it has.
func (a *Allocator) clearOwner(ctx context.Context, r ipam.Request, rec record) error {
	got, err := a.api.change(ctx, rec.id, "", map[string]any{"custom_fields": map[string]any{
		schema.FieldServiceUID: nil, schema.FieldClusterUID: nil, schema.FieldRelease: schema.ReleaseKeep,
	}})
	if err != nil {
		a.claims.markStale(r.Key.String())
		if netbox.StatusOf(err) == http.StatusNotFound {
			return a.unchangeable(rec)
		}
		return err
	}
	a.remember(r.Key.String(), got)
	return nil
}
