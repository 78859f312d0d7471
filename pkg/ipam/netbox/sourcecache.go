// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"errors"
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
	// foundTTL is how late it is noticed that a selector finds something else.
	foundTTL = 30 * time.Second
	// absentTTL is how late it is noticed that something missing was created. It
	// keeps a backlog from asking for it once per Service.
	absentTTL = 2 * time.Second
)

// sourceCache remembers where in NetBox the addresses of pools are. Nothing is
// ever removed from its maps: they hold what pools have named since the start,
// which is little.
type sourceCache struct {
	api     api
	cluster string

	mu       sync.Mutex
	named    map[namedNetwork]*namedSource
	found    map[v1alpha1.NetBoxSelector]*ttlCache[[]source]
	reserved map[v1alpha1.NetBoxReserved]*reservedPool
}

// newSourceCache returns a cache for the pools of a cluster.
func newSourceCache(c api, cluster string) *sourceCache {
	return &sourceCache{
		api: c, cluster: cluster, named: map[namedNetwork]*namedSource{},
		found: map[v1alpha1.NetBoxSelector]*ttlCache[[]source]{}, reserved: map[v1alpha1.NetBoxReserved]*reservedPool{},
	}
}

// sourceError says that a pool has a source that does not work, until somebody
// corrects the pool or NetBox. Outside it is an *ipam.ConfigError.
//
// While it is in a cache, fieldMark stands for the field that names the source:
// several pools may have it, each in a field of its own.
type sourceError struct{ ipam.ConfigError }

// Unwrap returns the error as others know it.
func (e *sourceError) Unwrap() error { return &e.ConfigError }

// fieldMark stands for the path of a field in the sentence of a sourceError.
const fieldMark = "\x00"

// newSourceError takes a whole sentence, with the fix.
func newSourceError(format string, args ...any) *sourceError {
	return &sourceError{ipam.ConfigError{Problem: fmt.Sprintf(format, args...)}}
}

// inPool is the error of a source as that of a pool with the source in a field.
func inPool(err error, pool, field string) error {
	var wrong *sourceError
	if errors.As(err, &wrong) {
		return newSourceError("pool %q: %s", pool, strings.ReplaceAll(wrong.Problem, fieldMark, field))
	}
	return fmt.Errorf("pool %q: %w", pool, err)
}

// namedNetwork is a prefix or an IP range as a pool names it.
type namedNetwork struct {
	kind      sourceKind
	text, vrf string
}

// namedSource is what is known of a namedNetwork.
type namedSource struct {
	namedNetwork
	// addrs are the addresses that the text names, and prefix those of a prefix;
	// with an error they are not valid.
	addrs   netipx.IPRange
	prefix  netip.Prefix
	invalid error
	cache   *ttlCache[source]
}

// networksOf lists what a pool names, with the fields that name it.
func networksOf(p ipam.Pool) (networks []namedNetwork, fields []string) {
	for i, np := range p.Spec.NetBox.Prefixes {
		networks = append(networks, namedNetwork{prefixSource, np.Prefix, np.VRF})
		fields = append(fields, fmt.Sprintf("spec.netbox.prefixes[%d]", i))
	}
	for i, nr := range p.Spec.NetBox.Ranges {
		networks = append(networks, namedNetwork{rangeSource, nr.Range, nr.VRF})
		fields = append(fields, fmt.Sprintf("spec.netbox.ranges[%d]", i))
	}
	return networks, fields
}

// entry returns what is known of a network. Its text is parsed once: pools are
// gone through for every Service.
func (b *sourceCache) entry(want namedNetwork) *namedSource {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.named[want]
	if n == nil {
		n = &namedSource{namedNetwork: want}
		n.addrs, n.invalid = ipam.ParseRange(want.text)
		n.prefix, _ = netip.ParsePrefix(want.text)
		n.cache = newTTLCache(func(ctx context.Context) (source, error) { return b.look(ctx, n) })
		b.named[want] = n
	}
	return n
}

// find returns what a pool names in one of its fields.
func (b *sourceCache) find(ctx context.Context, p ipam.Pool, want namedNetwork, field string) (source, error) {
	src, err := b.entry(want).cache.get(ctx, namedTTL)
	if err != nil {
		return source{}, inPool(err, p.Name, field)
	}
	src.field = field
	return src.avoiding(p.Spec.AvoidBuggyIPs), nil
}

