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
	"strings"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/schema"
)

// addressesPath is where the REST API has addresses, in a list or by their ids.
const addressesPath = "ipam/ip-addresses/"

// addresses reads one page of addresses, by ascending id.
func (c api) addresses(ctx context.Context, doing string, query url.Values) (netbox.Page[record], error) {
	var out netbox.Page[record]
	query.Set("fields", recordFields)
	query.Set("ordering", "id")
	err := c.do(ctx, netbox.Request{Doing: doing, Path: addressesPath, Query: query}, &out)
	slices.SortFunc(out.Results, byID)
	return out, err
}

// allAddresses returns all records that a query finds, by ascending id. check
// tells of a record that the query should not have found.
func (c api) allAddresses(ctx context.Context, doing string, query url.Values, check func(record) error) ([]record, error) {
	query.Set("fields", recordFields)
	r := netbox.Request{Doing: doing, Path: addressesPath, Query: query}
	return list(ctx, c, r, func(r record) int64 { return r.id }, check)
}

// addressesByClaim returns the records whose claim field holds one of these
// texts, by ascending id. One page is enough: the field is unique, and the
// limit leaves room for those that were written while it was not.
func (c api) addressesByClaim(ctx context.Context, claims []string) ([]record, error) {
	doing := "looking up a claim in NetBox"
	out, err := c.addresses(ctx, doing, url.Values{
		"cf_" + schema.FieldClaim: claims, "limit": {strconv.Itoa(min(4*len(claims)+10, netbox.PageSize))}})
	if err != nil {
		return nil, err
	}
	for _, r := range out.Results {
		if !slices.Contains(claims, r.claim) {
			return nil, filterIgnored(doing, schema.FieldClaim)
		}
	}
	return out.Results, nil
}

// addressesByCluster returns all records of a cluster by ascending id.
func (c api) addressesByCluster(ctx context.Context, cluster string) ([]record, error) {
	doing := fmt.Sprintf("listing the addresses of cluster %s in NetBox", cluster)
	return c.allAddresses(ctx, doing, url.Values{"cf_" + schema.FieldCluster: {cluster}}, func(r record) error {
		if r.cluster != cluster {
			return filterIgnored(doing, schema.FieldCluster)
		}
		return nil
	})
}

// addressesByClaimOf returns all records with a claim of a cluster, whatever
// cluster their other field names, by ascending id. NetBox compares the
// beginning of a text without regard to case.
func (c api) addressesByClaimOf(ctx context.Context, cluster string) ([]record, error) {
	doing := fmt.Sprintf("listing the claims of cluster %s in NetBox", cluster)
	prefix := cluster + "/"
	return c.allAddresses(ctx, doing, url.Values{"cf_" + schema.FieldClaim + "__isw": {prefix}}, func(r record) error {
		if len(r.claim) < len(prefix) || !strings.EqualFold(r.claim[:len(prefix)], prefix) {
			return filterIgnored(doing, schema.FieldClaim)
		}
		return nil
	})
}

// addressesIn returns all records within some prefixes, in any VRF, by
// ascending id.
func (c api) addressesIn(ctx context.Context, prefixes []netip.Prefix) ([]record, error) {
	query := url.Values{}
	for _, p := range prefixes {
		query.Add("parent", p.String())
	}
	return c.allAddresses(ctx, "listing the addresses of pools in NetBox", query, nil)
}

// filterIgnored is the error where NetBox returned what the filter should have left
// out, as it does when the field is not there: going on would take the records of
// everybody else for ours.
func filterIgnored(doing, field string) error {
	return &setUpError{ipam.ConfigError{Problem: fmt.Sprintf(
		"%s: NetBox does not filter by custom field %s: make it exist on %s with filter logic exact", doing, field, schema.ObjectType)}}
}

// addressesAt returns the records of some addresses in one VRF, by ascending id.
func (c api) addressesAt(ctx context.Context, addrs []netip.Addr, vrf int64) ([]record, error) {
	doing := "looking for duplicates of new addresses in NetBox"
	if len(addrs) == 1 {
		doing = fmt.Sprintf("looking up %s in NetBox", addrs[0])
	}
	query := url.Values{"vrf_id": {vrfParam(vrf)}, "limit": {strconv.Itoa(netbox.PageSize)}}
	for _, a := range addrs {
		query.Add("address", a.String())
	}
	out, err := c.addresses(ctx, doing, query)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(out.Results, func(r record) bool { return r.vrf != vrf || !slices.Contains(addrs, r.addr) }), nil
}

