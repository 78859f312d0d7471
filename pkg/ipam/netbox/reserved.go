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
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox/schema"
)

// A stock is made of address records that an engineer has created with status
// reserved. A claim changes one of them, guarded by its ETag: whoever else wants
// the same record, here or elsewhere, finds it changed. Within this process a
// record is in one hand at a time, so that Services do not race for it.

// stock is the reserved addresses of a tenant.
type stock struct {
	want v1alpha1.NetBoxReserved
	// list is ordered by address.
	list *knowledge[[]stockRecord]

	// newEnough says until when NetBox is known to be so; the list's.
	newEnough time.Time

	mu     sync.Mutex
	inHand map[int64]bool // records that are being claimed
}

// stockRecord is a record of a stock.
type stockRecord struct {
	record
	tenant  string // slug
	vrfName string
	etag    string
	// foreign says that it is another cluster's, though that has no claim on it.
	foreign bool
}

// UnmarshalJSON reads what a record has, and its tenant and age besides.
func (r *stockRecord) UnmarshalJSON(data []byte) error {
	if err := r.record.UnmarshalJSON(data); err != nil {
		return err
	}
	var raw struct {
		VRF    *namedObject `json:"vrf"`
		Tenant struct {
			Slug string `json:"slug"`
		} `json:"tenant"`
		LastUpdated time.Time `json:"last_updated"`
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	r.tenant, r.vrfName, r.etag = raw.Tenant.Slug, raw.VRF.name(), etagOf(raw.LastUpdated)
	return nil
}

// etagOf makes the ETag that NetBox has for an object that was changed last at
// this time, as lists show none. Where it is not right, NetBox says so.
func etagOf(t time.Time) string {
	layout := "2006-01-02T15:04:05.000000+00:00"
	if t.Nanosecond()/1000 == 0 {
		layout = "2006-01-02T15:04:05+00:00"
	}
	return `W/"` + t.UTC().Format(layout) + `"`
}

// free tells whether a record may be claimed. One that a cluster has given back
// stays that cluster's: its token's permission is bound to it.
func (r stockRecord) free() bool { return r.status == statusReserved && r.claim == "" && !r.foreign }

// belongs tells whether a record is of the stock: other addresses of the tenant
// are not.
func (r stockRecord) belongs() bool {
	return r.status == statusReserved || r.release == schema.ReleaseReturn
}

func (b *sourceBook) stock(want v1alpha1.NetBoxReserved) *stock {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.stocks[want]
	if s == nil {
		s = &stock{want: want, inHand: map[int64]bool{}}
		s.list = newKnowledge(func(ctx context.Context) ([]stockRecord, *problem, error) { return s.ask(ctx, b) })
		b.stocks[want] = s
	}
	return s
}

// records returns the records of a pool's stock, known since maxAge.
func (s *stock) records(ctx context.Context, p ipam.Pool, maxAge time.Duration) ([]stockRecord, error) {
	records, wrong, err := s.list.now(ctx, maxAge)
	if err != nil {
		return nil, fmt.Errorf("pool %q: %w", p.Name, err)
	}
	if wrong != nil {
		return nil, wrongSource(p.Name, "%s", withField(wrong.sentence, "spec.netbox.reserved"))
	}
	return records, nil
}

// stockRelease is the first NetBox that heeds If-Match. With an older one two
// controllers would claim the same record.
var stockRelease = release{4, 6}

// ask lists the records.
func (s *stock) ask(ctx context.Context, b *sourceBook) ([]stockRecord, *problem, error) {
	if wrong, err := s.checkRelease(ctx, b); wrong != nil || err != nil {
		return nil, wrong, err
	}
	slugs := map[string]string{"tenant": s.want.Tenant, "tag": s.want.Tag}
	filter, wrong, err := b.filterOf(ctx, slugs, s.want.VRF)
	if wrong != nil || err != nil {
		return nil, wrong, err
	}
	found, err := b.client.stockRecords(ctx, filter, s.want.Tenant, b.cluster)
	if err != nil {
		return nil, unknownSlug(err, slugs), unlessSlug(err, slugs)
	}
	if len(found) == 0 {
		return nil, &problem{sentence: fmt.Sprintf("%s finds no address in NetBox with status reserved and %s: make some there or correct it",
			fieldMark, s.described())}, nil
	}
	return found, nil, nil
}

func (s *stock) checkRelease(ctx context.Context, b *sourceBook) (*problem, error) {
	if time.Now().Before(s.newEnough) {
		return nil, nil //nolint:nilnil // neither a problem nor an error
	}
	version, err := b.client.version(ctx)
	if err != nil {
		return nil, err
	}
	if r := parseRelease(version); !r.atLeast(stockRelease.major, stockRelease.minor) {
		return &problem{sentence: fmt.Sprintf("%s needs NetBox %s or newer, and this is %s: upgrade NetBox, or name prefixes instead",
			fieldMark, stockRelease, version)}, nil
	}
	s.newEnough = time.Now().Add(namedTTL)
	return nil, nil //nolint:nilnil // neither a problem nor an error
}

// described says whose the stock is.
func (s *stock) described() string {
	return described(v1alpha1.NetBoxSelector{Tenant: s.want.Tenant, Tag: s.want.Tag, VRF: s.want.VRF})
}

// stockRecords lists the records that a filter finds and that are of a stock,
// by address.
func (c *Client) stockRecords(ctx context.Context, filter url.Values, tenant, cluster string) ([]stockRecord, error) {
	filter.Set("fields", recordFields+",tenant,last_updated")
	found, err := listPages(ctx, c, "looking for the reserved addresses of a pool in NetBox", filter, func(r stockRecord) (int64, error) { return r.id, nil },
		func(ctx context.Context) error {
			_, _, err := c.api.IpamAPI.IpamIpAddressesList(ctx).Execute()
			return err
		})
	if err != nil {
		return nil, err
	}
	found = slices.DeleteFunc(found, func(r stockRecord) bool { return !r.belongs() || r.tenant != tenant })
	for i, r := range found {
		found[i].foreign = r.cluster != "" && r.cluster != cluster
	}
	slices.SortFunc(found, func(x, y stockRecord) int {
		return cmp.Or(x.addr.Compare(y.addr), cmp.Compare(x.vrf, y.vrf), cmp.Compare(x.id, y.id))
	})
	return found, nil
}

// reserved returns the addresses of a pool's stock, claimed or not.
func (b *sourceBook) reserved(ctx context.Context, p ipam.Pool, maxAge time.Duration) ([]source, error) {
	s := b.stock(*p.Spec.NetBox.Reserved)
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

func (s *stock) source(r stockRecord, pool string) source {
	one := netipx.IPRangeFrom(r.addr, r.addr)
	return source{kind: stockSource, id: r.id, all: one, usable: one, vrf: r.vrf, vrfName: r.vrfName, field: "spec.netbox.reserved", stock: s, pool: pool}
}

// pick takes the free record with the lowest address of a family into the hand.
func (s *stock) pick(f ipam.Family, avoidBuggy bool) (rec stockRecord, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list.amend(func(list *[]stockRecord) { rec, ok = lowestFree(*list, s.inHand, f, avoidBuggy) })
	if ok {
		s.inHand[rec.id] = true
	}
	return rec, ok
}

// lowestFree finds a record that is free and in no hand. An address that is
// claimed in another VRF is not free.
func lowestFree(records []stockRecord, inHand map[int64]bool, f ipam.Family, avoidBuggy bool) (stockRecord, bool) {
	taken := map[netip.Addr]bool{}
	for _, r := range records {
		taken[r.addr] = taken[r.addr] || !r.free() || inHand[r.id]
	}
	for _, r := range records {
		if !taken[r.addr] && ipam.FamilyOf(r.addr) == f && (!avoidBuggy || !ipam.Buggy(r.addr)) {
			return r, true
		}
	}
	return stockRecord{}, false
}

// take takes one record into the hand, unless it is in one.
func (s *stock) take(id int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inHand[id] {
		return false
	}
	s.inHand[id] = true
	return true
}

// putBack lets go of a record; now is what it is like. In one step: nobody sees
// the record out of the hand as it was before.
func (s *stock) putBack(now stockRecord) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list.amend(func(list *[]stockRecord) {
		*list = slices.Clone(*list)
		if i := slices.IndexFunc(*list, func(r stockRecord) bool { return r.id == now.id }); i >= 0 {
			(*list)[i] = now
		}
	})
	delete(s.inHand, now.id)
}

// errNotFree says that a record of a stock is no longer what it was.
var errNotFree = errors.New("the reserved address is no longer free")

// maxPicks bounds how often a claim finds that somebody else was faster.
const maxPicks = 50

// claimReserved takes the lowest free address of a stock.
func (a *Allocator) claimReserved(ctx context.Context, r ipam.Request, p ipam.Pool) (record, error) {
	s := a.sources.stock(*p.Spec.NetBox.Reserved)
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

func (s *stock) full(p ipam.Pool, records []stockRecord, f ipam.Family) string {
	return fmt.Sprintf("pool %q: 0 of %d addresses free among those reserved in NetBox for %s",
		p.Name, usageOf(records, p.Spec.AvoidBuggyIPs)[f].Capacity, s.described())
}

// reservedAt finds the record of an address in a stock.
func (a *Allocator) reservedAt(ctx context.Context, addr netip.Addr, p ipam.Pool) (source, bool, error) {
	for _, maxAge := range []time.Duration{foundTTL, absentTTL} {
		found, err := a.sources.reserved(ctx, p, maxAge)
		if err != nil {
			return source{}, false, err
		}
		if i := slices.IndexFunc(found, func(s source) bool { return s.all.From() == addr }); i >= 0 {
			return found[i], true, nil
		}
	}
	return source{}, false, nil
}

// claimStocked takes the very record that prefixWith found in a stock, under a
// claim text. Errors: errKeyTaken, or what Claim returns.
func (a *Allocator) claimStocked(ctx context.Context, r ipam.Request, claim string, src source) (record, error) {
	now, _, err := a.client.address(ctx, src.id)
	if err != nil {
		return record{}, err
	}
	rec := stockRecord{record: now, vrfName: src.vrfName, foreign: now.cluster != "" && now.cluster != a.cluster}
	mine := now.claim == "" && a.ours(now) && now.serviceUID != "" && now.serviceUID == r.Owner.UID
	switch {
	case slices.Contains(claimTexts(r.Key.String()), now.claim):
		a.claims.doubt(r.Key.String())
		return record{}, errKeyTaken
	case !rec.free() && !mine || !src.stock.take(src.id):
		return record{}, &ipam.ConflictError{Addr: now.addr, Holder: now.holder()}
	}
	got, err := a.claimRecord(ctx, r, claim, src.stock, rec, src.pool)
	if errors.Is(err, errNotFree) {
		return record{}, &ipam.ConflictError{Addr: now.addr, Holder: now.holder()}
	}
	return got, err
}

// claimRecord writes a claim into a record that is in the hand, and puts it
// back. errNotFree: somebody else was faster.
func (a *Allocator) claimRecord(ctx context.Context, r ipam.Request, claim string, s *stock, rec stockRecord, pool string) (record, error) {
	got, err := a.writeClaim(ctx, r, claim, s, &rec, pool)
	if err == nil {
		rec.record = got
	}
	s.putBack(rec)
	return got, err
}

// writeClaim changes the record. It leaves in rec what NetBox has now, as far
// as it is known.
func (a *Allocator) writeClaim(ctx context.Context, r ipam.Request, claim string, s *stock, rec *stockRecord, pool string) (record, error) {
	key := r.Key.String()
	it := a.item(r, claim)
	changes := it.stockChanges(rec.record)
	for range 3 {
		if rec.etag == "" {
			if err := a.lookAgain(ctx, rec); err != nil {
				return record{}, err
			}
		}
		got, err := a.client.change(ctx, rec.id, rec.etag, changes)
		switch {
		case err == nil && (got.id != rec.id || !it.echoed(got) || got.release != schema.ReleaseReturn):
			a.claims.doubt(key)
			return record{}, notEchoed(got)
		case err == nil:
			a.remember(key, got)
			return got, nil
		case status(err) == http.StatusPreconditionFailed:
			rec.etag = ""
		case bodySays(err, "must have a unique value"):
			a.claims.doubt(key)
			return record{}, errKeyTaken
		case status(err) == http.StatusNotFound || status(err) == http.StatusForbidden && bodySays(err, "do not have permission"):
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

// lookAgain reads a record that was changed, and its ETag.
func (a *Allocator) lookAgain(ctx context.Context, rec *stockRecord) error {
	now, etag, err := a.client.address(ctx, rec.id)
	if status(err) == http.StatusNotFound {
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
// but not change.
func (a *Allocator) whyUnchangeable(ctx context.Context, s *stock, rec *stockRecord, pool string) error {
	if err := a.lookAgain(ctx, rec); err != nil {
		return err
	}
	return wrongSource(pool, `the NetBox token may not change address %d (%s): run "bm-ccm netbox init" with --reserved-tenant %s, or give its user another permission to change %s, with the constraint {"status": "reserved", "tenant__slug": %q}`,
		rec.id, rec.addr, s.want.Tenant, schema.ObjectType, s.want.Tenant)
}

// stockChanges is what a claim changes of a record of a stock. What its
// engineer wrote stays.
func (i item) stockChanges(rec record) map[string]any {
	fields := i.ownerFields()
	fields[schema.FieldRelease] = schema.ReleaseReturn
	changes := map[string]any{"status": i.record.status(), "custom_fields": fields}
	if i.hostname != "" && rec.dnsName == "" {
		changes["dns_name"] = i.hostname
	}
	return changes
}

// stockUsage counts a stock, with one list.
func (a *Allocator) stockUsage(ctx context.Context, p ipam.Pool) (map[ipam.Family]ipam.Usage, error) {
	records, err := a.sources.stock(*p.Spec.NetBox.Reserved).records(ctx, p, 0)
	if err != nil {
		return nil, err
	}
	return usageOf(records, p.Spec.AvoidBuggyIPs), nil
}

// usageOf counts addresses, those that are in several VRFs once.
func usageOf(records []stockRecord, avoidBuggy bool) map[ipam.Family]ipam.Usage {
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
		case !avoidBuggy || !ipam.Buggy(addr):
			u.Capacity, u.Free = u.Capacity+1, u.Free+1
		}
		out[f] = u
	}
	return out
}
