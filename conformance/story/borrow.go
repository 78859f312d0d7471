// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package story

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"net/url"

	"github.com/bm-ccm/bm-ccm/conformance/lab"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/schema"
)

// What a story creates in a NetBox of the user's: names that nobody has by
// accident. The prefix is for benchmarks (RFC 2544) and routed nowhere.
const (
	ownCluster = "bm-ccm-demo"
	ownPrefix  = "198.18.213.0/26"
)

// loan is one object to create in somebody's NetBox.
type loan struct {
	path string // of the collection
	what string
	find url.Values
	body any
}

// borrow creates what the story needs and is not there, after saying so, and
// arranges for its removal. An object that is there is used and left alone.
func (n *IPAM) borrow(ctx context.Context, l *lab.Lab, log io.Writer) error {
	loans := loans()
	fmt.Fprintf(log, "In %s this will be created where it is missing, and removed at the end:\n", n.Web)
	for _, o := range loans {
		fmt.Fprintf(log, "  - %s\n", o.what)
	}
	fmt.Fprintf(log, "  - one device for each node of the lab, with site, role and type %q, and its addresses\n", ownCluster)
	for _, o := range loans {
		if _, err := n.ensure(ctx, o); err != nil {
			return err
		}
	}
	return n.borrowDevices(ctx, l)
}

// loans are the custom fields and the prefix.
func loans() []loan {
	var out []loan
	for _, f := range schema.Fields() {
		out = append(out, loan{
			path: "/api/extras/custom-fields/", what: "custom field " + f.Name + " on IP addresses",
			find: url.Values{"name": {f.Name}},
			body: f,
		})
	}
	return append(out, loan{
		path: "/api/ipam/prefixes/", what: "prefix " + ownPrefix + " in the global table",
		find: url.Values{"prefix": {ownPrefix}, "vrf_id": {"null"}},
		body: map[string]any{"prefix": ownPrefix, "description": "bm-ccm demo"},
	})
}

// ensure returns the id of an object, which it creates if need be.
func (n *IPAM) ensure(ctx context.Context, o loan) (int64, error) {
	var page struct {
		Results []struct {
			ID int64 `json:"id"`
		} `json:"results"`
	}
	if err := n.call(ctx, http.MethodGet, o.path+"?"+o.find.Encode(), nil, &page); err != nil {
		return 0, err
	}
	if len(page.Results) > 0 {
		return page.Results[0].ID, nil
	}
	var created struct {
		ID int64 `json:"id"`
	}
	if err := n.call(ctx, http.MethodPost, o.path, o.body, &created); err != nil {
		return 0, fmt.Errorf("creating %s: %w", o.what, err)
	}
	n.stops = append(n.stops, func() error {
		// The story's context may be over by now; the user's NetBox shall be
		// left as it was.
		err := n.call(context.WithoutCancel(ctx), http.MethodDelete, fmt.Sprintf("%s%d/", o.path, created.ID), nil, nil)
		if err != nil {
			return fmt.Errorf("removing %s: %w", o.what, err)
		}
		return nil
	})
	return created.ID, nil
}

// borrowDevices creates the devices of the nodes.
func (n *IPAM) borrowDevices(ctx context.Context, l *lab.Lab) error {
	named := func(path, what string, extra map[string]any) (int64, error) {
		body := map[string]any{"name": ownCluster, "slug": ownCluster}
		maps.Copy(body, extra)
		return n.ensure(ctx, loan{path: path, what: what, find: url.Values{"slug": {ownCluster}}, body: body})
	}
	site, err := named("/api/dcim/sites/", "site "+ownCluster, nil)
	if err != nil {
		return err
	}
	role, err := named("/api/dcim/device-roles/", "device role "+ownCluster, nil)
	if err != nil {
		return err
	}
	maker, err := named("/api/dcim/manufacturers/", "manufacturer "+ownCluster, nil)
	if err != nil {
		return err
	}
	model, err := n.ensure(ctx, loan{
		path: "/api/dcim/device-types/", what: "device type " + ownCluster, find: url.Values{"slug": {ownCluster}},
		body: map[string]any{"manufacturer": maker, "model": ownCluster, "slug": ownCluster},
	})
	if err != nil {
		return err
	}
	for _, node := range l.Nodes() {
		if err := n.borrowDevice(ctx, node, site, role, model); err != nil {
			return err
		}
	}
	return nil
}

// borrowDevice creates one device with an interface and its primary addresses.
func (n *IPAM) borrowDevice(ctx context.Context, node *lab.Node, site, role, model int64) error {
	device, err := n.ensure(ctx, loan{
		path: "/api/dcim/devices/", what: "device " + node.Name, find: url.Values{"name": {node.Name}, "site_id": {fmt.Sprint(site)}},
		body: map[string]any{"name": node.Name, "site": site, "role": role, "device_type": model, "status": "active"},
	})
	if err != nil {
		return err
	}
	port, err := n.ensure(ctx, loan{
		path: "/api/dcim/interfaces/", what: "interface of device " + node.Name, find: url.Values{"device_id": {fmt.Sprint(device)}},
		body: map[string]any{"device": device, "name": "eth0", "type": "virtual"},
	})
	if err != nil {
		return err
	}
	primary := map[string]any{}
	for _, a := range []netip.Addr{node.Addr(), node.Addr6()} {
		if !a.IsValid() {
			continue
		}
		id, err := n.ensure(ctx, loan{
			path: "/api/ipam/ip-addresses/", what: "address " + a.String() + " of device " + node.Name,
			find: url.Values{"interface_id": {fmt.Sprint(port)}, "address": {a.String()}},
			body: map[string]any{"address": fmt.Sprintf("%s/%d", a, a.BitLen()), "assigned_object_type": "dcim.interface", "assigned_object_id": port},
		})
		if err != nil {
			return err
		}
		if a.Is4() {
			primary["primary_ip4"] = id
		} else {
			primary["primary_ip6"] = id
		}
	}
	return n.call(ctx, http.MethodPatch, fmt.Sprintf("/api/dcim/devices/%d/", device), primary, nil)
}
