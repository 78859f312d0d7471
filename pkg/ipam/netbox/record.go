// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"text/template"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/schema"
)

// nextSuffix marks the key of an address that is to replace another one.
const nextSuffix = "#next"

// recordFields is what is asked of an address in lists: with it, a list takes
// an eighth of the time.
const recordFields = "id,address,vrf,status,dns_name,description,custom_fields"

// Record says what is written into a record when it is created, besides its
// owner. It is never written again: what an admin changes stays.
type Record struct {
	// Status is the status value; empty means active. It must be one in which
	// an address counts as assigned.
	Status string
	// Tenant is a slug; empty means none.
	Tenant string
	// Description is executed with a Subject; nil gives "k8s <cluster>
	// <namespace>/<service>". NetBox takes 200 characters, the rest is cut off.
	Description *template.Template
	// Tags are slugs of tags that exist. Each costs some of NetBox's speed.
	Tags []string
	// CustomFields are further custom fields with their values.
	CustomFields map[string]any
}

// Subject is what Record.Description may name.
type Subject struct {
	Cluster, Namespace, Service, Class, Family string
}

// The status values that bm-ccm itself writes.
const (
	statusActive   = "active"
	statusReserved = "reserved"
)

// status is the status of a new record.
func (c Record) status() string { return cmp.Or(c.Status, statusActive) }

// description is that of a new record. A template that fails is no reason to claim
// nothing: the configuration was checked with an example.
func (c Record) description(s Subject) string {
	if c.Description == nil {
		return fmt.Sprintf("k8s %s %s/%s", s.Cluster, s.Namespace, s.Service)
	}
	var b strings.Builder
	if err := c.Description.Execute(&b, s); err != nil {
		return fmt.Sprintf("k8s %s %s/%s", s.Cluster, s.Namespace, s.Service)
	}
	return b.String()
}

// record is an ip-address object.
type record struct {
	id          int64
	addr        netip.Addr
	vrf         int64 // 0 is the global table
	status      string
	dnsName     string
	description string
	claim       string
	cluster     string
	clusterUID  string
	serviceUID  string
	class       string
	release     string
}

// reserved reports whether a record is kept for a Service that does not have it.
func (r record) reserved() bool { return r.claim != "" && r.serviceUID == "" }

// UnmarshalJSON reads what is needed of an object and passes over the rest. A
// record without id or address is an error: nothing could be done about it, and
// leaving it out might take its claim for free. A custom field of another type
// counts as empty; Check complains of it.
func (r *record) UnmarshalJSON(data []byte) error {
	var raw struct {
		ID           int64               `json:"id"`
		Address      string              `json:"address"`
		VRF          *netbox.NamedObject `json:"vrf"`
		Status       netbox.Choice       `json:"status"`
		DNSName      string              `json:"dns_name"`
		Description  string              `json:"description"`
		CustomFields map[string]any      `json:"custom_fields"`
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
		id: raw.ID, addr: prefix.Addr().Unmap(), vrf: netbox.IDOf(raw.VRF), status: raw.Status.Value, dnsName: raw.DNSName, description: raw.Description,
		claim: text(schema.FieldClaim), cluster: text(schema.FieldCluster), clusterUID: text(schema.FieldClusterUID),
		serviceUID: text(schema.FieldServiceUID), class: text(schema.FieldClass), release: text(schema.FieldRelease),
	}
	return nil
}

// ownerText says whose a record is, for an error.
func (r record) ownerText() string {
	switch {
	case r.claim != "":
		return fmt.Sprintf("claim %s (NetBox address %d)", r.claim, r.id)
	case r.description != "":
		return fmt.Sprintf("%q (NetBox address %d)", r.description, r.id)
	default:
		return fmt.Sprintf("NetBox address %d", r.id)
	}
}

// item is what is to be written into the record of an address that is claimed.
type item struct {
	key        ipam.Key
	claim      string // the key's text, or that with nextSuffix
	cluster    string
	clusterUID string
	serviceUID string
	class      string
	hostname   string
	record     *Record
}

// body is what is posted for an item. No role: vip and its like are exempt
// from NetBox's uniqueness.
func (i item) body() map[string]any {
	body := map[string]any{
		"status":        i.record.status(),
		"description":   fmt.Sprintf("%.*s", maxDescription, i.record.description(i.subject())),
		"prefix_length": i.key.Family.Bits(),
		"custom_fields": i.customFields(),
	}
	if i.hostname != "" {
		body["dns_name"] = i.hostname
	}
	if i.record.Tenant != "" {
		body["tenant"] = map[string]any{"slug": i.record.Tenant}
	}
	if len(i.record.Tags) > 0 {
		tags := make([]map[string]any, len(i.record.Tags))
		for n, slug := range i.record.Tags {
			tags[n] = map[string]any{"slug": slug}
		}
		body["tags"] = tags
	}
	return body
}

// bodyAt is what is posted for an item to have a given address.
func (i item) bodyAt(addr netip.Addr, vrf int64) map[string]any {
	body := i.body()
	delete(body, "prefix_length")
	body["address"] = netip.PrefixFrom(addr, addr.BitLen()).String()
	if vrf != 0 {
		body["vrf"] = vrf
	}
	return body
}

// subject is what a description may name of the item.
func (i item) subject() Subject {
	return Subject{
		Cluster: i.cluster, Namespace: i.key.Namespace, Service: i.key.Service, Class: i.class, Family: string(i.key.Family),
	}
}

// customFields are those of a new record. The owner's fields come last: nothing
// that is configured may replace them.
func (i item) customFields() map[string]any {
	fields := maps.Clone(i.record.CustomFields)
	if fields == nil {
		fields = map[string]any{}
	}
	maps.Copy(fields, i.ownerFields())
	fields[schema.FieldRelease] = schema.ReleaseDelete
	return fields
}

// ownerFields are the custom fields that say whose an address is.
func (i item) ownerFields() map[string]any {
	return map[string]any{
		schema.FieldClaim: i.claim, schema.FieldCluster: i.cluster, schema.FieldClusterUID: orNull(i.clusterUID),
		schema.FieldServiceUID: orNull(i.serviceUID), schema.FieldClass: orNull(i.class),
	}
}

// echoed reports whether a record holds what was posted. NetBox 4.4 drops
// custom fields that it does not know silently.
func (i item) echoed(r record) bool {
	return r.claim == i.claim && r.cluster == i.cluster && r.clusterUID == i.clusterUID &&
		r.serviceUID == i.serviceUID && r.class == i.class && ipam.FamilyOf(r.addr) == i.key.Family
}

// maxDescription is NetBox's limit, in characters. It refuses what is longer, and
// with it the claim.
const maxDescription = 200

// orNull is a text as NetBox wants it in a custom field: it takes an empty one for
// a value, which a unique field would have twice.
func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func byID(a, b record) int { return cmp.Compare(a.id, b.id) }
