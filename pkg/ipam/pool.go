// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
)

// Pool is what a store of claims needs of an AddressPool.
type Pool struct {
	Name string
	Spec v1alpha1.AddressPoolSpec
	// named are the addresses that the spec names, parsed once by NewPool; nil in
	// a Pool that was made otherwise, which parses them at each use.
	named *namedRanges
	// Found are the addresses that the spec describes without naming them; a
	// Allocator's Resolve fills it.
	Found []netipx.IPRange
	// Problem is why Found could not be filled; Ranges returns it.
	Problem error
}

// namedRanges are the addresses that a spec names, or what is wrong with them.
type namedRanges struct {
	ranges []netipx.IPRange
	err    error
}

// NewPool returns the pool of an AddressPool. Its addresses are parsed once,
// however often they are asked for: each claim looks at each pool of its class.
// The spec must not be changed afterwards.
func NewPool(obj *v1alpha1.AddressPool) Pool {
	p := Pool{Name: obj.Name, Spec: obj.Spec}
	p.named = p.parse()
	return p
}

// NetBox reports whether NetBox keeps the claims of this pool.
func (p Pool) NetBox() bool { return p.Spec.NetBox != nil }

// Dynamic reports whether the spec describes addresses in NetBox without naming
// them, so that Resolve has to find out which they are.
func (p Pool) Dynamic() bool {
	return p.NetBox() && (p.Spec.NetBox.Selector != nil || p.Spec.NetBox.Reserved != nil)
}

// Ranges returns the addresses of the pool in the order in which they are
// tried: those that the spec names, then Found. Where the spec names none and
// Found is not known, the error is Problem. An error is a sentence that names
// the pool and the field.
func (p Pool) Ranges() ([]netipx.IPRange, error) {
	named := p.named
	if named == nil {
		named = p.parse()
	}
	switch {
	case named.err != nil:
		return nil, named.err
	case len(p.Found) == 0 && len(named.ranges) > 0:
		return named.ranges, nil
	case len(p.Found)+len(named.ranges) > 0:
		return slices.Concat(named.ranges, p.Found), nil
	case p.Problem != nil:
		return nil, p.Problem
	case p.Spec.NetBox.Reserved != nil:
		return nil, p.invalid("spec.netbox.reserved", "NetBox has not been asked for these addresses yet")
	case p.Spec.NetBox.Selector != nil:
		return nil, p.invalid("spec.netbox.selector", "NetBox has not been asked for these prefixes yet")
	default:
		return nil, p.invalid("spec.netbox", "is empty: set prefixes, ranges, selector or reserved")
	}
}

// parse reads the addresses that the spec names.
func (p Pool) parse() *namedRanges {
	if p.NetBox() {
		ranges, err := p.parseNetBox()
		return &namedRanges{ranges, err}
	}
	if len(p.Spec.Addresses) == 0 {
		return &namedRanges{err: p.invalid("spec", "has neither netbox nor addresses: set one of them")}
	}
	out := make([]netipx.IPRange, 0, len(p.Spec.Addresses))
	for i, s := range p.Spec.Addresses {
		r, err := ParseRange(s)
		if err != nil {
			return &namedRanges{err: p.invalid(fmt.Sprintf("spec.addresses[%d]", i), err.Error())}
		}
		out = append(out, r)
	}
	return &namedRanges{ranges: out}
}

func (p Pool) parseNetBox() ([]netipx.IPRange, error) {
	src := p.Spec.NetBox
	out := make([]netipx.IPRange, 0, len(src.Prefixes)+len(src.Ranges))
	for i, np := range src.Prefixes {
		prefix, err := netip.ParsePrefix(np.Prefix)
		if err != nil {
			return nil, p.invalid(fmt.Sprintf("spec.netbox.prefixes[%d].prefix", i),
				fmt.Sprintf("%q is not a CIDR: write it as it stands in NetBox, for example 203.0.113.0/24", np.Prefix))
		}
		out = append(out, netipx.RangeOfPrefix(prefix))
	}
	for i, nr := range src.Ranges {
		first, last, _ := strings.Cut(nr.Range, "-")
		r, err := parseEnds(nr.Range, first, last)
		if err != nil {
			return nil, p.invalid(fmt.Sprintf("spec.netbox.ranges[%d].range", i), err.Error())
		}
		out = append(out, r)
	}
	return out, nil
}

func (p Pool) invalid(field, problem string) error {
	return &ConfigError{Problem: fmt.Sprintf("pool %q: %s: %s", p.Name, field, problem)}
}

// Has reports whether the pool has addresses of a family. A pool with invalid
// content has none.
func (p Pool) Has(f Family) bool {
	ranges, err := p.Ranges()
	if err != nil {
		return false
	}
	for _, r := range ranges {
		if FamilyOf(r.From()) == f {
			return true
		}
	}
	return false
}

