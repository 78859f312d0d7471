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
	"strconv"

	"go4.org/netipx"

	"github.com/bm-ccm/bm-ccm/pkg/netbox"
)

// Where the REST API has the networks that addresses are taken from.
const (
	prefixesPath = "ipam/prefixes/"
	rangesPath   = "ipam/ip-ranges/"
	vrfsPath     = "ipam/vrfs/"
)

// availablePath is where NetBox lists and hands out what is free in a source.
func availablePath(src source) string {
	if src.kind == rangeSource {
		return netbox.PathOf(rangesPath, src.id) + "available-ips/"
	}
	return netbox.PathOf(prefixesPath, src.id) + "available-ips/"
}

// claimNext takes the next free addresses of a source, one for each item, all
// or none. items is never empty: NetBox before 4.7 walks the whole prefix then.
func (c api) claimNext(ctx context.Context, src source, items []item) ([]record, error) {
	bodies := make([]map[string]any, len(items))
	for i, it := range items {
		bodies[i] = it.body()
	}
	var out []record
	err := c.do(ctx, netbox.Request{Doing: "claiming an address in " + src.String(), Method: http.MethodPost, Path: availablePath(src), Body: bodies}, &out)
	return out, err
}

// available lists the first free addresses of a source, up to limit of them. Free
// means that no record in its VRF has the address, with whatever mask or status.
func (c api) available(ctx context.Context, src source, limit int) ([]netip.Addr, error) {
	var raw []struct {
		Address string `json:"address"`
	}
	doing := "looking for a free address in " + src.String()
	err := c.do(ctx, netbox.Request{Doing: doing, Path: availablePath(src), Query: url.Values{"limit": {strconv.Itoa(limit)}}}, &raw)
	if err != nil {
		return nil, err
	}
	out := make([]netip.Addr, 0, len(raw))
	for _, r := range raw {
		p, err := netip.ParsePrefix(r.Address)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", doing, err)
		}
		out = append(out, p.Addr().Unmap())
	}
	return out, nil
}

// What is asked of prefixes and IP ranges: with fewer fields a list is faster.
const (
	prefixFields = "id,prefix,vrf,status,is_pool"
	rangeFields  = "id,start_address,end_address,vrf,status,mark_populated"
)

// prefixObject is a prefix as NetBox has it. Its children do not matter: NetBox
// hands out addresses of a prefix that lie in a smaller one within it.
type prefixObject struct {
	netbox.ObjectID
	Prefix string              `json:"prefix"`
	VRF    *netbox.NamedObject `json:"vrf"`
	Status netbox.Choice       `json:"status"`
	IsPool bool                `json:"is_pool"`
}

// closed reports whether a prefix is not for addresses.
func (o prefixObject) closed() bool {
	return o.Status.Value == "container" || o.Status.Value == "deprecated"
}

// rangeObject is an IP range as NetBox has it; its ends carry a mask, which says
// nothing of the range.
type rangeObject struct {
	netbox.ObjectID
	Start         string              `json:"start_address"`
	End           string              `json:"end_address"`
	VRF           *netbox.NamedObject `json:"vrf"`
	Status        netbox.Choice       `json:"status"`
	MarkPopulated bool                `json:"mark_populated"`
}

// closed reports whether an IP range is not for addresses.
func (o rangeObject) closed() bool { return o.Status.Value == "deprecated" }

// span returns the addresses of a range.
func (o rangeObject) span() (netipx.IPRange, error) {
	first, err := netip.ParsePrefix(o.Start)
	if err != nil {
		return netipx.IPRange{}, fmt.Errorf("first address of IP range %d: %w", o.ID, err)
	}
	last, err := netip.ParsePrefix(o.End)
	if err != nil {
		return netipx.IPRange{}, fmt.Errorf("last address of IP range %d: %w", o.ID, err)
	}
	return netipx.IPRangeFrom(first.Addr().Unmap(), last.Addr().Unmap()), nil
}

// listPrefixes returns all prefixes that a filter finds.
func (c api) listPrefixes(ctx context.Context, doing string, filter url.Values) ([]prefixObject, error) {
	filter.Set("fields", prefixFields)
	return list(ctx, c, netbox.Request{Doing: doing, Path: prefixesPath, Query: filter}, prefixObject.Key, nil)
}

// listRanges returns all IP ranges that a filter finds.
func (c api) listRanges(ctx context.Context, doing string, filter url.Values) ([]rangeObject, error) {
	filter.Set("fields", rangeFields)
	return list(ctx, c, netbox.Request{Doing: doing, Path: rangesPath, Query: filter}, rangeObject.Key, nil)
}

// prefixes returns the objects of one prefix in one VRF. There can be several:
// NetBox does not insist on one unless told to.
func (c api) prefixes(ctx context.Context, p netip.Prefix, vrf int64) ([]prefixObject, error) {
	found, err := c.listPrefixes(ctx, fmt.Sprintf("looking up prefix %s in NetBox", p), url.Values{"prefix": {p.String()}, "vrf_id": {vrfParam(vrf)}})
	return slices.DeleteFunc(found, func(o prefixObject) bool { return o.Prefix != p.String() || netbox.IDOf(o.VRF) != vrf }), err
}

// ipRanges returns the objects of one IP range in one VRF.
func (c api) ipRanges(ctx context.Context, r netipx.IPRange, vrf int64) ([]rangeObject, error) {
	found, err := c.listRanges(ctx, fmt.Sprintf("looking up IP range %s in NetBox", r), url.Values{
		"start_address": {r.From().String()}, "end_address": {r.To().String()}, "vrf_id": {vrfParam(vrf)}})
	return slices.DeleteFunc(found, func(o rangeObject) bool {
		span, err := o.span()
		return err != nil || span != r || netbox.IDOf(o.VRF) != vrf
	}), err
}

// vrfs returns the VRFs of this name, of which there may be several.
func (c api) vrfs(ctx context.Context, name string) ([]netbox.NamedObject, error) {
	var out netbox.Page[netbox.NamedObject]
	err := c.do(ctx, netbox.Request{
		Doing: fmt.Sprintf("looking up VRF %q in NetBox", name), Path: vrfsPath, Query: url.Values{"name": {name}, "limit": {"50"}}}, &out)
	return slices.DeleteFunc(out.Results, func(o netbox.NamedObject) bool { return o.Name != name }), err
}
