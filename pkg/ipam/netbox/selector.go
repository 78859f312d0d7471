// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/netbox"
)

// selected returns the prefixes and IP ranges that the selector of a pool
// finds, by their addresses.
func (b *sourceCache) selected(ctx context.Context, p ipam.Pool, maxAge time.Duration) ([]source, error) {
	const field = "spec.netbox.selector"
	sel := *p.Spec.NetBox.Selector
	b.mu.Lock()
	f := b.found[sel]
	if f == nil {
		f = newTTLCache(func(ctx context.Context) ([]source, error) { return b.askFor(ctx, sel) })
		b.found[sel] = f
	}
	b.mu.Unlock()
	sources, err := f.get(ctx, maxAge)
	if err != nil {
		return nil, inPool(err, p.Name, field)
	}
	out := slices.Clone(sources)
	for i := range out {
		out[i].field = field
		out[i] = out[i].avoiding(p.Spec.AvoidBuggyIPs)
	}
	return out, nil
}

// askFor asks NetBox for what a selector finds.
func (b *sourceCache) askFor(ctx context.Context, sel v1alpha1.NetBoxSelector) ([]source, error) {
	slugs := map[string]string{"tag": sel.Tag, "role": sel.Role, "tenant": sel.Tenant, "site": sel.Site}
	filter, err := b.filterOf(ctx, slugs, sel.VRF)
	if err != nil {
		return nil, err
	}
	prefixes, err := b.api.listPrefixes(ctx, "looking for the prefixes of a pool in NetBox", filter)
	if err != nil {
		return nil, explainSlug(err, slugs)
	}
	sources := prefixSources(prefixes)
	what := "prefix"
	if sel.Site == "" { // NetBox would ignore it: IP ranges have no site
		what = "prefix or IP range"
		ranges, err := b.api.listRanges(ctx, "looking for the IP ranges of a pool in NetBox", filter)
		if err != nil {
			return nil, explainSlug(err, slugs)
		}
		sources = append(sources, rangeSources(ranges)...)
	}
	if len(sources) == 0 {
		return nil, newSourceError("%s finds no %s in NetBox with %s: %s or correct it", fieldMark, what, described(sel), remedy(sel))
	}
	slices.SortFunc(sources, bySourceAddr)
	if x, y, shared := sharedAcrossVRFs(sources); shared {
		return nil, newSourceError("%s finds %s and %s, and one address must not be assigned twice: set %s.vrf", fieldMark, x, y, fieldMark)
	}
	return sources, nil
}

// filterOf makes the filter of a list; what is empty is left out.
func (b *sourceCache) filterOf(ctx context.Context, slugs map[string]string, vrf string) (url.Values, error) {
	filter := url.Values{}
	for name, slug := range slugs {
		if slug != "" {
			filter.Set(name, slug)
		}
	}
	if vrf != "" {
		id, err := b.vrf(ctx, vrf)
		if err != nil {
			return nil, err
		}
		filter.Set("vrf_id", vrfParam(id))
	}
	return filter, nil
}

// explainSlug makes a *sourceError of NetBox's word that something does not
// exist: it refuses a filter by a slug that nothing has. Other errors it returns
// as they are.
func explainSlug(err error, slugs map[string]string) error {
	if netbox.StatusOf(err) != http.StatusBadRequest || !netbox.AnswerSays(err, "Select a valid choice") {
		return err
	}
	for _, name := range []string{"tag", "role", "tenant", "site"} {
		if slugs[name] != "" && netbox.AnswerSays(err, `"`+name+`"`) {
			return newSourceError("NetBox has no %s %q: create it or correct %s.%s", name, slugs[name], fieldMark, name)
		}
	}
	return err
}

// described says what a selector wants, in the order of its fields.
func described(sel v1alpha1.NetBoxSelector) string {
	var parts []string
	for _, part := range []struct{ name, value string }{
		{"tag", sel.Tag}, {"role", sel.Role}, {"tenant", sel.Tenant}, {"site", sel.Site}, {"VRF", sel.VRF},
	} {
		if part.value != "" {
			parts = append(parts, fmt.Sprintf("%s %q", part.name, part.value))
		}
	}
	return strings.Join(parts, " and ")
}

// remedy says what to do in NetBox so that a selector finds something.
func remedy(sel v1alpha1.NetBoxSelector) string {
	if sel.Tag != "" && sel.Role == "" && sel.Tenant == "" && sel.Site == "" {
		return "tag one there"
	}
	return "give one these there"
}

// prefixSources leaves out what no address may be taken from: an engineer who
// tags a container means the prefixes in it.
func prefixSources(found []prefixObject) []source {
	var out []source
	for _, o := range found {
		prefix, err := netip.ParsePrefix(o.Prefix)
		if err != nil || o.closed() {
			continue
		}
		src := newPrefixSource(o.ID, prefix.Masked(), o.IsPool)
		src.vrf, src.vrfName = netbox.IDOf(o.VRF), netbox.NameOf(o.VRF)
		out = append(out, src)
	}
	return out
}

// rangeSources leaves out what no address may be taken from. A range that is
// marked populated has no free address by that mark (NetBox 4.3).
func rangeSources(found []rangeObject) []source {
	var out []source
	for _, o := range found {
		span, err := o.span()
		if err != nil || !span.IsValid() || o.closed() || o.MarkPopulated {
			continue
		}
		src := newRangeSource(o.ID, span)
		src.vrf, src.vrfName = netbox.IDOf(o.VRF), netbox.NameOf(o.VRF)
		out = append(out, src)
	}
	return out
}
