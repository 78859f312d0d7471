// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

import (
	"net/netip"
	"slices"
)

// space finds addresses by VRF and host, and remembers for each parent that
// addresses were claimed from how far it is known to be full.
type space struct {
	// hosts maps VRF id (0 = global table) and host to address ids, ascending.
	hosts map[int64]map[netip.Addr][]int64
	// full maps a parent to the host below which nothing is free.
	full map[parentKey]netip.Addr
}

// parentKey names a prefix or a range. Its model and bounds are part of it, so
// that a changed parent starts anew.
type parentKey struct {
	vrf         int64
	first, last netip.Addr
}

// newSpace returns one without addresses.
func newSpace() *space {
	return &space{hosts: map[int64]map[netip.Addr][]int64{}, full: map[parentKey]netip.Addr{}}
}

// taken are the addresses of a host in a VRF; there may be several.
func (p *space) taken(vrf int64, a netip.Addr) []int64 { return p.hosts[vrf][a] }

// add notes an address.
func (p *space) add(vrf int64, a netip.Addr, id int64) {
	if p.hosts[vrf] == nil {
		p.hosts[vrf] = map[netip.Addr][]int64{}
	}
	ids := p.hosts[vrf][a]
	i, _ := slices.BinarySearch(ids, id)
	p.hosts[vrf][a] = slices.Insert(slices.Clone(ids), i, id)
}

// remove forgets an address, and that its parents are full up to there.
func (p *space) remove(vrf int64, a netip.Addr, id int64) {
	ids := slices.DeleteFunc(slices.Clone(p.hosts[vrf][a]), func(x int64) bool { return x == id })
	if len(ids) > 0 {
		p.hosts[vrf][a] = ids
		return
	}
	delete(p.hosts[vrf], a)
	for k, below := range p.full {
		if k.vrf == vrf && a.Less(below) && !a.Less(k.first) {
			p.full[k] = a
		}
	}
}

// forget drops what is known about parents, for changes of prefixes and ranges.
func (p *space) forget() { clear(p.full) }

// start is the first host of a parent that may be free. It keeps claiming from a
// large prefix from walking over all that is taken, each time.
func (p *space) start(k parentKey) netip.Addr {
	if below, ok := p.full[k]; ok {
		return below
	}
	return k.first
}