// forget makes the next look at a source ask NetBox: a claim has found it gone.
// What selectors have found may hold it too.
func (b *sourceCache) forget(src source) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range b.named {
		if known := n.cache.peek(); known.kind == src.kind && known.id == src.id {
			n.cache.invalidate()
		}
	}
	for _, f := range b.found {
		f.invalidate()
	}
}

// look asks NetBox for a prefix or an IP range.
func (b *sourceCache) look(ctx context.Context, n *namedSource) (source, error) {
	vrf, err := b.vrf(ctx, n.vrf)
	if err != nil {
		return source{}, err
	}
	var src source
	if n.kind == prefixSource {
		src, err = b.lookPrefix(ctx, n, vrf)
	} else {
		src, err = b.lookRange(ctx, n, vrf)
	}
	src.vrf, src.vrfName = vrf, n.vrf
	return src, err
}

// vrf finds a VRF by its name; the global table has none.
func (b *sourceCache) vrf(ctx context.Context, name string) (id int64, err error) {
	if name == "" {
		return 0, nil
	}
	vrfs, err := b.api.vrfs(ctx, name)
	switch {
	case err != nil:
		return 0, err
	case len(vrfs) == 0:
		return 0, newSourceError("NetBox has no VRF %q: create it or correct %s.vrf", name, fieldMark)
	case len(vrfs) > 1:
		return 0, newSourceError("NetBox has %d VRFs named %q: rename all but one or correct %s.vrf", len(vrfs), name, fieldMark)
	}
	return vrfs[0].ID, nil
}

// table names a VRF in a sentence.
func table(vrf string) string {
	if vrf == "" {
		return "the global table"
	}
	return fmt.Sprintf("VRF %q", vrf)
}

// lookPrefix asks NetBox for a prefix. Each reason for which claims would fail in it
// is an error here, where the field is known.
func (b *sourceCache) lookPrefix(ctx context.Context, n *namedSource, vrf int64) (source, error) {
	const field = fieldMark + ".prefix"
	if !n.prefix.IsValid() {
		return source{}, newSourceError("%q is not a CIDR: correct %s", n.text, field)
	}
	found, err := b.api.prefixes(ctx, n.prefix, vrf)
	switch {
	case err != nil:
		return source{}, err
	case len(found) == 0:
		return source{}, newSourceError("NetBox has no prefix %s in %s: create it or correct %s", n.text, table(n.vrf), field)
	case len(found) > 1:
		return source{}, newSourceError("NetBox has prefix %s %d times in %s: delete all but one or correct %s", n.text, len(found), table(n.vrf), field)
	case found[0].closed():
		return source{}, newSourceError("prefix %s has status %s in NetBox, so no address may be taken from it: make it active or correct %s", n.text, found[0].Status.Value, field)
	}
	return newPrefixSource(found[0].ID, n.prefix, found[0].IsPool), nil
}

// lookRange asks NetBox for an IP range, like lookPrefix.
func (b *sourceCache) lookRange(ctx context.Context, n *namedSource, vrf int64) (source, error) {
	const field = fieldMark + ".range"
	if n.invalid != nil || !strings.Contains(n.text, "-") {
		return source{}, newSourceError("%q is not a range like 192.0.2.10-192.0.2.20: correct %s", n.text, field)
	}
	found, err := b.api.ipRanges(ctx, n.addrs, vrf)
	switch {
	case err != nil:
		return source{}, err
	case len(found) == 0:
		return source{}, newSourceError("NetBox has no IP range %s in %s: create it or correct %s", n.text, table(n.vrf), field)
	case len(found) > 1:
		return source{}, newSourceError("NetBox has IP range %s %d times in %s: delete all but one or correct %s", n.text, len(found), table(n.vrf), field)
	case found[0].MarkPopulated:
		return source{}, newSourceError("IP range %s is marked populated in NetBox, so it has no free address: clear the mark or correct %s", n.text, field)
	case found[0].closed():
		return source{}, newSourceError("IP range %s has status %s in NetBox, so no address may be taken from it: make it active or correct %s", n.text, found[0].Status.Value, field)
	}
	return newRangeSource(found[0].ID, n.addrs), nil
}
