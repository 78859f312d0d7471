// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"unicode/utf8"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox/setup"
)

// nextSuffix marks the key of an address that is to replace another one.
const nextSuffix = "#next"

// recordFields is what is asked of an address in lists: with it, a list takes
// an eighth of the time.
const recordFields = "id,address,vrf,description,custom_fields"

// record is an ip-address object.
type record struct {
	id          int64
	addr        netip.Addr
	vrf         int64 // 0 is the global table
	description string
	claim       string
	cluster     string
	clusterUID  string
	serviceUID  string
}

// UnmarshalJSON reads what is needed of an object and passes over the rest.
func (r *record) UnmarshalJSON(data []byte) error {
	var raw struct {
		ID           int64          `json:"id"`
		Address      string         `json:"address"`
		VRF          *objectID      `json:"vrf"`
		Description  string         `json:"description"`
		CustomFields map[string]any `json:"custom_fields"`
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	if raw.ID <= 0 {
		return fmt.Errorf("an address without id: %.100s", data)
	}
	prefix, err := netip.ParsePrefix(raw.Address)
	if err != nil {
		return fmt.Errorf("address %d: %w", raw.ID, err)
	}
	text := func(field string) string { s, _ := raw.CustomFields[field].(string); return s }
	*r = record{
		id: raw.ID, addr: prefix.Addr().Unmap(), description: raw.Description,
		claim: text(setup.FieldClaim), cluster: text(setup.FieldCluster), clusterUID: text(setup.FieldClusterUID), serviceUID: text(setup.FieldServiceUID),
	}
	if raw.VRF != nil {
		r.vrf = raw.VRF.ID
	}
	return nil
}

// holder says whose a record is, for an error.
func (r record) holder() string {
	switch {
	case r.claim != "":
		return fmt.Sprintf("claim %s (NetBox address %d)", r.claim, r.id)
	case r.description != "":
		return fmt.Sprintf("%q (NetBox address %d)", r.description, r.id)
	default:
		return fmt.Sprintf("NetBox address %d", r.id)
	}
}

// objectID is a nested object of which only the id counts.
type objectID struct {
	ID int64 `json:"id"`
}

// choice is a value with a label: {"value": "active", "label": "Active"}.
type choice struct {
	Value string `json:"value"`
}

// page is a page of a list.
type page[T any] struct {
	Count   int64 `json:"count"`
	Results []T   `json:"results"`
}

// item is an address to be claimed.
type item struct {
	key        ipam.Key
	claim      string // the key's text, or that with nextSuffix
	cluster    string
	clusterUID string
	serviceUID string
}

// body is what is posted for an item. No role: vip and its like are exempt
// from NetBox's uniqueness.
func (i item) body() map[string]any {
	return map[string]any{
		"status":        "active",
		"description":   truncate(fmt.Sprintf("k8s %s %s/%s", i.cluster, i.key.Namespace, i.key.Service), maxDescription),
		"prefix_length": i.key.Family.Bits(),
		"custom_fields": map[string]any{
			setup.FieldClaim: i.claim, setup.FieldCluster: i.cluster,
			setup.FieldClusterUID: orNull(i.clusterUID), setup.FieldServiceUID: orNull(i.serviceUID),
		},
	}
}

// echoed tells whether a record holds what was posted. NetBox 4.4 drops
// custom fields that it does not know without a word.
func (i item) echoed(r record) bool {
	return r.claim == i.claim && r.cluster == i.cluster && r.clusterUID == i.clusterUID &&
		r.serviceUID == i.serviceUID && ipam.FamilyOf(r.addr) == i.key.Family
}

// maxDescription is NetBox's limit, in characters.
const maxDescription = 200

func truncate(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n])
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func byID(a, b record) int { return cmp.Compare(a.id, b.id) }
