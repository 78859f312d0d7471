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
)

// foundTTL is how late it is noticed that a selector finds something else.
const foundTTL = 30 * time.Second

// found returns the prefixes and IP ranges that the selector of a pool finds,
// by their addresses.
func (b *sourceBook) found(ctx context.Context, p ipam.Pool, maxAge time.Duration) ([]source, error) {
	sel := *p.Spec.NetBox.Selector
	b.mu.Lock()
	f := b.finds[sel]
	if f == nil {
		f = newKnowledge(func(ctx context.Context) ([]source, *problem, error) { return b.askFor(ctx, sel) })
		b.finds[sel] = f
	}
	b.mu.Unlock()
	sources, wrong, err := f.now(ctx, maxAge)
	if err != nil {
		return nil, fmt.Errorf("pool %q: %w", p.Name, err)
	}
	if wrong != nil {
		return nil, wrongSource(p.Name, "%s", withField(wrong.sentence, "spec.netbox.selector"))
	}
	out := slices.Clone(sources)
	for i := range out {
		out[i] = out[i].avoidingBuggy(p.Spec.AvoidBuggyIPs)
	}
	return out, nil
}

// fieldMark stands for the path of a field in the sentence of a problem.
const fieldMark = "\x00"

func withField(sentence, field string) string { return strings.ReplaceAll(sentence, fieldMark, field) }

// askFor asks NetBox for what a selector finds.
func (b *sourceBook) askFor(ctx context.Context, sel v1alpha1.NetBoxSelector) ([]source, *problem, error) {
	slugs := map[string]string{"tag": sel.Tag, "role": sel.Role, "tenant": sel.Tenant, "site": sel.Site}
	filter, wrong, err := b.filterOf(ctx, slugs, sel.VRF)
	if wrong != nil || err != nil {
		return nil, wrong, err
	}
	prefixes, err := b.client.listPrefixes(ctx, "looking for the prefixes of a pool in NetBox", filter)
	if err != nil {
		return nil, unknownSlug(err, slugs), unlessSlug(err, slugs)
	}
	sources := prefixSources(prefixes)
	what := "prefix"
	if sel.Site == "" { // NetBox would ignore it: IP ranges have no site
		what = "prefix or IP range"
		ranges, err := b.client.listRanges(ctx, "looking for the IP ranges of a pool in NetBox", filter)
		if err != nil {
			return nil, unknownSlug(err, slugs), unlessSlug(err, slugs)
		}
		sources = append(sources, rangeSources(ranges)...)
	}
	if len(sources) == 0 {
		return nil, &problem{sentence: fmt.Sprintf("%s finds no %s in NetBox with %s: %s or correct it", fieldMark, what, described(sel), remedy(sel))}, nil
	}
	slices.SortFunc(sources, bySourceAddr)
	if x, y, shared := sharedAcrossVRFs(sources); shared {
		return nil, &problem{sentence: fmt.Sprintf("%s finds %s and %s, and one address must not be assigned twice: set %s.vrf", fieldMark, x, y, fieldMark)}, nil
	}
	return sources, nil, nil
}

// filterOf makes the filter of a list; what is empty is left out.
func (b *sourceBook) filterOf(ctx context.Context, slugs map[string]string, vrf string) (url.Values, *problem, error) {
	filter := url.Values{}
	for name, slug := range slugs {
		if slug != "" {
			filter.Set(name, slug)
		}
	}
	if vrf == "" {
		return filter, nil, nil
	}
	id, wrong, err := b.vrf(ctx, vrf)
	if err != nil {
		return nil, nil, err
	}
	if wrong != nil {
		return nil, &problem{sentence: wrong.sentence + " " + fieldMark + ".vrf"}, nil
	}
	filter.Set("vrf_id", vrfParam(id))
	return filter, nil, nil
}

// unknownSlug makes a problem of NetBox's word that something does not exist.
func unknownSlug(err error, slugs map[string]string) *problem {
	if status(err) != http.StatusBadRequest || !bodySays(err, "Select a valid choice") {
		return nil
	}
	for _, name := range []string{"tag", "role", "tenant", "site"} {
		if slugs[name] != "" && bodySays(err, `"`+name+`"`) {
			return &problem{sentence: fmt.Sprintf("NetBox has no %s %q: create it or correct %s.%s", name, slugs[name], fieldMark, name)}
		}
	}
	return nil
}

// unlessSlug is the error that is left when unknownSlug explains none.
func unlessSlug(err error, slugs map[string]string) error {
	if unknownSlug(err, slugs) != nil {
		return nil
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

func remedy(sel v1alpha1.NetBoxSelector) string {
	if sel.Tag != "" && sel.Role == "" && sel.Tenant == "" && sel.Site == "" {
		return "tag one there"
	}
	return "give one these there"
}

// prefixSources leaves out what no address may be taken from.
func prefixSources(found []prefixObject) []source {
	var out []source
	for _, o := range found {
		prefix, err := netip.ParsePrefix(o.Prefix)
		if err != nil || o.closed() {
			continue
		}
		src := newPrefixSource(o.ID, prefix.Masked(), o.IsPool)
		src.vrf, src.vrfName, src.field = o.VRF.id(), o.VRF.name(), "spec.netbox.selector"
		out = append(out, src)
	}
	return out
}

func rangeSources(found []rangeObject) []source {
	var out []source
	for _, o := range found {
		span, err := o.span()
		if err != nil || !span.IsValid() || o.closed() || o.MarkPopulated {
			continue
		}
		src := newRangeSource(o.ID, span)
		src.vrf, src.vrfName, src.field = o.VRF.id(), o.VRF.name(), "spec.netbox.selector"
		out = append(out, src)
	}
	return out
}
