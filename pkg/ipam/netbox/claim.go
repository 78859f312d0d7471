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
	"strings"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/schema"
)

var (
	// errKeyTaken says that NetBox has a record of the claim key already.
	errKeyTaken = errors.New("the claim key is taken")
	// errFull says that a prefix has no free address.
	errFull = errors.New("the prefix is full")
)

// Claim implements ipam.Allocator. It looks at what NetBox has for the key, and
// takes the steps from there to what the request asks for; settle has them. A
// claim that was interrupted anywhere is finished by the next one that way.
func (a *Allocator) Claim(ctx context.Context, r ipam.Request) (ipam.Claim, error) {
	if r.Key.Cluster != a.cluster {
		return ipam.Claim{}, fmt.Errorf("claim key %s: this allocator keeps the claims of cluster %s", r.Key, a.cluster)
	}
	r.Addr, r.Held = r.Addr.Unmap(), r.Held.Unmap()
	unlock, err := a.lockAll(ctx, append([]ipam.Key{r.Key}, r.Former...))
	if err != nil {
		return ipam.Claim{}, err
	}
	defer unlock()
	if err := a.ready(ctx); err != nil {
		return ipam.Claim{}, err
	}
	got, err := a.claim(ctx, r)
	if err != nil {
		a.recheckAfter(err)
		return ipam.Claim{}, err
	}
	c := claimOf(r.Key, got, r.Pools)
	c.Owner, c.Reserved = r.Owner, false
	return c, nil
}

// lockAll locks the keys of a request, always in the same order: two Services that
// begin to share an address name each other's keys.
func (a *Allocator) lockAll(ctx context.Context, keys []ipam.Key) (unlock func(), err error) {
	texts := make([]string, len(keys))
	for i, k := range keys {
		texts[i] = k.String()
	}
	slices.Sort(texts)
	var unlocks []func()
	unlock = func() {
		for _, u := range slices.Backward(unlocks) {
			u()
		}
	}
	for _, text := range slices.Compact(texts) {
		u, err := a.locks.Lock(ctx, text)
		if err != nil {
			unlock()
			return nil, &ipam.UnavailableError{Doing: "waiting for another request about claim " + text, Err: context.Cause(ctx)}
		}
		unlocks = append(unlocks, u)
	}
	return unlock, nil
}

// claim does the work of Claim for a request that has its locks.
func (a *Allocator) claim(ctx context.Context, r ipam.Request) (record, error) {
	recs, err := a.recordsOf(ctx, r.Key)
	if err != nil {
		return record{}, err
	}
	if recs.empty() {
		if recs, err = a.takeOver(ctx, r); err != nil {
			return record{}, err
		}
	}
	got, err := a.settle(ctx, r, recs)
	if errors.Is(err, errKeyTaken) {
		return a.adoptTaken(ctx, r)
	}
	return got, err
}

// takeOver gives the claim of a former key to the key of the request, so that a
// Service that begins or stops to share keeps its address.
func (a *Allocator) takeOver(ctx context.Context, r ipam.Request) (claimRecords, error) {
	for _, former := range r.Former {
		recs, err := a.recordsOf(ctx, former)
		if err != nil {
			return claimRecords{}, err
		}
		if recs.main == nil || !a.ours(*recs.main) {
			continue
		}
		got, err := a.stamp(ctx, r, *recs.main, r.Key.String())
		if err != nil {
			a.claims.markStale(former.String())
			return claimRecords{}, err
		}
		a.claims.update(former.String(), func(recs *claimRecords) { recs.main = nil })
		return claimRecords{main: &got}, nil
	}
	return claimRecords{}, nil
}

// adoptTaken goes on with the record of the key that NetBox says there is. It was
// written by another replica, or by this one before an answer was lost, or by an
// engineer just now.
func (a *Allocator) adoptTaken(ctx context.Context, r ipam.Request) (record, error) {
	recs, err := a.lookup(ctx, r.Key)
	if err != nil {
		return record{}, err
	}
	if recs.empty() {
		return record{}, &ipam.ConfigError{Problem: fmt.Sprintf(
			"NetBox says that claim %s is taken, but the token may not see by which address: let it view all of ipam.ipaddress", r.Key)}
	}
	got, err := a.settle(ctx, r, recs)
	if errors.Is(err, errKeyTaken) {
		return record{}, &ipam.UnavailableError{Doing: "claiming " + r.Key.String(), Err: errKeyTaken}
	}
	return got, err
}

