// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// hostOrNet reads "10.0.0.1" or "10.0.0.1/24"; hasMask tells which it was.
func hostOrNet(v string) (p netip.Prefix, hasMask bool, err error) {
	if strings.Contains(v, "/") {
		p, err = netip.ParsePrefix(v)
		if err != nil {
			return p, true, fmt.Errorf("reading %q: %w", v, err)
		}
		return p, true, nil
	}
	a, err := netip.ParseAddr(v)
	if err != nil {
		return p, false, fmt.Errorf("reading %q: %w", v, err)
	}
	return netip.PrefixFrom(a, a.BitLen()), false, nil
}

// netFilter makes a filter from networks or hosts. Values that are neither
// match nothing.
func netFilter(match func(o *object, want netip.Prefix, hasMask bool) bool) filterFunc {
	type net struct {
		p       netip.Prefix
		hasMask bool
	}
	return func(_ *Server, values []string) (rowFilter, string) {
		var nets []net
		for _, v := range values {
			if p, hasMask, err := hostOrNet(v); err == nil {
				nets = append(nets, net{p, hasMask})
			}
		}
		return func(o *object) bool {
			return slices.ContainsFunc(nets, func(n net) bool { return match(o, n.p, n.hasMask) })
		}, ""
	}
}

// inside reports whether p lies in outer, or is it.
func inside(p, outer netip.Prefix) bool {
	return outer.Masked().Contains(p.Addr()) && p.Bits() >= outer.Bits()
}

// maskFilters are family and mask length of a field.
func maskFilters(name string, into map[string]filterFunc) map[string]filterFunc {
	into["family"] = func(_ *Server, values []string) (rowFilter, string) {
		want := values[len(values)-1]
		if want != "4" && want != "6" {
			return nil, invalidChoice(want)
		}
		return func(o *object) bool { return o.prefix(name).Addr().Is4() == (want == "4") }, ""
	}
	for _, op := range []string{"", "gte", "lte", "gt", "lt"} {
		key := strings.TrimSuffix("mask_length__"+op, "__")
		into[key] = func(_ *Server, values []string) (rowFilter, string) {
			return numberFilter(op, values, func(o *object) (int64, bool) { return int64(o.prefix(name).Bits()), true })
		}
	}
	return into
}

// addressFilters are the filters of addresses beyond their fields. A host without a
// mask finds it with any.
var addressFilters = maskFilters("address", map[string]filterFunc{
	"address": netFilter(func(o *object, want netip.Prefix, hasMask bool) bool {
		return o.prefix("address").Addr() == want.Addr() && (!hasMask || o.prefix("address") == want)
	}),
	"parent": netFilter(func(o *object, want netip.Prefix, _ bool) bool { // by the host: its mask does not count
		return want.Masked().Contains(o.prefix("address").Addr())
	}),
	"assigned_to_interface": func(_ *Server, values []string) (rowFilter, string) {
		return boolFilter(values, func(o *object) bool { return o.num("assigned_object_id") != 0 })
	},
	"assigned": func(_ *Server, values []string) (rowFilter, string) {
		return boolFilter(values, func(o *object) bool { return o.num("assigned_object_id") != 0 })
	},
	"device_id":          assignedFilter("dcim.interface", "device", true),
	"device":             assignedFilter("dcim.interface", "device", false),
	"virtual_machine_id": assignedFilter("virtualization.vminterface", "virtual_machine", true),
	"virtual_machine":    assignedFilter("virtualization.vminterface", "virtual_machine", false),
	"interface_id":       interfaceFilter("dcim.interface"),
	"vminterface_id":     interfaceFilter("virtualization.vminterface"),
})

// assignedFilter finds addresses by the machine whose interface they are on.
func assignedFilter(ctype, parent string, byID bool) filterFunc {
	return func(s *Server, values []string) (rowFilter, string) {
		t := s.tables[byType[ctype]]
		var machines []int64
		for _, v := range values {
			ids := s.targets(byPath[t.m.field(parent).to], byID, v)
			if len(ids) == 0 {
				return nil, invalidChoice(v)
			}
			machines = append(machines, ids...)
		}
		return func(o *object) bool {
			i := t.rows[o.num("assigned_object_id")]
			return o.str("assigned_object_type") == ctype && i != nil && slices.Contains(machines, i.num(parent))
		}, ""
	}
}

