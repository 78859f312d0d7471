// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox/setup"
)

var (
	// errKeyTaken says that NetBox has a record of the claim key already.
	errKeyTaken = errors.New("the claim key is taken")
	// errFull says that a prefix has no free address.
	errFull = errors.New("the prefix is full")
)

// Claim implements ipam.Allocator.
func (a *Allocator) Claim(ctx context.Context, r ipam.Request) (ipam.Claim, error) {
	if r.Key.Cluster != a.cluster {
		return ipam.Claim{}, fmt.Errorf("claim key %s: this allocator keeps the claims of cluster %s", r.Key, a.cluster)
	}
	key := r.Key.String()
	unlock, err := a.locks.lock(ctx, key)
	if err != nil {
		return ipam.Claim{}, &ipam.UnavailableError{Doing: "waiting for another request about claim " + key, Err: err}
	}
	defer unlock()
	if err := a.ready(ctx); err != nil {
		return ipam.Claim{}, err
	}
	h, err := a.holding(ctx, r.Key)
	if err != nil {
		return ipam.Claim{}, err
	}
	got, err := a.settle(ctx, r, h)
	if errors.Is(err, errKeyTaken) {
		got, err = a.adoptTaken(ctx, r)
	}
	if err != nil {
		a.recheckAfter(err)
		return ipam.Claim{}, err
	}
	c := claimOf(r.Key, got, r.Pools)
	c.Owner = r.Owner
	return c, nil
}

// adoptTaken goes on with the record of the key that NetBox says there is.
func (a *Allocator) adoptTaken(ctx context.Context, r ipam.Request) (record, error) {
	h, err := a.lookup(ctx, r.Key)
	if err != nil {
		return record{}, err
	}
	if h.empty() {
		return record{}, &ipam.ConfigError{Problem: fmt.Sprintf(
			"NetBox says that claim %s is taken, but the token may not see by which address: let it view all of ipam.ipaddress", r.Key)}
	}
	got, err := a.settle(ctx, r, h)
	if errors.Is(err, errKeyTaken) {
		return record{}, &ipam.UnavailableError{Doing: "claiming " + r.Key.String(), Err: errKeyTaken}
	}
	return got, err
}

// settle brings what NetBox has for a key to what is asked for. Each step
// leaves a state that settle can start from.
func (a *Allocator) settle(ctx context.Context, r ipam.Request, h holding) (record, error) {
	for _, rec := range []*record{h.main, h.next} {
		if rec == nil {
			continue
		}
		if err := a.usable(*rec, r); err != nil {
			return record{}, err
		}
	}
	if h.main == nil && h.next != nil {
		promoted, err := a.promote(ctx, r, *h.next)
		if err != nil {
			return record{}, err
		}
		h = holding{main: &promoted}
	}
	switch addr := r.Addr.Unmap(); {
	case h.main == nil && addr.IsValid():
		return a.claimAsked(ctx, r, r.Key.String())
	case h.main == nil:
		return a.claimAny(ctx, r)
	case addr.IsValid() && addr != h.main.addr:
		return a.change(ctx, r, h)
	default:
		return a.keep(ctx, r, h)
	}
}

// usable tells whether a record of the key may be the Service's.
func (a *Allocator) usable(rec record, r ipam.Request) error {
	if err := a.conflict(rec); err != nil {
		return err
	}
	if ipam.FamilyOf(rec.addr) != r.Key.Family {
		return &ipam.ConfigError{Problem: fmt.Sprintf(
			"NetBox address %d (%s) has claim %s, which is for the other IP family: correct its field %s", rec.id, rec.addr, rec.claim, setup.FieldClaim)}
	}
	// An assigned address stays whatever becomes of its pool; one that was
	// written into NetBox by hand must lie in a pool.
	if rec.cluster == "" && ipam.PoolOf(rec.addr, r.Pools) == "" {
		return &ipam.ConfigError{Problem: fmt.Sprintf(
			"NetBox address %d (%s) names this Service in %s but lies in none of its pools: clear the field or add the address to a pool", rec.id, rec.addr, setup.FieldClaim)}
	}
	return nil
}

// keep returns the existing record, with its owner up to date.
func (a *Allocator) keep(ctx context.Context, r ipam.Request, h holding) (record, error) {
	if h.next != nil { // the user no longer asks for that one
		if err := a.drop(ctx, r.Key.String(), *h.next); err != nil {
			return record{}, err
		}
	}
	return a.stamp(ctx, r, *h.main, r.Key.String())
}