// settle brings what NetBox has for a key to what is asked for. Each step
// leaves a state that settle can start from, so a crash needs no clean-up; the
// tests let it crash at every request.
func (a *Allocator) settle(ctx context.Context, r ipam.Request, recs claimRecords) (record, error) {
	recs = recs.preferring(r.Held)
	for _, rec := range []*record{recs.main, recs.next} {
		if rec == nil {
			continue
		}
		if err := a.usable(*rec, r); err != nil {
			return record{}, err
		}
	}
	if recs.main == nil && recs.next != nil {
		promoted, err := a.promote(ctx, r, *recs.next)
		if err != nil {
			return record{}, err
		}
		recs = claimRecords{main: &promoted}
	}
	switch {
	case recs.main == nil && r.Addr.IsValid():
		return a.claimAsked(ctx, r, r.Addr, r.Key.String())
	case recs.main == nil && r.Held.IsValid():
		return a.recordHeld(ctx, r, r.Key.String())
	case recs.main == nil:
		return a.claimAny(ctx, r)
	case r.Addr.IsValid() && r.Addr != recs.main.addr:
		return a.change(ctx, r, recs)
	case !r.Addr.IsValid() && a.displaced(r, recs):
		return a.moved(ctx, r, recs)
	default:
		return a.keepRecord(ctx, r, recs)
	}
}

// displaced reports whether the Service has another address than the record. A
// status with an address of somebody else's is not the Service's: it is to be
// written again.
func (a *Allocator) displaced(r ipam.Request, recs claimRecords) bool {
	if !r.Held.IsValid() || r.Held == recs.main.addr {
		return false
	}
	return recs.next != nil && recs.next.addr == r.Held || ipam.PoolOf(r.Held, r.Pools) != ""
}

// usable says why a record of the key cannot be the Service's; nil if it can.
func (a *Allocator) usable(rec record, r ipam.Request) error {
	if err := a.conflict(rec); err != nil {
		return err
	}
	if ipam.FamilyOf(rec.addr) != r.Key.Family {
		return &ipam.ConfigError{Problem: fmt.Sprintf(
			"NetBox address %d (%s) has claim %s, which is for the other IP family: correct its field %s", rec.id, rec.addr, rec.claim, schema.FieldClaim)}
	}
	// An assigned address stays whatever becomes of its pool; one that was
	// written into NetBox by hand must lie in a pool.
	if rec.reserved() && rec.release == "" && rec.addr != r.Held && ipam.PoolOf(rec.addr, r.Pools) == "" {
		return &ipam.ConfigError{Problem: fmt.Sprintf(
			"NetBox address %d (%s) names this Service in %s but lies in none of its pools: clear the field or add the address to a pool", rec.id, rec.addr, schema.FieldClaim)}
	}
	return nil
}

// keepRecord returns the existing record, with its owner up to date.
func (a *Allocator) keepRecord(ctx context.Context, r ipam.Request, recs claimRecords) (record, error) {
	// The user no longer asks for the next one. While the status names it,
	// clients use it.
	if recs.next != nil && recs.next.addr != r.Held {
		if err := a.releaseRecord(ctx, r.Key.String(), *recs.next, replaced); err != nil {
			return record{}, err
		}
	}
	return a.stamp(ctx, r, *recs.main, r.Key.String())
}

// stamp writes the owner, and the claim where it is another one, into a record.
func (a *Allocator) stamp(ctx context.Context, r ipam.Request, rec record, claim string) (record, error) {
	changes := a.stampOf(r, rec, claim)
	if len(changes) == 0 {
		return rec, nil
	}
	key := r.Key.String()
	got, err := a.api.change(ctx, rec.id, "", changes)
	if err != nil {
		a.claims.markStale(key)
		if netbox.StatusOf(err) == http.StatusNotFound {
			return record{}, a.unchangeable(rec)
		}
		if netbox.AnswerSays(err, textNotUnique) {
			return record{}, errKeyTaken
		}
		return record{}, err
	}
	// UID and class are left as they were where the request names none.
	want := a.item(r, claim)
	want.clusterUID, want.class = got.clusterUID, got.class
	if got.id != rec.id || !want.echoed(got) {
		a.claims.markStale(key)
		return record{}, notEchoed(got)
	}
	a.remember(key, got)
	return got, nil
}

