// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/keylock"
	"github.com/bm-ccm/bm-ccm/pkg/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/schema"
)

// Allocator implements ipam.Allocator on NetBox.
//
// NetBox is the only store. What this process remembers saves requests and is
// always allowed to be wrong: each write is checked by NetBox, by the unique
// claim key or an ETag, and what has an unclear outcome is looked up again.
type Allocator struct {
	api        api
	cluster    string
	clusterUID string
	record     Record

	locks    keylock.Locks[string] // by claim key
	claims   *claimCache
	sources  *sourceCache
	waiting  *claimQueues
	removals *batcher[*removal]

	// starting is the one call that checks NetBox and fills the cache.
	starting singleflight.Group
	mu       sync.Mutex
	checked  bool  // NetBox is as it must be, and the cache filled
	startErr error // why it is not
	retry    time.Time
}

var _ ipam.Store = (*Allocator)(nil)

// NewAllocator returns an allocator for the claims of one cluster. clusterUID
// tells the cluster from another one of the same name; empty leaves that out.
func NewAllocator(client *netbox.Client, cluster, clusterUID string, record Record) *Allocator {
	a := &Allocator{
		api: api{client}, cluster: cluster, clusterUID: clusterUID, record: record,
		claims:  newClaimCache(),
		sources: newSourceCache(api{client}, cluster),
	}
	a.waiting = newClaimQueues(a)
	a.removals = newBatcher(a.removeBatch)
	return a
}

// Check reports whether claims can be kept in this NetBox, see schema.Check.
// Every method does so by itself before the first claim.
func (a *Allocator) Check(ctx context.Context) error { return a.api.check(ctx) }

// startErrTTL is how long a failed check is remembered, so that a backlog of
// Services does not repeat it once each.
const startErrTTL = time.Second

// ready returns once NetBox was checked and the cache filled. Nothing is claimed
// before: in a NetBox whose field is not unique, or is dropped from what is
// written, a claim would be nobody's.
func (a *Allocator) ready(ctx context.Context) error {
	if done, err := a.state(); done {
		return err
	}
	// The check is for everybody who waits, so it must not end with the context
	// of who came first. Requests have deadlines of their own.
	result := a.starting.DoChan("", func() (any, error) { return nil, a.start(context.WithoutCancel(ctx)) })
	select {
	case r := <-result:
		return r.Err
	case <-ctx.Done():
		return &ipam.UnavailableError{Doing: "waiting for the check of NetBox", Err: ctx.Err()}
	}
}

// start checks NetBox and fills the cache, unless another call just has.
func (a *Allocator) start(ctx context.Context) error {
	if done, err := a.state(); done {
		return err
	}
	err := a.Check(ctx)
	if err == nil {
		_, err = a.refresh(ctx)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.checked, a.startErr, a.retry = err == nil, err, time.Now().Add(startErrTTL)
	return err
}

// state reports whether there is no need to check: all is well, or it was not a
// moment ago.
func (a *Allocator) state() (done bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.checked {
		return true, nil
	}
	if a.startErr != nil && time.Now().Before(a.retry) {
		return true, a.startErr
	}
	return false, nil
}

// invalidate makes the next call check NetBox again.
func (a *Allocator) invalidate() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.checked = false
}

// refresh lists all records of this cluster and fills the cache. It is one list
// for thousands of claims: a lookup of each would take minutes after a restart.
func (a *Allocator) refresh(ctx context.Context) ([]record, error) {
	done := a.claims.listing()
	records, err := a.api.addressesByCluster(ctx, a.cluster)
	if err != nil {
		done(nil, false)
		return nil, err
	}
	done(byClaimKey(slices.DeleteFunc(slices.Clone(records), func(r record) bool { return r.claim == "" })), true)
	return records, nil
}

// lookup asks NetBox for the records of a key, whatever the cache says.
func (a *Allocator) lookup(ctx context.Context, key ipam.Key) (claimRecords, error) {
	found, err := a.lookupAll(ctx, []ipam.Key{key})
	if err != nil {
		return claimRecords{}, err
	}
	return found[0], nil
}

// lookupAll asks NetBox for the records of some keys, in one request. Both texts
// of a key are asked for: a change that was broken off may have left either.
func (a *Allocator) lookupAll(ctx context.Context, keys []ipam.Key) ([]claimRecords, error) {
	var texts []string
	for _, k := range keys {
		texts = append(texts, claimTexts(k.String())...)
	}
	records, err := a.api.addressesByClaim(ctx, texts)
	if err != nil {
		a.recheckAfter(err)
		return nil, err
	}
	byKey := byClaimKey(records)
	out := make([]claimRecords, len(keys))
	for i, k := range keys {
		out[i] = byKey[k.String()]
		a.claims.put(k.String(), out[i])
	}
	return out, nil
}