// stamp writes the owner, and the claim where it is another one, into a record.
func (a *Allocator) stamp(ctx context.Context, r ipam.Request, rec record, claim string) (record, error) {
	fields := map[string]any{}
	set := func(field, is, want string) {
		if want != "" && is != want {
			fields[field] = want
		}
	}
	set(setup.FieldClaim, rec.claim, claim)
	set(setup.FieldCluster, rec.cluster, a.cluster)
	set(setup.FieldClusterUID, rec.clusterUID, a.clusterUID)
	set(setup.FieldServiceUID, rec.serviceUID, r.Owner.UID)
	if len(fields) == 0 {
		return rec, nil
	}
	key := r.Key.String()
	got, err := a.client.setFields(ctx, rec.id, fields)
	if err != nil {
		a.claims.doubt(key)
		if status(err) == 404 {
			return record{}, &ipam.ConfigError{Problem: fmt.Sprintf(
				"NetBox address %d (%s) names this Service, but the token may not change it: set its field %s to %s, or extend the token's permission",
				rec.id, rec.addr, setup.FieldCluster, a.cluster)}
		}
		if bodySays(err, "must have a unique value") {
			return record{}, errKeyTaken
		}
		return record{}, err
	}
	want := item{key: r.Key, claim: claim, cluster: a.cluster, clusterUID: got.clusterUID, serviceUID: got.serviceUID}
	if got.id != rec.id || !want.echoed(got) {
		a.claims.doubt(key)
		return record{}, notEchoed(got)
	}
	a.claims.put(key, holding{main: &got})
	return got, nil
}

func notEchoed(r record) error {
	return &setUpError{ipam.ConfigError{Problem: fmt.Sprintf(
		"NetBox did not record the owner of address %s: check the custom fields %s, %s, %s and %s", r.addr, setup.FieldClaim, setup.FieldCluster, setup.FieldClusterUID, setup.FieldServiceUID)}}
}

func (a *Allocator) item(r ipam.Request, claim string) item {
	return item{
		key: r.Key, claim: claim, cluster: a.cluster, clusterUID: a.clusterUID,
		serviceUID: r.Owner.UID, class: r.Owner.Class, hostname: r.Hostname, record: &a.record,
	}
}

// claimAsked records the address that the user asked for, under a claim text.
func (a *Allocator) claimAsked(ctx context.Context, r ipam.Request, claim string) (record, error) {
	addr := r.Addr.Unmap()
	info, err := a.prefixWith(ctx, addr, r.Pools)
	if err != nil {
		return record{}, err
	}
	it := a.item(r, claim)
	got, err := a.client.create(ctx, addr, info.vrf, it)
	switch {
	case err == nil && !it.echoed(got):
		return record{}, a.undo(ctx, []record{got})
	case err == nil:
		return a.confirm(ctx, r.Key.String(), got)
	case bodySays(err, "must have a unique value"):
		a.claims.doubt(r.Key.String())
		return record{}, errKeyTaken
	case bodySays(err, "Duplicate IP address"):
		return record{}, a.takenBy(ctx, r.Key.String(), addr, info.vrf)
	case definite(err):
		return record{}, err
	default:
		return a.afterUnclear(ctx, r.Key, claim, err)
	}
}

// confirm makes sure that a given address was not recorded twice, which NetBox
// allows where it does not enforce uniqueness. The lowest id has it.
func (a *Allocator) confirm(ctx context.Context, key string, got record) (record, error) {
	a.remember(key, got)
	at, err := a.client.addressesAt(ctx, got.addr, got.vrf)
	if err != nil {
		a.claims.doubt(key)
		return record{}, err
	}
	if len(at) == 0 || at[0].id >= got.id {
		return got, nil
	}
	if err := a.drop(ctx, key, got); err != nil {
		return record{}, err
	}
	return record{}, &ipam.ConflictError{Addr: got.addr, Holder: at[0].holder()}
}

// remember puts a new record into the cache.
func (a *Allocator) remember(key string, r record) {
	a.claims.update(key, func(h *holding) {
		if r.claim == key {
			h.main = &r
		} else {
			h.next = &r
		}
	})
}

// takenBy says who has an address: errKeyTaken if it is the claim itself.
func (a *Allocator) takenBy(ctx context.Context, key string, addr netip.Addr, vrf int64) error {
	at, err := a.client.addressesAt(ctx, addr, vrf)
	if err != nil {
		return err
	}
	if len(at) == 0 {
		return &ipam.ConflictError{Addr: addr, Holder: "a NetBox address that the token may not see"}
	}
	if slices.Contains(claimTexts(key), at[0].claim) {
		return errKeyTaken
	}
	return &ipam.ConflictError{Addr: addr, Holder: at[0].holder()}
}

// afterUnclear finds out what became of a request whose answer was lost. It
// never repeats the request: the next Claim does, after another look.
func (a *Allocator) afterUnclear(ctx context.Context, key ipam.Key, claim string, cause error) (record, error) {
	a.claims.doubt(key.String())
	h, err := a.lookup(ctx, key)
	if err != nil {
		return record{}, cause
	}
	for _, rec := range []*record{h.main, h.next} {
		if rec != nil && rec.claim == claim {
			return *rec, nil
		}
	}
	// It may still be on its way.
	a.claims.doubt(key.String())
	return record{}, cause
}

// undo deletes records that were created by the request before, but without
// their owner, and says what is wrong.
func (a *Allocator) undo(ctx context.Context, created []record) error {
	a.distrust()
	errs := []error{notEchoed(created[0])}
	for _, r := range created {
		if err := a.client.delete(ctx, r.id, ""); err != nil && status(err) != 404 {
			errs = append(errs, fmt.Errorf("NetBox address %d (%s) has no owner now, delete it by hand: %w", r.id, r.addr, err))
		}
	}
	return errors.Join(errs...)
}