// interfaceFilter finds the addresses on one interface.
func interfaceFilter(ctype string) filterFunc {
	return func(s *Server, values []string) (rowFilter, string) {
		for _, v := range values {
			if len(s.targets(byType[ctype], true, v)) == 0 {
				return nil, invalidChoice(v)
			}
		}
		return func(o *object) bool {
			return o.str("assigned_object_type") == ctype &&
				slices.Contains(values, strconv.FormatInt(o.num("assigned_object_id"), 10))
		}, ""
	}
}

// prefixFilters are the filters of prefixes beyond their fields.
var prefixFilters = maskFilters("prefix", map[string]filterFunc{
	"prefix": netFilter(func(o *object, want netip.Prefix, _ bool) bool { return o.prefix("prefix") == want }),
	"within": netFilter(func(o *object, want netip.Prefix, _ bool) bool {
		return inside(o.prefix("prefix"), want) && o.prefix("prefix") != want.Masked()
	}),
	"within_include": netFilter(func(o *object, want netip.Prefix, _ bool) bool { return inside(o.prefix("prefix"), want) }),
	"contains":       netFilter(func(o *object, want netip.Prefix, _ bool) bool { return inside(want, o.prefix("prefix")) }),
	"site_id":        scopeFilter("dcim.site", true),
	"site":           scopeFilter("dcim.site", false),
	"region_id":      scopeFilter("dcim.region", true),
	"region":         scopeFilter("dcim.region", false),
	"location_id":    scopeFilter("dcim.location", true),
	"location":       scopeFilter("dcim.location", false),
})

// scopeFilter finds prefixes by the place that they are scoped to. Prefixes of
// places within it are not found, unlike in NetBox.
func scopeFilter(ctype string, byID bool) filterFunc {
	return func(s *Server, values []string) (rowFilter, string) {
		var want []int64
		for _, v := range values {
			ids := s.targets(byType[ctype], byID, v)
			if len(ids) == 0 {
				return nil, invalidChoice(v)
			}
			want = append(want, ids...)
		}
		return func(o *object) bool {
			return o.str("scope_type") == ctype && slices.Contains(want, o.num("scope_id"))
		}, ""
	}
}

// rangeFilters are the filters of ranges beyond their fields.
var rangeFilters = maskFilters("start_address", map[string]filterFunc{
	"start_address": netFilter(func(o *object, want netip.Prefix, hasMask bool) bool {
		return o.prefix("start_address").Addr() == want.Addr() && (!hasMask || o.prefix("start_address") == want)
	}),
	"end_address": netFilter(func(o *object, want netip.Prefix, hasMask bool) bool {
		return o.prefix("end_address").Addr() == want.Addr() && (!hasMask || o.prefix("end_address") == want)
	}),
	"contains": netFilter(func(o *object, want netip.Prefix, _ bool) bool {
		return inRange(o, want.Addr())
	}),
	"parent": netFilter(func(o *object, want netip.Prefix, _ bool) bool {
		return inside(o.prefix("start_address"), want) && inside(o.prefix("end_address"), want)
	}),
})

// machineFilters are the filters of devices and virtual machines beyond their fields.
var machineFilters = map[string]filterFunc{
	"has_primary_ip": func(_ *Server, values []string) (rowFilter, string) {
		return boolFilter(values, func(o *object) bool { return o.num("primary_ip4") != 0 || o.num("primary_ip6") != 0 })
	},
}

// customFieldFilters are the filters of custom fields beyond their fields.
var customFieldFilters = map[string]filterFunc{
	"object_type": func(_ *Server, values []string) (rowFilter, string) {
		return func(o *object) bool {
			return slices.ContainsFunc(values, func(v string) bool { return slices.Contains(o.strs("object_types"), v) })
		}, ""
	},
}