// addressesByID returns those of these records that exist.
func (c api) addressesByID(ctx context.Context, ids []int64) (map[int64]record, error) {
	query := url.Values{"limit": {strconv.Itoa(netbox.PageSize)}}
	for _, id := range ids {
		query.Add("id", strconv.FormatInt(id, 10))
	}
	out, err := c.addresses(ctx, "reading addresses before their release", query)
	if err != nil {
		return nil, err
	}
	found := make(map[int64]record, len(out.Results))
	for _, r := range out.Results {
		found[r.id] = r
	}
	return found, nil
}

// address returns one record and its ETag, which is empty before NetBox 4.6.
func (c api) address(ctx context.Context, id int64) (record, string, error) {
	var out record
	var etag string
	err := c.do(ctx, netbox.Request{
		Doing: fmt.Sprintf("reading NetBox address %d", id), Path: netbox.PathOf(addressesPath, id), ETag: &etag}, &out)
	return out, etag, err
}

// create records one given address, with a mask of its own: that of the network
// around it is no property of a load balancer's address.
func (c api) create(ctx context.Context, addr netip.Addr, vrf int64, it item) (record, error) {
	var out record
	err := c.do(ctx, netbox.Request{
		Doing: fmt.Sprintf("claiming %s in NetBox", addr), Method: http.MethodPost, Path: addressesPath, Body: it.bodyAt(addr, vrf)}, &out)
	return out, err
}

// createAll records given addresses of a source, one for each item, all or none.
func (c api) createAll(ctx context.Context, src source, addrs []netip.Addr, items []item) ([]record, error) {
	bodies := make([]map[string]any, len(items))
	for i, it := range items {
		bodies[i] = it.bodyAt(addrs[i], src.vrf)
	}
	var out []record
	err := c.do(ctx, netbox.Request{Doing: "claiming an address in " + src.String(), Method: http.MethodPost, Path: addressesPath, Body: bodies}, &out)
	return out, err
}

// change changes some fields of one record, if it still has the ETag (where
// that is not empty), and leaves everything else.
func (c api) change(ctx context.Context, id int64, etag string, changes map[string]any) (record, error) {
	var out record
	err := c.do(ctx, netbox.Request{
		Doing: fmt.Sprintf("recording the owner of NetBox address %d", id), Method: http.MethodPatch,
		Path: netbox.PathOf(addressesPath, id), Body: changes, IfMatch: etag}, &out)
	return out, err
}

// delete deletes one record, if it still has the ETag (where that is not empty).
func (c api) delete(ctx context.Context, id int64, etag string) error {
	return c.do(ctx, netbox.Request{
		Doing: fmt.Sprintf("releasing NetBox address %d", id), Method: http.MethodDelete,
		Path: netbox.PathOf(addressesPath, id), IfMatch: etag}, nil)
}

// deleteAll deletes several records in one request. NetBox deletes all or none;
// ETags it does not take here.
func (c api) deleteAll(ctx context.Context, ids []int64) error {
	objects := make([]netbox.ObjectID, len(ids))
	for i, id := range ids {
		objects[i].ID = id
	}
	return c.do(ctx, netbox.Request{
		Doing: fmt.Sprintf("releasing %d addresses in NetBox", len(ids)), Method: http.MethodDelete, Path: addressesPath, Body: objects}, nil)
}

// maxParents bounds the networks in one count, whose URL names them all.
const maxParents = 100

// countAddresses counts the records within networks of one VRF, by anybody.
func (c api) countAddresses(ctx context.Context, networks []netip.Prefix, vrf int64) (int64, error) {
	total := int64(0)
	for part := range slices.Chunk(networks, maxParents) {
		query := url.Values{"vrf_id": {vrfParam(vrf)}, "limit": {"1"}, "fields": {"id"}}
		for _, p := range part {
			query.Add("parent", p.String())
		}
		var out netbox.Page[netbox.ObjectID]
		if err := c.do(ctx, netbox.Request{Doing: "counting the addresses of a pool in NetBox", Path: addressesPath, Query: query}, &out); err != nil {
			return 0, err
		}
		total += out.Count
	}
	return total, nil
}

// vrfParam is a VRF in a filter. NetBox takes an absent one for all VRFs.
func vrfParam(vrf int64) string {
	if vrf == 0 {
		return "null"
	}
	return strconv.FormatInt(vrf, 10)
}
