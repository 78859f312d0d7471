// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	gonetbox "github.com/netbox-community/go-netbox/v4"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox/schema"
)

// This file has every request that allocating needs. Reads are re-checked by
// who asks: NetBox ignores a filter that it does not know and returns
// everything.

// pageSize is what NetBox gives at most unless configured otherwise.
const pageSize = 1000

// id32 is an object's id as go-netbox wants it.
func id32(id int64) (int32, error) {
	if id <= 0 || id > math.MaxInt32 {
		return 0, fmt.Errorf("NetBox id %d is outside of 1 to %d", id, math.MaxInt32)
	}
	return int32(id), nil
}

// addresses lists addresses; the filter is in query.
func (c *Client) addresses(ctx context.Context, doing string, query url.Values) (page[record], error) {
	var out page[record]
	query.Set("fields", recordFields)
	query.Set("ordering", "id")
	x := &exchange{doing: doing, query: query}
	err := c.do(ctx, x, &out, func(ctx context.Context) error {
		_, _, err := c.api.IpamAPI.IpamIpAddressesList(ctx).Execute()
		return err
	})
	return out, err
}

// addressesByClaim returns the records whose claim field holds one of these
// texts, by ascending id.
func (c *Client) addressesByClaim(ctx context.Context, claims []string) ([]record, error) {
	doing := "looking up a claim in NetBox"
	out, err := c.addresses(ctx, doing, url.Values{
		"cf_" + schema.FieldClaim: claims, "limit": {strconv.Itoa(min(4*len(claims)+10, pageSize))}})
	if err != nil {
		return nil, err
	}
	for _, r := range out.Results {
		if !slices.Contains(claims, r.claim) {
			return nil, filterIgnored(doing, schema.FieldClaim)
		}
	}
	slices.SortFunc(out.Results, byID)
	return out.Results, nil
}

// addressesByCluster returns all records of a cluster by ascending id.
func (c *Client) addressesByCluster(ctx context.Context, cluster string) ([]record, error) {
	doing := fmt.Sprintf("listing the addresses of cluster %s in NetBox", cluster)
	return c.allAddresses(ctx, doing, url.Values{"cf_" + schema.FieldCluster: {cluster}}, func(r record) error {
		if r.cluster != cluster {
			return filterIgnored(doing, schema.FieldCluster)
		}
		return nil
	})
}