// recheckAfter makes the next call check NetBox when an error may come from
// its set-up: somebody may have removed a field meanwhile, or made one required.
func (a *Allocator) recheckAfter(err error) {
	if errors.As(err, new(*setUpError)) || netbox.StatusOf(err) == http.StatusBadRequest {
		a.invalidate()
	}
}

// recordsOf returns what is known of a key, from NetBox if need be.
func (a *Allocator) recordsOf(ctx context.Context, key ipam.Key) (claimRecords, error) {
	if recs, ok := a.claims.get(key.String()); ok {
		return recs, nil
	}
	return a.lookup(ctx, key)
}

// Known implements ipam.Knower: NetBox is asked only while the cache is empty
// or in doubt.
func (a *Allocator) Known(ctx context.Context, key ipam.Key) (ipam.Claim, bool, error) {
	if err := a.ready(ctx); err != nil {
		return ipam.Claim{}, false, err
	}
	recs, err := a.recordsOf(ctx, key)
	if err != nil || recs.empty() || !a.ours(*recs.current()) {
		return ipam.Claim{}, false, err
	}
	return claimOf(key, *recs.current(), nil), true, nil
}

// Find implements ipam.Allocator. Where this process knows of no claim at all,
// or is in doubt, NetBox is asked.
func (a *Allocator) Find(ctx context.Context, namespace, service string) ([]ipam.Claim, error) {
	if err := a.ready(ctx); err != nil {
		return nil, err
	}
	keys := make([]ipam.Key, 2)
	found := make([]claimRecords, 2)
	sure := true
	for i, f := range []ipam.Family{ipam.IPv4, ipam.IPv6} {
		keys[i] = ipam.Key{Cluster: a.cluster, Namespace: namespace, Service: service, Family: f}
		recs, ok := a.claims.get(keys[i].String())
		found[i], sure = recs, sure && ok
	}
	if !sure || found[0].empty() && found[1].empty() {
		var err error
		if found, err = a.lookupAll(ctx, keys); err != nil {
			return nil, err
		}
	}
	var out []ipam.Claim
	for i, recs := range found {
		if !recs.empty() && a.ours(*recs.current()) {
			out = append(out, claimOf(keys[i], *recs.current(), nil))
		}
	}
	return out, nil
}

// ours reports whether a record was made, or taken over, by this cluster. A record
// or a cluster without a UID counts: older records have none.
func (a *Allocator) ours(r record) bool {
	return r.cluster == a.cluster && (r.clusterUID == "" || a.clusterUID == "" || r.clusterUID == a.clusterUID)
}

// List implements ipam.Allocator. It reads NetBox and refreshes what this
// process knows.
func (a *Allocator) List(ctx context.Context) ([]ipam.Claim, error) {
	_, err := a.reread(ctx)
	if err != nil {
		return nil, err
	}
	return a.known(), nil
}

// reread asks NetBox for all records of this cluster, and so finds out what
// others have changed there.
func (a *Allocator) reread(ctx context.Context) ([]record, error) {
	if err := a.ready(ctx); err != nil {
		return nil, err
	}
	records, err := a.refresh(ctx)
	if err != nil {
		a.recheckAfter(err)
	}
	return records, err
}

// known returns all claims of the cache, by key. Texts that are no keys are left
// out; Audit reports them.
func (a *Allocator) known() []ipam.Claim {
	known := a.claims.all()
	out := make([]ipam.Claim, 0, len(known))
	for text, recs := range known {
		key, err := ipam.ParseKey(text)
		if err == nil && key.Cluster == a.cluster && a.ours(*recs.current()) {
			out = append(out, claimOf(key, *recs.current(), nil))
		}
	}
	slices.SortFunc(out, func(x, y ipam.Claim) int { return strings.Compare(x.Key.String(), y.Key.String()) })
	return out
}

// claimOf is a record as others know it.
func claimOf(key ipam.Key, r record, pools []ipam.Pool) ipam.Claim {
	return ipam.Claim{
		Key: key, Addr: r.addr, Pool: ipam.PoolOf(r.addr, pools),
		Owner: ipam.Owner{UID: r.serviceUID, Class: r.class}, Reserved: r.reserved(),
	}
}

// conflict says why a record cannot be used by this cluster; nil if it can. A
// record without a cluster was assigned by hand.
func (a *Allocator) conflict(r record) error {
	switch {
	case r.cluster != "" && r.cluster != a.cluster:
		return &ipam.ConflictError{Addr: r.addr, Holder: fmt.Sprintf("cluster %s (NetBox address %d)", r.cluster, r.id)}
	case r.clusterUID != "" && a.clusterUID != "" && r.clusterUID != a.clusterUID:
		return &ipam.ConflictError{Addr: r.addr, Holder: fmt.Sprintf(
			"another cluster that is also named %s (NetBox address %d has %s %s, this cluster's is %s; give one of the two clusters another clusterName)",
			a.cluster, r.id, schema.FieldClusterUID, r.clusterUID, a.clusterUID)}
	}
	return nil
}