// stampOf returns what a record lacks to be that of a request. Everything else
// in it stays: an admin's description, say.
func (a *Allocator) stampOf(r ipam.Request, rec record, claim string) map[string]any {
	changes, fields := map[string]any{}, map[string]any{}
	set := func(field, is, want string) {
		if want != "" && is != want {
			fields[field] = want
		}
	}
	set(schema.FieldClaim, rec.claim, claim)
	set(schema.FieldCluster, rec.cluster, a.cluster)
	set(schema.FieldClusterUID, rec.clusterUID, a.clusterUID)
	set(schema.FieldServiceUID, rec.serviceUID, r.Owner.UID)
	set(schema.FieldClass, rec.class, r.Owner.Class)
	if rec.serviceUID == "" && rec.release == "" {
		// Somebody wrote it for this Service: it outlives it.
		fields[schema.FieldRelease] = schema.ReleaseKeep
	}
	if rec.serviceUID == "" && rec.status == statusReserved {
		changes["status"] = a.record.status()
	}
	if r.Hostname != "" && !strings.EqualFold(rec.dnsName, r.Hostname) {
		changes["dns_name"] = r.Hostname
	}
	if len(fields) > 0 {
		changes["custom_fields"] = fields
	}
	return changes
}

// unchangeable says that the token may not change a record that names the Service.
func (a *Allocator) unchangeable(rec record) error {
	return &ipam.ConfigError{Problem: fmt.Sprintf(
		"NetBox address %d (%s) names this Service, but the token may not change it: set its field %s to %s, or extend the token's permission",
		rec.id, rec.addr, schema.FieldCluster, a.cluster)}
}

// notEchoed is the error where NetBox took a record and left out whose it is.
func notEchoed(r record) error {
	return &setUpError{ipam.ConfigError{Problem: fmt.Sprintf(
		"NetBox did not record the owner of address %s: check the custom fields %s, %s, %s and %s", r.addr, schema.FieldClaim, schema.FieldCluster, schema.FieldClusterUID, schema.FieldServiceUID)}}
}

// item is what a request writes into a record, under a claim text.
func (a *Allocator) item(r ipam.Request, claim string) item {
	return item{
		key: r.Key, claim: claim, cluster: a.cluster, clusterUID: a.clusterUID,
		serviceUID: r.Owner.UID, class: r.Owner.Class, hostname: r.Hostname, record: &a.record,
	}
}

// claimAsked records a given address under a claim text.
func (a *Allocator) claimAsked(ctx context.Context, r ipam.Request, addr netip.Addr, claim string) (record, error) {
	info, err := a.prefixWith(ctx, addr, r.Pools)
	if err != nil {
		return record{}, err
	}
	if info.kind == reservedSource {
		return a.claimReservedAt(ctx, r, claim, info)
	}
	it := a.item(r, claim)
	got, err := a.api.create(ctx, addr, info.vrf, it)
	switch {
	case err == nil && !it.echoed(got):
		return record{}, a.releaseUnowned(ctx, []record{got})
	case err == nil:
		return a.confirm(ctx, r.Key.String(), got)
	case netbox.AnswerSays(err, textNotUnique):
		a.claims.markStale(r.Key.String())
		return record{}, errKeyTaken
	case netbox.AnswerSays(err, textDuplicateIP):
		return a.takenBy(ctx, r, claim, addr, info.vrf)
	case definite(err):
		return record{}, err
	default:
		return a.afterUnclear(ctx, r.Key, claim, err)
	}
}