// addressesByClaimOf returns all records with a claim of a cluster, whatever
// cluster their other field names, by ascending id.
func (c *Client) addressesByClaimOf(ctx context.Context, cluster string) ([]record, error) {
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
func (c *Client) addressesIn(ctx context.Context, prefixes []netip.Prefix) ([]record, error) {
	query := url.Values{}
	for _, p := range prefixes {
		query.Add("parent", p.String())
	}
	return c.allAddresses(ctx, "listing the addresses of pools in NetBox", query, func(record) error { return nil })
}

// allAddresses returns all records that a query finds, by ascending id. check
// tells of a record that the query should not have found.
func (c *Client) allAddresses(ctx context.Context, doing string, query url.Values, check func(record) error) ([]record, error) {
	query.Set("fields", recordFields)
	return listPages(ctx, c, doing, query, func(r record) (int64, error) { return r.id, check(r) }, c.listAddresses)
}

// listAddresses names the list of addresses to go-netbox.
func (c *Client) listAddresses(ctx context.Context) error {
	_, _, err := c.api.IpamAPI.IpamIpAddressesList(ctx).Execute()
	return err
}

func filterIgnored(doing, field string) error {
	return &setUpError{ipam.ConfigError{Problem: fmt.Sprintf(
		"%s: NetBox does not filter by custom field %s: make it exist on ipam.ipaddress with filter logic exact", doing, field)}}
}

// addressesAt returns the records of one address in one VRF.
func (c *Client) addressesAt(ctx context.Context, addr netip.Addr, vrf int64) ([]record, error) {
	doing := fmt.Sprintf("looking up %s in NetBox", addr)
	out, err := c.addresses(ctx, doing, url.Values{"address": {addr.String()}, "vrf_id": {vrfParam(vrf)}, "limit": {"50"}})
	if err != nil {
		return nil, err
	}
	found := slices.DeleteFunc(out.Results, func(r record) bool { return r.addr != addr || r.vrf != vrf })
	slices.SortFunc(found, byID)
	return found, nil
}

// addressesByID returns those of these records that exist.
func (c *Client) addressesByID(ctx context.Context, ids []int64) (map[int64]record, error) {
	query := url.Values{"limit": {strconv.Itoa(pageSize)}}
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
func (c *Client) address(ctx context.Context, id int64) (record, string, error) {
	n, err := id32(id)
	if err != nil {
		return record{}, "", err
	}
	var out record
	x := &exchange{doing: fmt.Sprintf("reading NetBox address %d", id)}
	err = c.do(ctx, x, &out, func(ctx context.Context) error {
		_, _, err := c.api.IpamAPI.IpamIpAddressesRetrieve(ctx, n).Execute()
		return err
	})
	return out, x.etag, err
}

// create records one given address.
func (c *Client) create(ctx context.Context, addr netip.Addr, vrf int64, it item) (record, error) {
	fields := it.body()
	delete(fields, "prefix_length")
	fields["address"] = netip.PrefixFrom(addr, addr.BitLen()).String()
	if vrf != 0 {
		fields["vrf"] = vrf
	}
	body, err := json.Marshal(fields)
	if err != nil {
		return record{}, fmt.Errorf("writing a claim: %w", err)
	}
	var out record
	x := &exchange{doing: fmt.Sprintf("claiming %s in NetBox", addr), body: body}
	err = c.do(ctx, x, &out, func(ctx context.Context) error {
		_, _, err := c.api.IpamAPI.IpamIpAddressesCreate(ctx).WritableIPAddressRequest(gonetbox.WritableIPAddressRequest{}).Execute()
		return err
	})
	return out, err
}

// change changes some fields of one record, if it still has the ETag (where
// that is not empty), and leaves everything else.
func (c *Client) change(ctx context.Context, id int64, etag string, changes map[string]any) (record, error) {
	n, err := id32(id)
	if err != nil {
		return record{}, err
	}
	body, err := json.Marshal(changes)
	if err != nil {
		return record{}, fmt.Errorf("writing a change: %w", err)
	}
	var out record
	x := &exchange{doing: fmt.Sprintf("recording the owner of NetBox address %d", id), body: body, ifMatch: etag}
	err = c.do(ctx, x, &out, func(ctx context.Context) error {
		_, _, err := c.api.IpamAPI.IpamIpAddressesPartialUpdate(ctx, n).
			PatchedWritableIPAddressRequest(gonetbox.PatchedWritableIPAddressRequest{}).Execute()
		return err
	})
	return out, err
}

// delete deletes one record, if it still has the ETag (where that is not empty).
func (c *Client) delete(ctx context.Context, id int64, etag string) error {
	n, err := id32(id)
	if err != nil {
		return err
	}
	x := &exchange{doing: fmt.Sprintf("releasing NetBox address %d", id), ifMatch: etag}
	return c.do(ctx, x, nil, func(ctx context.Context) error {
		_, err := c.api.IpamAPI.IpamIpAddressesDestroy(ctx, n).Execute()
		return err
	})
}

// deleteAll deletes several records in one request.
func (c *Client) deleteAll(ctx context.Context, ids []int64) error {
	list := make([]map[string]int64, len(ids))
	for i, id := range ids {
		list[i] = map[string]int64{"id": id}
	}
	body, err := json.Marshal(list)
	if err != nil {
		return fmt.Errorf("writing a list of ids: %w", err)
	}
	x := &exchange{doing: fmt.Sprintf("releasing %d addresses in NetBox", len(ids)), body: body}
	return c.do(ctx, x, nil, func(ctx context.Context) error {
		_, err := c.api.IpamAPI.IpamIpAddressesBulkDestroy(ctx).IPAddressRequest([]gonetbox.IPAddressRequest{}).Execute()
		return err
	})
}

// version returns NetBox's version, for example "4.7.3".
func (c *Client) version(ctx context.Context) (string, error) {
	var out struct {
		Version string `json:"netbox-version"`
	}
	x := &exchange{doing: "asking NetBox for its version"}
	err := c.do(ctx, x, &out, func(ctx context.Context) error {
		_, _, err := c.api.StatusAPI.StatusRetrieve(ctx).Execute()
		return err
	})
	return out.Version, err
}

// vrfParam is a VRF in a filter.
func vrfParam(vrf int64) string {
	if vrf == 0 {
		return "null"
	}
	return strconv.FormatInt(vrf, 10)
}
