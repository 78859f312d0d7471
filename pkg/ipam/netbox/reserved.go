// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"time"

	"go4.org/netipx"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/schema"
)

// reservedPool is the addresses of a tenant that an engineer has created with
// status reserved, for this. A claim changes one of the records, guarded by its
// ETag: whoever else wants the same record, here or elsewhere, finds it changed.
// Within this process one Service at a time tries a record, so that Services do
// not race for it.
type reservedPool struct {
	want v1alpha1.NetBoxReserved
	// list is ordered by address.
	list *ttlCache[[]reservedRecord]

	mu       sync.Mutex
	inFlight map[int64]bool // records that are being claimed
	// versionCheckedUntil says until when NetBox is known to heed ETags.
	versionCheckedUntil time.Time
}

// reservedRecord is a record of a reservedPool.
type reservedRecord struct {
	record
	tenant  string // slug
	vrfName string
	etag    string
	// foreign means that it is another cluster's, though that has no claim on it.
	foreign bool
}

// UnmarshalJSON reads what a record has, and its tenant and age besides.
func (r *reservedRecord) UnmarshalJSON(data []byte) error {
	if err := r.record.UnmarshalJSON(data); err != nil {
		return err
	}
	var raw struct {
		VRF    *netbox.NamedObject `json:"vrf"`
		Tenant struct {
			Slug string `json:"slug"`
		} `json:"tenant"`
		LastUpdated time.Time `json:"last_updated"`
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	r.tenant, r.vrfName, r.etag = raw.Tenant.Slug, netbox.NameOf(raw.VRF), etagOf(raw.LastUpdated)
	return nil
}

// etagOf makes the ETag that NetBox has for an object that was changed last at
// this time, as lists show none. Where it is not right, NetBox says so, and the
// record is read for its ETag.
func etagOf(t time.Time) string {
	layout := "2006-01-02T15:04:05.000000+00:00"
	if t.Nanosecond()/1000 == 0 {
		layout = "2006-01-02T15:04:05+00:00"
	}
	return `W/"` + t.UTC().Format(layout) + `"`
}

// free reports whether a record may be claimed. One that a cluster has given back
// stays that cluster's: its token's permission is bound to it.
func (r reservedRecord) free() bool { return r.status == statusReserved && r.claim == "" && !r.foreign }

// belongs reports whether a record is one of the reserved addresses, free or
// claimed: other addresses of the tenant are not.
func (r reservedRecord) belongs() bool {
	return r.status == statusReserved || r.release == schema.ReleaseReturn
}

// reservedPool returns what is known of the addresses that a pool describes. Pools
// with equal descriptions share it, or each would hand out the same records.
func (b *sourceCache) reservedPool(want v1alpha1.NetBoxReserved) *reservedPool {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.reserved[want]
	if s == nil {
		s = &reservedPool{want: want, inFlight: map[int64]bool{}}
		s.list = newTTLCache(func(ctx context.Context) ([]reservedRecord, error) { return s.ask(ctx, b) })
		b.reserved[want] = s
	}
	return s
}

// records returns the reserved addresses of a pool, known since maxAge.
func (s *reservedPool) records(ctx context.Context, p ipam.Pool, maxAge time.Duration) ([]reservedRecord, error) {
	records, err := s.list.get(ctx, maxAge)
	if err != nil {
		return nil, inPool(err, p.Name, "spec.netbox.reserved")
	}
	return records, nil
}

// ifMatchRelease is the first NetBox that heeds If-Match. With an older one two
// controllers would claim the same record.
var ifMatchRelease = netbox.Release{Major: 4, Minor: 6}

// ask lists the records.
func (s *reservedPool) ask(ctx context.Context, b *sourceCache) ([]reservedRecord, error) {
	if err := s.checkRelease(ctx, b); err != nil {
		return nil, err
	}
	slugs := map[string]string{"tenant": s.want.Tenant, "tag": s.want.Tag}
	filter, err := b.filterOf(ctx, slugs, s.want.VRF)
	if err != nil {
		return nil, err
	}
	found, err := b.api.reservedRecords(ctx, filter, s.want.Tenant, b.cluster)
	if err != nil {
		return nil, explainSlug(err, slugs)
	}
	if len(found) == 0 {
		return nil, newSourceError("%s finds no address in NetBox with status reserved and %s: make some there or correct it", fieldMark, s.described())
	}
	return found, nil
}

// checkRelease makes sure that NetBox heeds If-Match. It may be upgraded under a
// running controller, so the answer does not hold for ever.
func (s *reservedPool) checkRelease(ctx context.Context, b *sourceCache) error {
	s.mu.Lock()
	until := s.versionCheckedUntil
	s.mu.Unlock()
	if time.Now().Before(until) {
		return nil
	}
	version, err := b.api.version(ctx)
	if err != nil {
		return err
	}
	if !netbox.ParseRelease(version).AtLeast(ifMatchRelease) {
		return newSourceError("%s needs NetBox %s or newer, and this is %s: upgrade NetBox, or name prefixes instead", fieldMark, ifMatchRelease, version)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.versionCheckedUntil = time.Now().Add(namedTTL)
	return nil
}

// described says whose addresses these are.
func (s *reservedPool) described() string {
	return described(v1alpha1.NetBoxSelector{Tenant: s.want.Tenant, Tag: s.want.Tag, VRF: s.want.VRF})
}

// reservedRecords lists the records that a filter finds and that are reserved
// addresses or claimed ones of them, by address.
func (c api) reservedRecords(ctx context.Context, filter url.Values, tenant, cluster string) ([]reservedRecord, error) {
	filter.Set("fields", recordFields+",tenant,last_updated")
	r := netbox.Request{Doing: "looking for the reserved addresses of a pool in NetBox", Path: addressesPath, Query: filter}
	found, err := list(ctx, c, r, func(r reservedRecord) int64 { return r.id }, nil)
	if err != nil {
		return nil, err
	}
	found = slices.DeleteFunc(found, func(r reservedRecord) bool { return !r.belongs() || r.tenant != tenant })
	for i, r := range found {
		found[i].foreign = r.cluster != "" && r.cluster != cluster
	}
	slices.SortFunc(found, func(x, y reservedRecord) int {
		return cmp.Or(x.addr.Compare(y.addr), cmp.Compare(x.vrf, y.vrf), cmp.Compare(x.id, y.id))
	})
	return found, nil
}

// reservedSources returns the reserved addresses of a pool, claimed or not, each
// as a source of its own.
func (b *sourceCache) reservedSources(ctx context.Context, p ipam.Pool, maxAge time.Duration) ([]source, error) {
	s := b.reservedPool(*p.Spec.NetBox.Reserved)
	records, err := s.records(ctx, p, maxAge)
	if err != nil {
		return nil, err
	}
	out := make([]source, len(records))
	for i, r := range records {
		out[i] = s.source(r, p.Name)
	}
	return out, nil
}

// source describes one reserved address.
func (s *reservedPool) source(r reservedRecord, pool string) source {
	one := netipx.IPRangeFrom(r.addr, r.addr)
	return source{kind: reservedSource, id: r.id, all: one, usable: one, vrf: r.vrf, vrfName: r.vrfName, field: "spec.netbox.reserved", reserved: s, pool: pool}
}

// pick takes the free record with the lowest address of a family, so that no
// other claim tries it until putBack.
func (s *reservedPool) pick(f ipam.Family, avoidZeroAnd255 bool) (rec reservedRecord, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list.update(func(list *[]reservedRecord) { rec, ok = lowestFree(*list, s.inFlight, f, avoidZeroAnd255) })
	if ok {
		s.inFlight[rec.id] = true
	}
	return rec, ok
}

// lowestFree finds a record that is free and not in flight. An address that is
// claimed in another VRF is not free.
func lowestFree(records []reservedRecord, inFlight map[int64]bool, f ipam.Family, avoidZeroAnd255 bool) (reservedRecord, bool) {
	taken := map[netip.Addr]bool{}
	for _, r := range records {
		taken[r.addr] = taken[r.addr] || !r.free() || inFlight[r.id]
	}
	for _, r := range records {
		if !taken[r.addr] && ipam.FamilyOf(r.addr) == f && (!avoidZeroAnd255 || !ipam.Buggy(r.addr)) {
			return r, true
		}
	}
	return reservedRecord{}, false
}

// take takes one record like pick, unless another claim has it.
func (s *reservedPool) take(id int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inFlight[id] {
		return false
	}
	s.inFlight[id] = true
	return true
}

// putBack ends what pick and take began; now is what the record is like. It is
// one step: nobody gets to see the record free as it was before.
func (s *reservedPool) putBack(now reservedRecord) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list.update(func(list *[]reservedRecord) {
		*list = slices.Clone(*list)
		if i := slices.IndexFunc(*list, func(r reservedRecord) bool { return r.id == now.id }); i >= 0 {
			(*list)[i] = now
		}
	})
	delete(s.inFlight, now.id)
}

// errNotFree says that a reserved record is no longer what it was.
var errNotFree = errors.New("the reserved address is no longer free")

// maxPicks bounds how often a claim finds that somebody else was faster. As many
// as maxBatch controllers would have to race for it to be reached.
const maxPicks = 50

// claimReserved takes the lowest free of a pool's reserved addresses.
func (a *Allocator) claimReserved(ctx context.Context, r ipam.Request, p ipam.Pool) (record, error) {
	s := a.sources.reservedPool(*p.Spec.NetBox.Reserved)
	maxAge := foundTTL
	for range maxPicks {
		records, err := s.records(ctx, p, maxAge)
		if err != nil {
			return record{}, err
		}
		rec, ok := s.pick(r.Key.Family, p.Spec.AvoidBuggyIPs)
		switch {
		case !ok && maxAge == foundTTL:
			maxAge = absentTTL // there may be new ones
			continue
		case !ok:
			return record{}, &fullError{s.full(p, records, r.Key.Family)}
		}
		got, err := a.claimRecord(ctx, r, r.Key.String(), s, rec, p.Name)
		if !errors.Is(err, errNotFree) {
			return got, err
		}
	}
	return record{}, &ipam.UnavailableError{Doing: fmt.Sprintf("claiming a reserved address of pool %q", p.Name), Err: errChanging}
}

// full says how full a pool of reserved addresses is.
func (s *reservedPool) full(p ipam.Pool, records []reservedRecord, f ipam.Family) string {
	return fmt.Sprintf("pool %q: 0 of %d addresses free among those reserved in NetBox for %s",
		p.Name, usageOf(records, p.Spec.AvoidBuggyIPs)[f].Capacity, s.described())
}

// reservedAt finds the record of an address among those of a pool. One that is
// missing may have been created a moment ago, so NetBox is asked again.
func (a *Allocator) reservedAt(ctx context.Context, addr netip.Addr, p ipam.Pool) (source, bool, error) {
	for _, maxAge := range []time.Duration{foundTTL, absentTTL} {
		found, err := a.sources.reservedSources(ctx, p, maxAge)
		if err != nil {
			return source{}, false, err
		}
		if i := slices.IndexFunc(found, func(s source) bool { return s.all.From() == addr }); i >= 0 {
			return found[i], true, nil
		}
	}
	return source{}, false, nil
}

// claimReservedAt takes the very record that prefixWith found, under a claim
// text. Errors: errKeyTaken, or what Claim returns.
func (a *Allocator) claimReservedAt(ctx context.Context, r ipam.Request, claim string, src source) (record, error) {
	now, _, err := a.api.address(ctx, src.id)
	if err != nil {
		return record{}, err
	}
	rec := reservedRecord{record: now, vrfName: src.vrfName, foreign: now.cluster != "" && now.cluster != a.cluster}
	mine := now.claim == "" && a.ours(now) && now.serviceUID != "" && now.serviceUID == r.Owner.UID
	switch {
	case slices.Contains(claimTexts(r.Key.String()), now.claim):
		a.claims.markStale(r.Key.String())
		return record{}, errKeyTaken
	case !rec.free() && !mine || !src.reserved.take(src.id):
		return record{}, &ipam.ConflictError{Addr: now.addr, Holder: now.ownerText()}
	}
	got, err := a.claimRecord(ctx, r, claim, src.reserved, rec, src.pool)
	if errors.Is(err, errNotFree) {
		return record{}, &ipam.ConflictError{Addr: now.addr, Holder: now.ownerText()}
	}
	return got, err
}

// claimRecord writes a claim into a record that is in flight, and puts it back. errNotFree: somebody else was faster.
func (a *Allocator) claimRecord(ctx context.Context, r ipam.Request, claim string, s *reservedPool, rec reservedRecord, pool string) (record, error) {
	got, err := a.writeClaim(ctx, r, claim, s, &rec, pool)
	if err == nil {
		rec.record = got
	}
	s.putBack(rec)
	return got, err
}

// writeClaim changes the record. It leaves in rec what NetBox has now, as far
// as it is known.
func (a *Allocator) writeClaim(ctx context.Context, r ipam.Request, claim string, s *reservedPool, rec *reservedRecord, pool string) (record, error) {
	key := r.Key.String()
	it := a.item(r, claim)
	changes := it.reservedChanges(rec.record)
	for range 3 {
		if rec.etag == "" {
			if err := a.lookAgain(ctx, rec); err != nil {
				return record{}, err
			}
		}
		got, err := a.api.change(ctx, rec.id, rec.etag, changes)
		switch {
		case err == nil && (got.id != rec.id || !it.echoed(got) || got.release != schema.ReleaseReturn):
			a.claims.markStale(key)
			return record{}, notEchoed(got)
		case err == nil:
			a.remember(key, got)
			return got, nil
		case netbox.StatusOf(err) == http.StatusPreconditionFailed:
			rec.etag = ""
		case netbox.AnswerSays(err, textNotUnique):
			a.claims.markStale(key)
			return record{}, errKeyTaken
		case netbox.StatusOf(err) == http.StatusNotFound || netbox.StatusOf(err) == http.StatusForbidden && netbox.AnswerSays(err, "do not have permission"):
			return record{}, a.whyUnchangeable(ctx, s, rec, pool)
		case definite(err):
			return record{}, err
		default:
			rec.etag = "" // it may have been written
			return a.afterUnclear(ctx, r.Key, claim, err)
		}
	}
	return record{}, errNotFree
}

// lookAgain reads a record that was changed, and its ETag. If it is still free, an
// engineer has only edited it, and the claim may be tried once more.
func (a *Allocator) lookAgain(ctx context.Context, rec *reservedRecord) error {
	now, etag, err := a.api.address(ctx, rec.id)
	if netbox.StatusOf(err) == http.StatusNotFound {
		rec.status = "" // gone, so not free
		return errNotFree
	}
	if err != nil {
		return err
	}
	was := rec.record
	rec.record, rec.etag = now, etag
	rec.foreign = now.cluster != "" && now.cluster != was.cluster
	if rec.foreign || now.claim != "" || now.status != was.status || now.addr != was.addr || now.vrf != was.vrf {
		return errNotFree
	}
	return nil
}

// whyUnchangeable tells a record that is gone from one that the token may see
// but not change: NetBox answers 404 for both, and the second is to be put right
// by an administrator.
func (a *Allocator) whyUnchangeable(ctx context.Context, s *reservedPool, rec *reservedRecord, pool string) error {
	if err := a.lookAgain(ctx, rec); err != nil {
		return err
	}
	return newSourceError(`pool %q: the NetBox token may not change address %d (%s): run "bm-ccm netbox init" with --reserved-tenant %s, or give its user another permission to change %s, with the constraint {"status": "reserved", "tenant__slug": %q}`,
		pool, rec.id, rec.addr, s.want.Tenant, schema.ObjectType, s.want.Tenant)
}

// reservedChanges is what a claim changes of a reserved record. What its
// engineer wrote stays.
func (i item) reservedChanges(rec record) map[string]any {
	fields := i.ownerFields()
	fields[schema.FieldRelease] = schema.ReleaseReturn
	changes := map[string]any{"status": i.record.status(), "custom_fields": fields}
	if i.hostname != "" && rec.dnsName == "" {
		changes["dns_name"] = i.hostname
	}
	return changes
}

// usageOf counts addresses, those that are in several VRFs once.
func usageOf(records []reservedRecord, avoidZeroAnd255 bool) map[ipam.Family]ipam.Usage {
	used := map[netip.Addr]bool{}
	for _, r := range records {
		used[r.addr] = used[r.addr] || !r.free()
	}
	out := map[ipam.Family]ipam.Usage{}
	for addr, isUsed := range used {
		f := ipam.FamilyOf(addr)
		u := out[f]
		switch {
		case isUsed:
			u.Capacity, u.Used = u.Capacity+1, u.Used+1
		case !avoidZeroAnd255 || !ipam.Buggy(addr):
			u.Capacity, u.Free = u.Capacity+1, u.Free+1
		}
		out[f] = u
	}
	return out
}
