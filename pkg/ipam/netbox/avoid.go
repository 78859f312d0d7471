// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/netbox"
)

// errTooFew says that a source has fewer free addresses than are asked for.
var errTooFew = errors.New("too few free addresses")

const (
	// maxPickTries bounds how often others may take what was about to be claimed.
	maxPickTries = 5
	// spareAddresses is how many free addresses more than needed are looked at
	// first: those that end in .0 and .255 stay free, so they add up.
	spareAddresses = 8
)

// claimPicked takes addresses of a source without those that end in .0 or .255.
// NetBox hands out the lowest free address and cannot be told to leave some
// out, so it is asked what is free and given explicit addresses. It refuses one
// that others have taken meanwhile, and then it is asked again.
func (a *Allocator) claimPicked(ctx context.Context, src source, items []item) ([]record, error) {
	var last error
	for range maxPickTries {
		addrs, err := a.pickFree(ctx, src, len(items))
		if err != nil {
			return nil, err
		}
		created, err := a.api.createAll(ctx, src, addrs, items)
		switch {
		case err == nil:
			if err = a.releaseDuplicates(ctx, src, addrs, created); !errors.Is(err, errTakenTwice) {
				return created, err
			}
		case !netbox.AnswerSays(err, textDuplicateIP) || netbox.AnswerSays(err, textNotUnique):
			return nil, err
		}
		last = err
	}
	return nil, &ipam.UnavailableError{Doing: "claiming an address in " + src.String(), Err: fmt.Errorf("others take what is free: %w", last)}
}

// pickFree finds n free addresses, or errTooFew. A short list is enough nearly
// always, and NetBox takes long for a full page of a large prefix.
func (a *Allocator) pickFree(ctx context.Context, src source, n int) ([]netip.Addr, error) {
	for _, limit := range []int{n + spareAddresses, netbox.PageSize} {
		free, err := a.api.available(ctx, src, limit)
		if err != nil {
			return nil, err
		}
		good := slices.DeleteFunc(slices.Clone(free), ipam.Buggy)
		switch {
		case len(good) >= n:
			return good[:n], nil
		case len(free) < limit:
			return nil, errTooFew
		}
	}
	return nil, newSourceError(
		"%s %s begins with so many free addresses that end in .0 or .255 that NetBox lists too few others (spec.avoidBuggyIPs): split it, or put a record on some of them", src.kind, src)
}

// errTakenTwice says that others recorded an address at the same moment.
var errTakenTwice = errors.New("two records of one address")

// releaseDuplicates makes sure that no address was recorded twice, which NetBox
// allows where it does not enforce uniqueness. Whoever was later gives way; then
// all that was created is deleted again, and the error is errTakenTwice.
func (a *Allocator) releaseDuplicates(ctx context.Context, src source, addrs []netip.Addr, created []record) error {
	at, err := a.api.addressesAt(ctx, addrs, src.vrf)
	if err != nil {
		return err
	}
	lowest := map[netip.Addr]int64{}
	for _, r := range slices.Backward(at) {
		lowest[r.addr] = r.id
	}
	if !slices.ContainsFunc(created, func(r record) bool { return lowest[r.addr] != 0 && lowest[r.addr] < r.id }) {
		return nil
	}
	for _, r := range created {
		if err := a.api.delete(ctx, r.id, ""); err != nil && netbox.StatusOf(err) != http.StatusNotFound {
			return err
		}
	}
	return errTakenTwice
}
