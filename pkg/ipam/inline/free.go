// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package inline

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// number is an address as a number; IPv4 addresses are in lo alone.
type number struct{ hi, lo uint64 }

func numberOf(a netip.Addr) number {
	if a.Is4() {
		b := a.As4()
		return number{lo: uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := a.As16()
	return number{hi: binary.BigEndian.Uint64(b[:8]), lo: binary.BigEndian.Uint64(b[8:])}
}

func (n number) addr(is4 bool) netip.Addr {
	if is4 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(n.lo)) //nolint:gosec // an IPv4 number has 32 bits
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], n.hi)
	binary.BigEndian.PutUint64(b[8:], n.lo)
	return netip.AddrFrom16(b)
}

func (n number) less(o number) bool { return n.hi < o.hi || n.hi == o.hi && n.lo < o.lo }

// word is the number of the 64-bit word that holds bit n.
func (n number) word() number { return number{hi: n.hi >> 6, lo: n.lo>>6 | n.hi<<58} }

// bit is the number of bit b of word n.
func (n number) bit(b int) number {
	return number{hi: n.hi<<6 | n.lo>>58, lo: n.lo<<6 | uint64(b)} //nolint:gosec // b is 0 to 63
}

// next is the number after n; ok is false for the last one of all.
func (n number) next() (number, bool) {
	lo, carry := bits.Add64(n.lo, 1, 0)
	hi, overflow := bits.Add64(n.hi, 0, carry)
	return number{hi: hi, lo: lo}, overflow == 0
}

// full is a word of which every bit is set.
const full = ^uint64(0)

// levels is how often 64 words are summed up in one bit above. With four, a
// run of 16 million used addresses is passed over in a few steps.
const levels = 4

// usedSet is a sparse set of the used addresses of one family. Bit n of level 0
// is address n; bit n of a higher level tells that word n below is full. So the
// lowest free address is found without walking over the used ones, and memory
// goes with the used addresses only, also in an IPv6 /64.
type usedSet [levels]map[number]uint64

func newUsedSet() *usedSet {
	s := &usedSet{}
	for i := range s {
		s[i] = map[number]uint64{}
	}
	return s
}

// add puts a number into the set. Only a word that it fills is noted a level
// above.
func (s *usedSet) add(n number) {
	for _, level := range s {
		w := n.word()
		level[w] |= 1 << (n.lo & 63)
		if level[w] != full {
			return
		}
		n = w
	}
}

// remove takes a number out of the set, and empty words out of memory.
func (s *usedSet) remove(n number) {
	for _, level := range s {
		w := n.word()
		before := level[w]
		after := before &^ (1 << (n.lo & 63))
		if after == 0 {
			delete(level, w)
		} else {
			level[w] = after
		}
		if before != full {
			return
		}
		n = w
	}
}

// free returns the lowest number at or above n that is not in the set; ok is
// false if there is none.
func (s *usedSet) free(n number) (_ number, ok bool) { return s.freeAt(0, n) }

// freeAt is free on a level: there, a number that is not in the set is a word
// below that has room.
func (s *usedSet) freeAt(level int, n number) (number, bool) {
	for {
		w := n.word()
		if gaps := ^s[level][w] & (full << (n.lo & 63)); gaps != 0 {
			return w.bit(bits.TrailingZeros64(gaps)), true
		}
		next, ok := w.next()
		if ok && level+1 < levels {
			next, ok = s.freeAt(level+1, next)
		}
		// The last word of the address space has no next one: the number of
		// the word after it does not fit into 128 bits any more.
		if !ok || next.hi>>58 != 0 {
			return number{}, false
		}
		n = next.bit(0)
	}
}
