// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"go4.org/netipx"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

const (
	// namedTTL is how late a change of a prefix or an IP range that a pool names
	// is noticed.
	namedTTL = 5 * time.Minute
	// absentTTL is how late it is noticed that something missing was created. It
	// keeps a backlog from asking for it once per Service.
	absentTTL = 2 * time.Second
)

// sourceBook remembers where in NetBox the addresses of pools are.
type sourceBook struct {
	client  *Client
	cluster string

	mu     sync.Mutex
	known  map[place]knownSource
	finds  map[v1alpha1.NetBoxSelector]*knowledge[[]source]
	stocks map[v1alpha1.NetBoxReserved]*stock
}

func newSourceBook(client *Client, cluster string) *sourceBook {
	return &sourceBook{
		client: client, cluster: cluster, known: map[place]knownSource{},
		finds: map[v1alpha1.NetBoxSelector]*knowledge[[]source]{}, stocks: map[v1alpha1.NetBoxReserved]*stock{},
	}
}

// place names a prefix or an IP range as a pool does.
type place struct {
	kind      sourceKind
	text, vrf string
}

type knownSource struct {
	source  source
	problem *problem
	expires time.Time
}

// problem is what a human must set right in a pool or in NetBox: a sentence,
// whose last word is the field, below what the spec names a source by.
type problem struct{ sentence, field string }

// sourceError says that a pool has a source that does not work. To callers
// outside it is an *ipam.ConfigError.
type sourceError struct{ ipam.ConfigError }

func (e *sourceError) Unwrap() error { return &e.ConfigError }

func wrongSource(pool, format string, args ...any) *sourceError {
	return &sourceError{ipam.ConfigError{Problem: fmt.Sprintf("pool %q: %s", pool, fmt.Sprintf(format, args...))}}
}

// placesOf lists what a pool names, with the fields that name it.
func placesOf(p ipam.Pool) (places []place, fields []string) {
	for i, np := range p.Spec.NetBox.Prefixes {
		places = append(places, place{prefixSource, np.Prefix, np.VRF})
		fields = append(fields, fmt.Sprintf("spec.netbox.prefixes[%d]", i))
	}
	for i, nr := range p.Spec.NetBox.Ranges {
		places = append(places, place{rangeSource, nr.Range, nr.VRF})
		fields = append(fields, fmt.Sprintf("spec.netbox.ranges[%d]", i))
	}
	return places, fields
}

// find returns what a pool names in one of its fields.
func (b *sourceBook) find(ctx context.Context, p ipam.Pool, want place, field string) (source, error) {
	b.mu.Lock()
	known, ok := b.known[want]
	b.mu.Unlock()
	if !ok || time.Now().After(known.expires) {
		fresh, err := b.look(ctx, want)
		if err != nil {
			return source{}, fmt.Errorf("pool %q: %w", p.Name, err)
		}
		known = fresh
		b.mu.Lock()
		b.known[want] = known
		b.mu.Unlock()
	}
	if known.problem != nil {
		return source{}, wrongSource(p.Name, "%s %s.%s", known.problem.sentence, field, known.problem.field)
	}
	known.source.field = field
	return known.source.avoidingBuggy(p.Spec.AvoidBuggyIPs), nil
}

// forget makes the next look at a source ask NetBox.
func (b *sourceBook) forget(src source) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for want, known := range b.known {
		if known.source.kind == src.kind && known.source.id == src.id {
			delete(b.known, want)
		}
	}
	for _, f := range b.finds {
		f.expire()
	}
}

// look asks NetBox for a prefix or an IP range.
func (b *sourceBook) look(ctx context.Context, want place) (knownSource, error) {
	vrf, wrong, err := b.vrf(ctx, want.vrf)
	if err != nil {
		return knownSource{}, err
	}
	var src source
	if wrong == nil && want.kind == prefixSource {
		src, wrong, err = b.lookPrefix(ctx, want, vrf)
	} else if wrong == nil {
		src, wrong, err = b.lookRange(ctx, want, vrf)
	}
	switch {
	case err != nil:
		return knownSource{}, err
	case wrong != nil:
		return knownSource{problem: wrong, expires: time.Now().Add(absentTTL)}, nil
	}
	src.vrf, src.vrfName = vrf, want.vrf
	return knownSource{source: src, expires: time.Now().Add(namedTTL)}, nil
}

// vrf finds a VRF by its name; the global table has none.
func (b *sourceBook) vrf(ctx context.Context, name string) (id int64, wrong *problem, err error) {
	if name == "" {
		return 0, nil, nil
	}
	vrfs, err := b.client.vrfs(ctx, name)
	switch {
	case err != nil:
		return 0, nil, err
	case len(vrfs) == 0:
		return 0, &problem{fmt.Sprintf("NetBox has no VRF %q: create it or correct", name), "vrf"}, nil
	case len(vrfs) > 1:
		return 0, &problem{fmt.Sprintf("NetBox has %d VRFs named %q: rename all but one or correct", len(vrfs), name), "vrf"}, nil
	}
	return vrfs[0].ID, nil, nil
}

// table names a VRF in a sentence.
func table(vrf string) string {
	if vrf == "" {
		return "the global table"
	}
	return fmt.Sprintf("VRF %q", vrf)
}

func (b *sourceBook) lookPrefix(ctx context.Context, want place, vrf int64) (source, *problem, error) {
	wrong := func(format string, args ...any) (source, *problem, error) {
		return source{}, &problem{fmt.Sprintf(format, args...), "prefix"}, nil
	}
	prefix, err := netip.ParsePrefix(want.text)
	if err != nil {
		return wrong("%q is not a CIDR: correct", want.text)
	}
	found, err := b.client.prefixes(ctx, prefix, vrf)
	switch {
	case err != nil:
		return source{}, nil, err
	case len(found) == 0:
		return wrong("NetBox has no prefix %s in %s: create it or correct", want.text, table(want.vrf))
	case len(found) > 1:
		return wrong("NetBox has prefix %s %d times in %s: delete all but one or correct", want.text, len(found), table(want.vrf))
	case found[0].closed():
		return wrong("prefix %s has status %s in NetBox, so no address may be taken from it: make it active or correct", want.text, found[0].Status.Value)
	}
	return newPrefixSource(found[0].ID, prefix, found[0].IsPool), nil, nil
}

func (b *sourceBook) lookRange(ctx context.Context, want place, vrf int64) (source, *problem, error) {
	wrong := func(format string, args ...any) (source, *problem, error) {
		return source{}, &problem{fmt.Sprintf(format, args...), "range"}, nil
	}
	r, err := ipam.ParseRange(want.text)
	if err != nil || !strings.Contains(want.text, "-") {
		return wrong("%q is not a range like 192.0.2.10-192.0.2.20: correct", want.text)
	}
	found, err := b.client.ipRanges(ctx, r, vrf)
	switch {
	case err != nil:
		return source{}, nil, err
	case len(found) == 0:
		return wrong("NetBox has no IP range %s in %s: create it or correct", want.text, table(want.vrf))
	case len(found) > 1:
		return wrong("NetBox has IP range %s %d times in %s: delete all but one or correct", want.text, len(found), table(want.vrf))
	case found[0].MarkPopulated:
		return wrong("IP range %s is marked populated in NetBox, so it has no free address: clear the mark or correct", want.text)
	case found[0].closed():
		return wrong("IP range %s has status %s in NetBox, so no address may be taken from it: make it active or correct", want.text, found[0].Status.Value)
	}
	return newRangeSource(found[0].ID, netipx.IPRangeFrom(r.From(), r.To())), nil, nil
}
