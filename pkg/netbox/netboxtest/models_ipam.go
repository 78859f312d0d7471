// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

import (
	"cmp"
	"net/netip"
)

// newTenant describes tenants.
func newTenant() *model {
	return &model{
		ctype: "tenancy.tenant", name: "Tenant", path: "tenancy/tenants",
		brief:  words("id url display name slug description"),
		search: words("name slug description comments"),
		fields: join(
			[]field{need(only1(text("name", 100))), slug()},
			unset("group"), common(),
		),
		order: byText("name"),
	}
}

// newVrf describes VRFs. Names are not unique; route distinguishers are.
func newVrf() *model {
	return &model{
		ctype: "ipam.vrf", name: "VRF", path: "ipam/vrfs",
		brief:  words("id url display name rd description"),
		search: words("name rd description comments"),
		fields: join(
			[]field{
				need(text("name", 100)), only1(orNull(text("rd", 21))), protect(ref("tenant", "tenancy/tenants")),
				flag("enforce_unique", true),
			},
			common(),
		),
		order: byText("name"),
		display: func(_ *Server, o *object) string {
			if rd := o.str("rd"); rd != "" {
				return o.str("name") + " (" + rd + ")"
			}
			return o.str("name")
		},
	}
}

// newIpamRole describes roles of prefixes and ranges, which are not the fixed roles of
// addresses.
func newIpamRole() *model {
	return &model{
		ctype: "ipam.role", name: "Role", path: "ipam/roles",
		brief:  words("id url display name slug description"),
		search: words("name slug description"),
		fields: join(
			[]field{need(only1(text("name", 100))), slug(), {name: "weight", kind: intField, def: int64(1000)}},
			common(),
		),
	}
}

// newPrefix describes prefixes. Neither status nor the mark of utilisation keeps
// NetBox from handing out addresses of one.
func newPrefix() *model {
	return &model{
		ctype: "ipam.prefix", name: "Prefix", path: "ipam/prefixes",
		brief:  words("id url display family prefix description _depth"),
		search: words("description"),
		fields: join(
			[]field{
				computed("family", func(_ *Server, _ *answer, o *object) any { return familyChoice(o.prefix("prefix").Addr()) }),
				need(field{name: "prefix", kind: prefixField}),
				protect(ref("vrf", "ipam/vrfs")),
				orNull(text("scope_type", 100)), number("scope_id"),
				computed("scope", func(s *Server, a *answer, o *object) any {
					return a.generic(o.str("scope_type"), o.num("scope_id"))
				}),
				protect(ref("tenant", "tenancy/tenants")),
			},
			unset("vlan"),
			[]field{
				pick("status", "active", "container", "active", "reserved", "deprecated"),
				ref("role", "ipam/roles"),
				flag("is_pool", false), flag("mark_utilized", false),
			},
			common(),
			[]field{
				computed("children", func(s *Server, _ *answer, o *object) any { return s.childPrefixes(o) }),
				computed("_depth", func(s *Server, _ *answer, o *object) any { return s.prefixDepth(o) }),
			},
		),
		order: func(_ *Server, a, b *object) int {
			return cmp.Or(cmp.Compare(a.num("vrf"), b.num("vrf")), comparePrefix(a.prefix("prefix"), b.prefix("prefix")))
		},
		display: func(_ *Server, o *object) string { return o.prefix("prefix").String() },
		clean:   cleanPrefix,
		special: prefixFilters,
		onWrite: func(s *Server) { s.space.forget() },
	}
}