// recordHeld records the address that the Service has: its record was deleted,
// or has lost its claim, or never was in this NetBox. Traffic goes to it, so it
// is worth more than what NetBox would give out next.
func (a *Allocator) recordHeld(ctx context.Context, r ipam.Request, claim string) (record, error) {
	got, err := a.claimAsked(ctx, r, r.Held, claim)
	var outside *ipam.NotInPoolsError
	if errors.As(err, &outside) {
		return record{}, &ipam.ConfigError{Problem: fmt.Sprintf(
			"this Service has %s, which NetBox does not record and none of its pools (%s) holds: add it to a pool, or ask for another address with the annotation %s",
			r.Held, strings.Join(outside.Pools, ", "), v1alpha1.AnnotationAddresses)}
	}
	return got, err
}

// confirm makes sure that a given address was not recorded twice, which NetBox
// allows where it does not enforce uniqueness. The lowest id has it.
func (a *Allocator) confirm(ctx context.Context, key string, got record) (record, error) {
	a.remember(key, got)
	at, err := a.api.addressesAt(ctx, []netip.Addr{got.addr}, got.vrf)
	if err != nil {
		a.claims.markStale(key)
		return record{}, err
	}
	if len(at) == 0 || at[0].id >= got.id {
		return got, nil
	}
	if err := a.releaseRecord(ctx, key, got, replaced); err != nil {
		return record{}, err
	}
	return record{}, &ipam.ConflictError{Addr: got.addr, Holder: at[0].ownerText()}
}

// remember puts a new or changed record into the cache, where its text says
// whether it is the key's own or the next one.
func (a *Allocator) remember(key string, r record) {
	a.claims.update(key, func(recs *claimRecords) {
		if recs.next != nil && recs.next.id == r.id {
			recs.next = nil
		}
		if r.claim == key {
			recs.main = &r
		} else {
			recs.next = &r
		}
	})
}

// takenBy handles an address that NetBox has already: a record of the Service's
// own that has lost its claim gets it back.
func (a *Allocator) takenBy(ctx context.Context, r ipam.Request, claim string, addr netip.Addr, vrf int64) (record, error) {
	at, err := a.api.addressesAt(ctx, []netip.Addr{addr}, vrf)
	if err != nil {
		return record{}, err
	}
	if len(at) == 0 {
		return record{}, &ipam.ConflictError{Addr: addr, Holder: "a NetBox address that the token may not see"}
	}
	rec := at[0]
	switch {
	case slices.Contains(claimTexts(r.Key.String()), rec.claim):
		a.claims.markStale(r.Key.String())
		return record{}, errKeyTaken
	case rec.claim == "" && rec.cluster == a.cluster && a.ours(rec) && rec.serviceUID != "" && rec.serviceUID == r.Owner.UID:
		return a.stamp(ctx, r, rec, claim)
	}
	return record{}, &ipam.ConflictError{Addr: addr, Holder: rec.ownerText()}
}

// afterUnclear finds out what became of a request whose answer was lost. It
// never repeats the request, which may be on its way still and would be done
// twice: the next Claim does, after another look.
func (a *Allocator) afterUnclear(ctx context.Context, key ipam.Key, claim string, cause error) (record, error) {
	a.claims.markStale(key.String())
	recs, err := a.lookup(ctx, key)
	if err != nil {
		return record{}, cause
	}
	for _, rec := range []*record{recs.main, recs.next} {
		if rec != nil && rec.claim == claim {
			return *rec, nil
		}
	}
	// It may still be on its way.
	a.claims.markStale(key.String())
	return record{}, cause
}

// releaseUnowned deletes records that were created by the request before, but
// without their owner, and says what is wrong. NetBox 4.4 and 4.5 drop a custom
// field that they do not know without an error; the address would be nobody's
// then, for ever.
func (a *Allocator) releaseUnowned(ctx context.Context, created []record) error {
	a.invalidate()
	errs := []error{notEchoed(created[0])}
	for _, r := range created {
		if err := a.api.delete(ctx, r.id, ""); err != nil && netbox.StatusOf(err) != http.StatusNotFound {
			errs = append(errs, fmt.Errorf("NetBox address %d (%s) has no owner now, delete it by hand: %w", r.id, r.addr, err))
		}
	}
	return errors.Join(errs...)
}
