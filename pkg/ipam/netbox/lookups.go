// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"

	gonetbox "github.com/netbox-community/go-netbox/v4"
	"go4.org/netipx"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// This file has the requests about prefixes, IP ranges and what is free in
// them. As in operations.go, who asks checks again what a filter should do.

// claimNext takes the next free addresses of a source, one for each item, all
// or none. items is never empty: NetBox before 4.7 walks the whole prefix then.
func (c *Client) claimNext(ctx context.Context, src source, items []item) ([]record, error) {
	n, err := id32(src.id)
	if err != nil {
		return nil, err
	}
	bodies := make([]map[string]any, len(items))
	for i, it := range items {
		bodies[i] = it.body()
	}
	body, err := json.Marshal(bodies)
	if err != nil {
		return nil, fmt.Errorf("writing a claim: %w", err)
	}
	var out []record
	x := &exchange{doing: "claiming an address in " + src.String(), body: body}
	err = c.do(ctx, x, &out, func(ctx context.Context) error {
		var err error
		if src.kind == rangeSource {
			_, _, err = c.api.IpamAPI.IpamIpRangesAvailableIpsCreate(ctx, n).IPAddressRequest([]gonetbox.IPAddressRequest{}).Execute()
		} else {
			_, _, err = c.api.IpamAPI.IpamPrefixesAvailableIpsCreate(ctx, n).IPAddressRequest([]gonetbox.IPAddressRequest{}).Execute()
		}
		return err
	})
	return out, err
}

