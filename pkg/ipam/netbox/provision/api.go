// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package provision

import (
	"context"
	"net/url"
	"strings"

	"github.com/bm-ccm/bm-ccm/pkg/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/schema"
)

// api sends the requests of this package.
type api struct{ client *netbox.Client }

// write sends a body as JSON; out, unless nil, receives the answer.
func (c api) write(ctx context.Context, method, path, doing string, body, out any) error {
	return c.client.Do(ctx, netbox.Request{Doing: doing, Method: method, Path: path, Body: body}, out)
}

// read asks for an object or one page of a list; out, unless nil, receives it.
func (c api) read(ctx context.Context, path, doing string, query url.Values, out any) error {
	return c.client.Do(ctx, netbox.Request{Doing: doing, Path: path, Query: query}, out)
}

// addressesPath is where the REST API has addresses, in a list or by their ids.
const addressesPath = "ipam/ip-addresses/"

// address is what init and check need of an ip-address object.
type address struct {
	netbox.ObjectID
	Address      string         `json:"address"`
	Status       netbox.Choice  `json:"status"`
	CustomFields map[string]any `json:"custom_fields"`
}

// field returns the value of a custom field that holds text; "" if it does not.
func (a address) field(name string) string {
	text, _ := a.CustomFields[name].(string)
	return text
}

// cluster is the cluster that an address belongs to; "" for none.
func (a address) cluster() string { return a.field(schema.FieldCluster) }

// addr is the address without its mask, which says nothing to whoever looks for
// it in NetBox.
func (a address) addr() string {
	addr, _, _ := strings.Cut(a.Address, "/")
	return addr
}
