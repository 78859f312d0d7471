// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"sync"
	"time"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

const (
	// prefixTTL is how late a change of a prefix in NetBox is noticed.
	prefixTTL = 5 * time.Minute
	// absentTTL is how late a prefix that was created is noticed. It keeps a
	// backlog from asking for a missing prefix once per Service.
	absentTTL = 2 * time.Second
)

// prefixInfo is a prefix of a pool as NetBox has it.
type prefixInfo struct {
	id      int64
	prefix  netip.Prefix
	vrf     int64
	vrfName string
	isPool  bool
}

func (p prefixInfo) String() string {
	if p.vrfName == "" {
		return p.prefix.String()
	}
	return fmt.Sprintf("%s (VRF %s)", p.prefix, p.vrfName)
}

// capacity counts what NetBox hands out of a prefix: without network and
// broadcast address, or the subnet-router anycast address (RFC 4291 section
// 2.6.1), unless it is a pool.
func (p prefixInfo) capacity() int64 {
	host := p.prefix.Addr().BitLen() - p.prefix.Bits()
	if host >= 63 {
		return math.MaxInt64
	}
	n := int64(1) << host
	switch {
	case p.isPool || host <= 1:
		return n
	case p.prefix.Addr().Is4():
		return n - 2
	default:
		return n - 1
	}
}

// sourceBook remembers where in NetBox the addresses of pools come from.
type sourceBook struct {
	client *Client

	mu    sync.Mutex
	known map[v1alpha1.NetBoxPrefix]knownPrefix
}

type knownPrefix struct {
	info    prefixInfo
	problem string // without the pool and the path of the field
	field   string
	expires time.Time
}

func newSourceBook(client *Client) *sourceBook {
	return &sourceBook{client: client, known: map[v1alpha1.NetBoxPrefix]knownPrefix{}}
}

// find resolves the i-th prefix of a pool.
func (b *sourceBook) find(ctx context.Context, p ipam.Pool, i int) (prefixInfo, error) {
	want := p.Spec.NetBox.Prefixes[i]
	b.mu.Lock()
	known, ok := b.known[want]
	b.mu.Unlock()
	if !ok || time.Now().After(known.expires) {
		fresh, err := b.look(ctx, want)
		if err != nil {
			return prefixInfo{}, fmt.Errorf("pool %q: %w", p.Name, err)
		}
		known = fresh
		b.mu.Lock()
		b.known[want] = known
		b.mu.Unlock()
	}
	if known.problem != "" {
		return prefixInfo{}, &ipam.ConfigError{Problem: fmt.Sprintf("pool %q: %s spec.netbox.prefixes[%d].%s", p.Name, known.problem, i, known.field)}
	}
	return known.info, nil
}

// forget makes the next find ask NetBox.
func (b *sourceBook) forget(id int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for want, known := range b.known {
		if known.info.id == id {
			delete(b.known, want)
		}
	}
}

// look asks NetBox for a prefix. What a human must set right is not an error
// here but a problem, whose sentence ends before the name of the field.
func (b *sourceBook) look(ctx context.Context, want v1alpha1.NetBoxPrefix) (knownPrefix, error) {
	problem := func(field, format string, args ...any) (knownPrefix, error) {
		return knownPrefix{field: field, problem: fmt.Sprintf(format, args...), expires: time.Now().Add(absentTTL)}, nil
	}
	prefix, err := netip.ParsePrefix(want.Prefix)
	if err != nil {
		return problem("prefix", "%q is not a CIDR: correct", want.Prefix)
	}
	info := prefixInfo{prefix: prefix, vrfName: want.VRF}
	table := "the global table"
	if want.VRF != "" {
		table = fmt.Sprintf("VRF %q", want.VRF)
		vrfs, err := b.client.vrfs(ctx, want.VRF)
		switch {
		case err != nil:
			return knownPrefix{}, err
		case len(vrfs) == 0:
			return problem("vrf", "NetBox has no VRF %q: create it or correct", want.VRF)
		case len(vrfs) > 1:
			return problem("vrf", "NetBox has %d VRFs named %q: rename all but one or correct", len(vrfs), want.VRF)
		}
		info.vrf = vrfs[0].ID
	}
	found, err := b.client.prefixes(ctx, prefix, info.vrf)
	switch {
	case err != nil:
		return knownPrefix{}, err
	case len(found) == 0:
		return problem("prefix", "NetBox has no prefix %s in %s: create it or correct", want.Prefix, table)
	case len(found) > 1:
		return problem("prefix", "NetBox has prefix %s %d times in %s: delete all but one or correct", want.Prefix, len(found), table)
	case found[0].Status.Value == "container" || found[0].Status.Value == "deprecated":
		return problem("prefix", "prefix %s has status %s in NetBox, so no address may be taken from it: make it active or correct", want.Prefix, found[0].Status.Value)
	}
	info.id, info.isPool = found[0].ID, found[0].IsPool
	return knownPrefix{info: info, expires: time.Now().Add(prefixTTL)}, nil
}