// available lists the first free addresses of a source, up to limit of them.
func (c *Client) available(ctx context.Context, src source, limit int) ([]netip.Addr, error) {
	n, err := id32(src.id)
	if err != nil {
		return nil, err
	}
	var raw []struct {
		Address string `json:"address"`
	}
	x := &exchange{doing: "looking for a free address in " + src.String(), query: url.Values{"limit": {strconv.Itoa(limit)}}}
	err = c.do(ctx, x, &raw, func(ctx context.Context) error {
		var err error
		if src.kind == rangeSource {
			_, _, err = c.api.IpamAPI.IpamIpRangesAvailableIpsList(ctx, n).Execute()
		} else {
			_, _, err = c.api.IpamAPI.IpamPrefixesAvailableIpsList(ctx, n).Execute()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	out := make([]netip.Addr, 0, len(raw))
	for _, r := range raw {
		p, err := netip.ParsePrefix(r.Address)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", x.doing, err)
		}
		out = append(out, p.Addr().Unmap())
	}
	return out, nil
}

// createAll records given addresses of a source, one for each item, all or none.
func (c *Client) createAll(ctx context.Context, src source, addrs []netip.Addr, items []item) ([]record, error) {
	bodies := make([]map[string]any, len(items))
	for i, it := range items {
		bodies[i] = it.body()
		delete(bodies[i], "prefix_length")
		bodies[i]["address"] = netip.PrefixFrom(addrs[i], addrs[i].BitLen()).String()
		if src.vrf != 0 {
			bodies[i]["vrf"] = src.vrf
		}
	}
	body, err := json.Marshal(bodies)
	if err != nil {
		return nil, fmt.Errorf("writing a claim: %w", err)
	}
	var out []record
	x := &exchange{doing: "claiming an address in " + src.String(), body: body}
	err = c.do(ctx, x, &out, func(ctx context.Context) error {
		_, _, err := c.api.IpamAPI.IpamIpAddressesCreate(ctx).WritableIPAddressRequest(gonetbox.WritableIPAddressRequest{}).Execute()
		return err
	})
	return out, err
}

// addressesOf returns the records of some addresses in one VRF, by id.
func (c *Client) addressesOf(ctx context.Context, addrs []netip.Addr, vrf int64) ([]record, error) {
	query := url.Values{"vrf_id": {vrfParam(vrf)}, "limit": {strconv.Itoa(pageSize)}}
	for _, a := range addrs {
		query.Add("address", a.String())
	}
	out, err := c.addresses(ctx, "looking for duplicates of new addresses in NetBox", query)
	if err != nil {
		return nil, err
	}
	found := slices.DeleteFunc(out.Results, func(r record) bool { return r.vrf != vrf || !slices.Contains(addrs, r.addr) })
	slices.SortFunc(found, byID)
	return found, nil
}

// maxParents bounds the networks in one count, whose URL names them all.
const maxParents = 100

// countAddresses counts the records within networks of one VRF, by anybody.
func (c *Client) countAddresses(ctx context.Context, networks []netip.Prefix, vrf int64) (int64, error) {
	total := int64(0)
	for part := range slices.Chunk(networks, maxParents) {
		query := url.Values{"vrf_id": {vrfParam(vrf)}, "limit": {"1"}, "fields": {"id"}}
		for _, p := range part {
			query.Add("parent", p.String())
		}
		var out page[objectID]
		x := &exchange{doing: "counting the addresses of a pool in NetBox", query: query}
		err := c.do(ctx, x, &out, func(ctx context.Context) error {
			_, _, err := c.api.IpamAPI.IpamIpAddressesList(ctx).Execute()
			return err
		})
		if err != nil {
			return 0, err
		}
		total += out.Count
	}
	return total, nil
}

// objectFields is what is asked of prefixes and IP ranges.
const (
	prefixFields = "id,prefix,vrf,status,is_pool"
	rangeFields  = "id,start_address,end_address,vrf,status,mark_populated"
)

// prefixObject is a prefix as NetBox has it.
type prefixObject struct {
	ID     int64        `json:"id"`
	Prefix string       `json:"prefix"`
	VRF    *namedObject `json:"vrf"`
	Status choice       `json:"status"`
	IsPool bool         `json:"is_pool"`
}

// closed tells whether a prefix is not for addresses.
func (o prefixObject) closed() bool {
	return o.Status.Value == "container" || o.Status.Value == "deprecated"
}

// rangeObject is an IP range as NetBox has it; its ends carry a mask.
type rangeObject struct {
	ID            int64        `json:"id"`
	Start         string       `json:"start_address"`
	End           string       `json:"end_address"`
	VRF           *namedObject `json:"vrf"`
	Status        choice       `json:"status"`
	MarkPopulated bool         `json:"mark_populated"`
}

func (o rangeObject) closed() bool { return o.Status.Value == "deprecated" }

// span returns the addresses of a range.
func (o rangeObject) span() (netipx.IPRange, error) {
	first, err := netip.ParsePrefix(o.Start)
	if err != nil {
		return netipx.IPRange{}, fmt.Errorf("IP range %d: %w", o.ID, err)
	}
	last, err := netip.ParsePrefix(o.End)
	if err != nil {
		return netipx.IPRange{}, fmt.Errorf("IP range %d: %w", o.ID, err)
	}
	return netipx.IPRangeFrom(first.Addr().Unmap(), last.Addr().Unmap()), nil
}

// listPrefixes returns all prefixes that a filter finds.
func (c *Client) listPrefixes(ctx context.Context, doing string, filter url.Values) ([]prefixObject, error) {
	filter.Set("fields", prefixFields)
	return listPages(ctx, c, doing, filter, func(o prefixObject) (int64, error) { return o.ID, nil }, func(ctx context.Context) error {
		_, _, err := c.api.IpamAPI.IpamPrefixesList(ctx).Execute()
		return err
	})
}

// listRanges returns all IP ranges that a filter finds.
func (c *Client) listRanges(ctx context.Context, doing string, filter url.Values) ([]rangeObject, error) {
	filter.Set("fields", rangeFields)
	return listPages(ctx, c, doing, filter, func(o rangeObject) (int64, error) { return o.ID, nil }, func(ctx context.Context) error {
		_, _, err := c.api.IpamAPI.IpamIpRangesList(ctx).Execute()
		return err
	})
}

// listPages reads a list in pages by id: what is deleted meanwhile moves no page.
// look returns the id of an object, or why the list should not have it.
func listPages[T any](ctx context.Context, c *Client, doing string, filter url.Values, look func(T) (int64, error), call func(context.Context) error) ([]T, error) {
	filter.Set("ordering", "id")
	filter.Set("limit", strconv.Itoa(pageSize))
	var all []T
	for after := int64(0); ; {
		filter.Set("id__gte", strconv.FormatInt(after+1, 10))
		var out page[T]
		if err := c.do(ctx, &exchange{doing: doing, query: filter}, &out, call); err != nil {
			return nil, err
		}
		for _, o := range out.Results {
			id, err := look(o)
			if err != nil {
				return nil, err
			}
			if id <= after {
				return nil, &ipam.UnavailableError{Doing: doing, Err: fmt.Errorf("NetBox does not page by id: %d comes after %d", id, after)}
			}
			after = id
		}
		all = append(all, out.Results...)
		if int64(len(out.Results)) >= out.Count || len(out.Results) == 0 {
			return all, nil
		}
	}
}

// prefixes returns the objects of one prefix in one VRF.
func (c *Client) prefixes(ctx context.Context, p netip.Prefix, vrf int64) ([]prefixObject, error) {
	found, err := c.listPrefixes(ctx, fmt.Sprintf("looking up prefix %s in NetBox", p), url.Values{"prefix": {p.String()}, "vrf_id": {vrfParam(vrf)}})
	return slices.DeleteFunc(found, func(o prefixObject) bool { return o.Prefix != p.String() || o.VRF.id() != vrf }), err
}

// ipRanges returns the objects of one IP range in one VRF.
func (c *Client) ipRanges(ctx context.Context, r netipx.IPRange, vrf int64) ([]rangeObject, error) {
	found, err := c.listRanges(ctx, fmt.Sprintf("looking up IP range %s in NetBox", r), url.Values{
		"start_address": {r.From().String()}, "end_address": {r.To().String()}, "vrf_id": {vrfParam(vrf)}})
	return slices.DeleteFunc(found, func(o rangeObject) bool {
		span, err := o.span()
		return err != nil || span != r || o.VRF.id() != vrf
	}), err
}

// namedObject is an object with a name.
type namedObject struct {
	ID   int64  `json:"id"`
	Name string `json:"name"`
}

// id is that of a nested object, which may be absent.
func (o *namedObject) id() int64 {
	if o == nil {
		return 0
	}
	return o.ID
}

func (o *namedObject) name() string {
	if o == nil {
		return ""
	}
	return o.Name
}

// vrfs returns the VRFs of this name.
func (c *Client) vrfs(ctx context.Context, name string) ([]namedObject, error) {
	var out page[namedObject]
	x := &exchange{doing: fmt.Sprintf("looking up VRF %q in NetBox", name), query: url.Values{"name": {name}, "limit": {"50"}}}
	err := c.do(ctx, x, &out, func(ctx context.Context) error {
		_, _, err := c.api.IpamAPI.IpamVrfsList(ctx).Execute()
		return err
	})
	return slices.DeleteFunc(out.Results, func(o namedObject) bool { return o.Name != name }), err
}
