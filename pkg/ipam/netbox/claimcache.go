// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"maps"
	"net/netip"
	"strings"
	"sync"
)

// claimRecords is what NetBox has for a claim key: the record of the key itself and
// that of its successor (see the package documentation). Both may be nil.
type claimRecords struct {
	main, next *record
	// extra are further records of the key, which should not be.
	extra []record
}

// preferring returns the claimRecords with the record of this address as the main
// one, where there are several. Otherwise the one with the lowest id counts.
func (recs claimRecords) preferring(addr netip.Addr) claimRecords {
	for i, rec := range recs.extra {
		if rec.addr == addr && recs.main != nil && recs.main.addr != addr {
			recs.main = &recs.extra[i]
			break
		}
	}
	return recs
}

// empty reports whether NetBox has nothing for the key.
func (recs claimRecords) empty() bool { return recs.main == nil && recs.next == nil }

// current is the record that the Service's address is in.
func (recs claimRecords) current() *record {
	if recs.main != nil {
		return recs.main
	}
	return recs.next
}

// claimTexts are the texts that the claim field of a key's records may hold.
func claimTexts(key string) []string { return []string{key, key + nextSuffix} }

// byClaimKey sorts records, ascending by id, under their keys.
func byClaimKey(records []record) map[string]claimRecords {
	out := map[string]claimRecords{}
	for i := range records {
		key, isNext := strings.CutSuffix(records[i].claim, nextSuffix)
		recs := out[key]
		switch {
		case !isNext && recs.main == nil:
			recs.main = &records[i]
		case isNext && recs.next == nil:
			recs.next = &records[i]
		case !isNext:
			recs.extra = append(recs.extra, records[i])
		}
		out[key] = recs
	}
	return out
}

// claimCache knows all claims of this cluster, once it was filled. Nearly every
// sync of a Service finds its claim here, so a controller that restarts with
// thousands of Services asks NetBox for a few pages only.
type claimCache struct {
	mu     sync.Mutex
	filled bool
	byKey  map[string]claimRecords
	// stale are the keys of which NetBox may have a record that is not here:
	// a request about them had no clear outcome.
	stale map[string]bool
	// touched are the keys that changed while a list was under way, which knows
	// less of them than this cache does.
	touched map[string]bool
	lists   int
}

// newClaimCache returns a cache that knows nothing and says so.
func newClaimCache() *claimCache {
	return &claimCache{byKey: map[string]claimRecords{}, stale: map[string]bool{}, touched: map[string]bool{}}
}

// get returns what is known of a key; ok is false when NetBox must be asked. That
// a key is not there counts as known too.
func (c *claimCache) get(key string) (recs claimRecords, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byKey[key], c.filled && !c.stale[key]
}

// put records what NetBox has for a key.
func (c *claimCache) put(key string, recs claimRecords) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.stale, key)
	c.store(key, recs)
}

// update changes what is known of a key, in one step.
func (c *claimCache) update(key string, change func(*claimRecords)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	recs := c.byKey[key]
	change(&recs)
	c.store(key, recs)
}

// store keeps what is known of a key; the caller holds mu. Changes while a list is
// under way are noted: the list may have been read before them.
func (c *claimCache) store(key string, recs claimRecords) {
	if c.lists > 0 {
		c.touched[key] = true
	}
	if recs.empty() {
		delete(c.byKey, key)
	} else {
		c.byKey[key] = recs
	}
}

// markStale makes the next get of a key ask NetBox.
func (c *claimCache) markStale(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stale[key] = true
	if c.lists > 0 {
		c.touched[key] = true
	}
}

// listing is called before a list of all records; the function it returns
// takes what the list brought, or nothing when it failed.
func (c *claimCache) listing() (done func(fresh map[string]claimRecords, ok bool)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lists++
	return func(fresh map[string]claimRecords, ok bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if ok {
			c.merge(fresh)
		}
		if c.lists--; c.lists == 0 {
			clear(c.touched)
		}
	}
}

// merge replaces what is known by a list, but for the keys that changed meanwhile;
// the caller holds mu. A key that was in doubt before the list began is not any
// more, and that is what ends the doubt about keys that nobody asks for.
func (c *claimCache) merge(fresh map[string]claimRecords) {
	for key := range c.touched {
		if recs, ok := c.byKey[key]; ok {
			fresh[key] = recs
		} else {
			delete(fresh, key)
		}
	}
	for key := range c.stale {
		if !c.touched[key] {
			delete(c.stale, key)
		}
	}
	c.byKey, c.filled = fresh, true
}

// all returns a copy of everything known.
func (c *claimCache) all() map[string]claimRecords {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.byKey)
}
