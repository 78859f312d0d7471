// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// sourceKind is what NetBox has the addresses of a pool in.
type sourceKind int

const (
	prefixSource sourceKind = iota
	rangeSource
	// reservedSource is one reserved address, see reserved.go.
	reservedSource
)

// String is what NetBox calls the kind.
func (k sourceKind) String() string {
	switch k {
	case prefixSource:
		return "prefix"
	case rangeSource:
		return "IP range"
	default:
		return "reserved address"
	}
}

// source is a prefix, an IP range or a reserved address of a pool, as NetBox
// has it.
type source struct {
	kind sourceKind
	id   int64
	// all are its addresses, usable those of them that NetBox hands out.
	all, usable netipx.IPRange
	vrf         int64 // 0 is the global table
	vrfName     string
	// field is where the pool's spec names or finds it.
	field string
	// avoidZeroAnd255 leaves out addresses that end in .0 or .255, of which it
	// has some. NetBox cannot do that, so it costs two more requests.
	avoidZeroAnd255 bool
	// reserved is where a reserved address comes from, for pool.
	reserved *reservedPool
	pool     string
}

// sourceKey tells the sources of one NetBox apart. The VRF is part of it because
// it may change.
type sourceKey struct {
	kind            sourceKind
	id, vrf         int64
	avoidZeroAnd255 bool
}

// key identifies the source among those of this process.
func (s source) key() sourceKey { return sourceKey{s.kind, s.id, s.vrf, s.avoidZeroAnd255} }

// family is the IP family of the source.
func (s source) family() ipam.Family { return ipam.FamilyOf(s.all.From()) }

// String names the source as an engineer finds it in NetBox.
func (s source) String() string {
	text := s.all.String()
	if p, ok := s.all.Prefix(); ok && s.kind == prefixSource {
		text = p.String()
	}
	if s.vrfName == "" {
		return text
	}
	return fmt.Sprintf("%s (VRF %s)", text, s.vrfName)
}

// avoiding returns the source for a pool with or without avoidBuggyIPs. A source
// without such addresses stays as it is, and fast.
func (s source) avoiding(avoid bool) source {
	s.avoidZeroAnd255 = avoid && ipam.CountBuggy(s.usable) > 0
	return s
}

// newPrefixSource describes a prefix. NetBox hands out all of it but network
// and broadcast address, or the subnet-router anycast address (RFC 4291 section
// 2.6.1), unless it is a pool.
func newPrefixSource(id int64, p netip.Prefix, isPool bool) source {
	all := netipx.RangeOfPrefix(p)
	first, last := all.From(), all.To()
	if !isPool && p.Addr().BitLen()-p.Bits() > 1 {
		first = first.Next()
		if p.Addr().Is4() {
			last = last.Prev()
		}
	}
	return source{kind: prefixSource, id: id, all: all, usable: netipx.IPRangeFrom(first, last)}
}

// newRangeSource describes an IP range, all of which NetBox hands out.
func newRangeSource(id int64, r netipx.IPRange) source {
	return source{kind: rangeSource, id: id, all: r, usable: r}
}

// bySourceAddr sorts by addresses, and by id where those are equal: the order in
// which sources are tried must not change from one list to the next.
func bySourceAddr(x, y source) int {
	return cmp.Or(x.all.From().Compare(y.all.From()), x.all.To().Compare(y.all.To()), cmp.Compare(x.kind, y.kind), cmp.Compare(x.id, y.id))
}

// usableRanges are what NetBox hands out of sources.
func usableRanges(sources []source) []netipx.IPRange {
	out := make([]netipx.IPRange, len(sources))
	for i, s := range sources {
		out[i] = s.usable
	}
	return out
}

// ofFamily returns the sources of a family.
func ofFamily(sources []source, f ipam.Family) []source {
	return slices.DeleteFunc(slices.Clone(sources), func(s source) bool { return s.family() != f })
}

// sharedAcrossVRFs finds two sources in different VRFs that have an address in
// common. NetBox would hand it out twice: to it they are two addresses, while
// the routers of the cluster know one.
func sharedAcrossVRFs(sources []source) (x, y source, found bool) {
	if len(sources) == 0 || !slices.ContainsFunc(sources, func(s source) bool { return s.vrf != sources[0].vrf }) {
		return source{}, source{}, false
	}
	sorted := slices.SortedFunc(slices.Values(sources), bySourceAddr)
	for i, s := range sorted {
		for _, other := range sorted[i+1:] {
			if s.all.To().Less(other.all.From()) {
				break
			}
			if s.vrf != other.vrf {
				return s, other, true
			}
		}
	}
	return source{}, source{}, false
}
