// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"maps"
	"net/netip"
	"strings"
	"sync"
)

// holding is what NetBox has for a claim key: the record of the key itself and
// that of its successor (see the package documentation). Both may be nil.
type holding struct {
	main, next *record
	// extra are further records of the key, which should not be.
	extra []record
}

// preferring returns the holding with the record of this address as the main
// one, where there are several. Otherwise the one with the lowest id counts.
func (h holding) preferring(addr netip.Addr) holding {
	for i, rec := range h.extra {
		if rec.addr == addr && h.main != nil && h.main.addr != addr {
			h.main = &h.extra[i]
			break
		}
	}
	return h
}

func (h holding) empty() bool { return h.main == nil && h.next == nil }

// current is the record that the Service's address is in.
func (h holding) current() *record {
	if h.main != nil {
		return h.main
	}
	return h.next
}

// claimTexts are the texts that the claim field of a key's records may hold.
func claimTexts(key string) []string { return []string{key, key + nextSuffix} }

// holdings sorts records, ascending by id, under their keys.
func holdings(records []record) map[string]holding {
	out := map[string]holding{}
	for i := range records {
		key, isNext := strings.CutSuffix(records[i].claim, nextSuffix)
		h := out[key]
		switch {
		case !isNext && h.main == nil:
			h.main = &records[i]
		case isNext && h.next == nil:
			h.next = &records[i]
		case !isNext:
			h.extra = append(h.extra, records[i])
		}
		out[key] = h
	}
	return out
}

// claimCache knows all claims of this cluster, once it was filled.
type claimCache struct {
	mu     sync.Mutex
	filled bool
	byKey  map[string]holding
	// unsure are the keys of which NetBox may have a record that is not here:
	// a request about them had no clear outcome.
	unsure map[string]bool
	// touched are the keys that changed while a list was under way, which knows
	// less of them than this cache does.
	touched map[string]bool
	lists   int
}

func newClaimCache() *claimCache {
	return &claimCache{byKey: map[string]holding{}, unsure: map[string]bool{}, touched: map[string]bool{}}
}

// get returns what is known of a key; ok is false when NetBox must be asked.
func (c *claimCache) get(key string) (h holding, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byKey[key], c.filled && !c.unsure[key]
}

// put records what NetBox has for a key.
func (c *claimCache) put(key string, h holding) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.unsure, key)
	c.store(key, h)
}

// update changes what is known of a key, in one step.
func (c *claimCache) update(key string, change func(*holding)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.byKey[key]
	change(&h)
	c.store(key, h)
}

func (c *claimCache) store(key string, h holding) {
	if c.lists > 0 {
		c.touched[key] = true
	}
	if h.empty() {
		delete(c.byKey, key)
	} else {
		c.byKey[key] = h
	}
}

// doubt makes the next get of a key ask NetBox.
func (c *claimCache) doubt(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unsure[key] = true
	if c.lists > 0 {
		c.touched[key] = true
	}
}

// listing is called before a list of all records; the function it returns
// takes what the list brought, or nothing when it failed.
func (c *claimCache) listing() (done func(fresh map[string]holding, ok bool)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lists++
	return func(fresh map[string]holding, ok bool) {
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

func (c *claimCache) merge(fresh map[string]holding) {
	for key := range c.touched {
		if h, ok := c.byKey[key]; ok {
			fresh[key] = h
		} else {
			delete(fresh, key)
		}
	}
	for key := range c.unsure {
		if !c.touched[key] {
			delete(c.unsure, key)
		}
	}
	c.byKey, c.filled = fresh, true
}

// all returns a copy of everything known.
func (c *claimCache) all() map[string]holding {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.byKey)
}