// newIPRange describes IP ranges, whose ends carry a mask.
func newIPRange() *model {
	return &model{
		ctype: "ipam.iprange", name: "IPRange", path: "ipam/ip-ranges",
		brief:  words("id url display family start_address end_address description"),
		search: words("description"),
		fields: join(
			[]field{
				computed("family", func(_ *Server, _ *answer, o *object) any { return familyChoice(o.prefix("start_address").Addr()) }),
				need(field{name: "start_address", kind: addressField}),
				need(field{name: "end_address", kind: addressField}),
				computed("size", func(_ *Server, _ *answer, o *object) any {
					return rangeSize(o.prefix("start_address").Addr(), o.prefix("end_address").Addr())
				}),
				protect(ref("vrf", "ipam/vrfs")), protect(ref("tenant", "tenancy/tenants")),
				pick("status", "active", "active", "reserved", "deprecated"),
				ref("role", "ipam/roles"),
			},
			common(),
			[]field{flag("mark_populated", false), flag("mark_utilized", false)},
		),
		order: func(_ *Server, a, b *object) int {
			return cmp.Or(cmp.Compare(a.num("vrf"), b.num("vrf")),
				a.prefix("start_address").Addr().Compare(b.prefix("start_address").Addr()))
		},
		display: func(_ *Server, o *object) string { return rangeText(o) },
		clean:   cleanRange,
		special: rangeFilters,
		onWrite: func(s *Server) { s.space.forget() },
	}
}

// exemptRoles are the roles that several records of one address may have.
var exemptRoles = map[string]bool{"anycast": true, "vip": true, "vrrp": true, "hsrp": true, "glbp": true, "carp": true}

// newIPAddress describes addresses. vip and its like are exempt from being unique, which
// is why bm-ccm sets no role.
func newIPAddress() *model {
	return &model{
		ctype: "ipam.ipaddress", name: "IPAddress", path: "ipam/ip-addresses",
		brief:  words("id url display family address description"),
		search: words("dns_name description"),
		fields: join(
			[]field{
				computed("family", func(_ *Server, _ *answer, o *object) any { return familyChoice(o.prefix("address").Addr()) }),
				need(field{name: "address", kind: addressField}),
				protect(ref("vrf", "ipam/vrfs")), protect(ref("tenant", "tenancy/tenants")),
				pick("status", "active", "active", "reserved", "deprecated", "dhcp=DHCP", "slaac=SLAAC"),
				pick("role", "", "loopback", "secondary", "anycast", "vip=VIP", "vrrp=VRRP", "hsrp=HSRP", "glbp=GLBP", "carp=CARP"),
				orNull(text("assigned_object_type", 100)), number("assigned_object_id"),
				computed("assigned_object", func(s *Server, a *answer, o *object) any {
					return a.generic(o.str("assigned_object_type"), o.num("assigned_object_id"))
				}),
				nestedAs(ref("nat_inside", "ipam/ip-addresses"), "id url display_url display family address"),
				computed("nat_outside", natOutside),
				{name: "dns_name", kind: textField, max: 255, def: "", lower: true, pattern: dnsPattern},
			},
			common(),
		),
		order: func(_ *Server, a, b *object) int {
			return cmp.Or(a.prefix("address").Addr().Compare(b.prefix("address").Addr()), cmp.Compare(a.id, b.id))
		},
		display: func(_ *Server, o *object) string { return o.prefix("address").String() },
		clean:   cleanAddress,
		special: addressFilters,
	}
}

// nestedAs chooses what of a reference's target answers show.
func nestedAs(f field, fields string) field { f.nested = words(fields); return f }

// natOutside are the addresses that are translated to one.
func natOutside(s *Server, a *answer, o *object) any {
	out := []doc{}
	for _, id := range s.natOutside[o.id] {
		out = append(out, a.fields(s.tables[ipAddress], s.tables[ipAddress].rows[id],
			words("id url display_url display family address")))
	}
	return out
}

// familyChoice is an IP family as NetBox shows it: a choice whose value is a number.
func familyChoice(a netip.Addr) doc {
	if a.Is4() {
		return doc{{"value", 4}, {"label", "IPv4"}}
	}
	return doc{{"value", 6}, {"label", "IPv6"}}
}

// comparePrefix sorts by address, the shorter mask first.
func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// byText sorts rows by a text, and by id where those are equal.
func byText(name string) func(*Server, *object, *object) int {
	return func(_ *Server, a, b *object) int {
		return cmp.Or(cmp.Compare(a.str(name), b.str(name)), cmp.Compare(a.id, b.id))
	}
}
