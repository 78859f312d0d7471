// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package announce

import "hash/fnv"

// candidate is a node with its weight for one Service.
type candidate struct {
	weight uint64
	node   string
}

// better returns the heavier of two candidates; equal weights go by name, so
// that all nodes agree.
func (c candidate) better(o candidate) candidate {
	if c.node == "" || o.weight > c.weight || o.weight == c.weight && o.node < c.node {
		return o
	}
	return c
}

// weigh is the weight of a node for a key in rendezvous hashing. All agents
// must compute the same, also those of another version: a change of this
// function moves addresses while agents are being replaced.
func weigh(key, node string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(key))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(node))
	return mix(h.Sum64())
}

// mix spreads the last bytes written over all bits (the finalizer of
// splitmix64). FNV alone leaves names that differ at their end close together,
// and one node would then own nearly everything.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