// Contains reports whether an address lies in the pool.
func (p Pool) Contains(a netip.Addr) bool {
	ranges, err := p.Ranges()
	if err != nil {
		return false
	}
	for _, r := range ranges {
		if r.Contains(a.Unmap()) {
			return true
		}
	}
	return false
}

// Buggy reports whether an address is one that avoidBuggyIPs leaves out: an IPv4
// address that ends in .0 or .255.
func Buggy(a netip.Addr) bool {
	a = a.Unmap()
	return a.Is4() && (a.As4()[3] == 0 || a.As4()[3] == 255)
}

// Count counts the addresses of a family, each once where ranges overlap, up to
// 2^63-1. With avoidBuggy those that Buggy names do not count.
func Count(ranges []netipx.IPRange, f Family, avoidBuggy bool) int64 {
	var b netipx.IPSetBuilder
	for _, r := range ranges {
		if FamilyOf(r.From()) == f {
			b.AddRange(r)
		}
	}
	set, err := b.IPSet()
	if err != nil {
		return 0
	}
	total := new(big.Int)
	for _, r := range set.Ranges() {
		from, to := new(big.Int).SetBytes(r.From().AsSlice()), new(big.Int).SetBytes(r.To().AsSlice())
		total.Add(total, to.Sub(to, from).Add(to, big.NewInt(1)))
		if avoidBuggy {
			total.Sub(total, big.NewInt(CountBuggy(r)))
		}
	}
	if !total.IsInt64() {
		return math.MaxInt64
	}
	return total.Int64()
}

// CountBuggy counts the addresses of a range that Buggy names.
func CountBuggy(r netipx.IPRange) int64 {
	if !r.From().Is4() {
		return 0
	}
	first, last := r.From().As4(), r.To().As4()
	lo, hi := int64(binary.BigEndian.Uint32(first[:])), int64(binary.BigEndian.Uint32(last[:]))
	endsIn := func(octet int64) int64 {
		upTo := func(n int64) int64 { return (n - octet + 256) >> 8 } // of 0 to n, also for n = -1
		return upTo(hi) - upTo(lo-1)
	}
	return endsIn(0) + endsIn(255)
}

// AddressSet returns the addresses of some pools. A pool that is invalid, or whose
// addresses are not known, adds none: what is wrong with it is said elsewhere.
func AddressSet(pools []Pool) *netipx.IPSet {
	var b netipx.IPSetBuilder
	for _, p := range pools {
		ranges, err := p.Ranges()
		if err != nil {
			continue
		}
		for _, r := range ranges {
			b.AddRange(r)
		}
	}
	set, err := b.IPSet()
	if err != nil {
		return &netipx.IPSet{} // the builder fails on invalid ranges alone, which Ranges does not return
	}
	return set
}

// PoolOf returns the name of the first pool that holds an address, or "".
func PoolOf(a netip.Addr, pools []Pool) string {
	for _, p := range pools {
		if p.Contains(a) {
			return p.Name
		}
	}
	return ""
}

// ParseRange reads a CIDR or a range "first-last" with both ends included.
// Every address of a CIDR counts, also the first and the last.
func ParseRange(s string) (netipx.IPRange, error) {
	if first, last, ok := strings.Cut(s, "-"); ok {
		return parseEnds(s, first, last)
	}
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		return netipx.IPRange{}, fmt.Errorf("%q is neither a CIDR (192.0.2.0/28) nor a range (192.0.2.10-192.0.2.20)", s)
	}
	if prefix.Addr().Is4In6() {
		return netipx.IPRange{}, fmt.Errorf("%q is an IPv4-mapped IPv6 prefix: write it as IPv4", s)
	}
	return netipx.RangeOfPrefix(prefix), nil
}

func parseEnds(s, first, last string) (netipx.IPRange, error) {
	from, err := netip.ParseAddr(first)
	if err != nil {
		return netipx.IPRange{}, fmt.Errorf("%q: %q is not an IP address", s, first)
	}
	to, err := netip.ParseAddr(last)
	if err != nil {
		return netipx.IPRange{}, fmt.Errorf("%q: %q is not an IP address", s, last)
	}
	if from.Zone() != "" || to.Zone() != "" {
		return netipx.IPRange{}, fmt.Errorf("%q: addresses with a zone cannot be assigned", s)
	}
	from, to = from.Unmap(), to.Unmap()
	if from.Is4() != to.Is4() {
		return netipx.IPRange{}, fmt.Errorf("%q: both ends must be of one IP family", s)
	}
	if to.Less(from) {
		return netipx.IPRange{}, fmt.Errorf("%q: the first address lies behind the last: swap them", s)
	}
	return netipx.IPRangeFrom(from, to), nil
}
