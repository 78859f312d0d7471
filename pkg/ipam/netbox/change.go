// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// change moves a claim to the address that the user asks for, in the steps of
// the package documentation.
func (a *Allocator) change(ctx context.Context, r ipam.Request, h holding) (record, error) {
	key := r.Key.String()
	if _, err := a.prefixWith(ctx, r.Addr.Unmap(), r.Pools); err != nil {
		return record{}, err
	}
	if h.next != nil && h.next.addr != r.Addr.Unmap() {
		if err := a.drop(ctx, key, *h.next); err != nil {
			return record{}, err
		}
		h.next = nil
	}
	if h.next == nil {
		next, err := a.claimAsked(ctx, r, key+nextSuffix)
		if err != nil {
			return record{}, err
		}
		h.next = &next
	}
	if err := a.drop(ctx, key, *h.main); err != nil {
		return record{}, err
	}
	return a.promote(ctx, r, *h.next)
}

// promote gives the key itself to the record that held the next one.
func (a *Allocator) promote(ctx context.Context, r ipam.Request, next record) (record, error) {
	return a.stamp(ctx, r, next, r.Key.String())
}
