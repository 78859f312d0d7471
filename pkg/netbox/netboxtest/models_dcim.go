// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

var (
	nameSlugBrief = words("id url display name slug description")
	nameBrief     = words("id url display name description")
)

// depth is that of a row without parents.
func depth(*Server, *answer, *object) any { return 0 }

// treeDepth counts the parents of a row.
func treeDepth(m func() *model) field {
	return computed("_depth", func(s *Server, _ *answer, o *object) any {
		n := 0
		for p := o.num("parent"); p != 0 && n < 100; n++ {
			p = s.tables[m()].rows[p].num("parent")
		}
		return n
	})
}

// newRegion describes regions. They form a tree; filters by one do not look into
// those below it here.
func newRegion() *model {
	return &model{
		ctype: "dcim.region", name: "Region", path: "dcim/regions",
		brief: words("id url display name slug description _depth"), search: words("name slug description"),
		fields: join([]field{need(text("name", 100)), slug(), cascade(ref("parent", "dcim/regions"))}, common(),
			[]field{treeDepth(func() *model { return region })}),
		order: byText("name"),
	}
}

// newSiteGroup describes groups of sites.
func newSiteGroup() *model {
	return &model{
		ctype: "dcim.sitegroup", name: "SiteGroup", path: "dcim/site-groups",
		brief: words("id url display name slug description _depth"), search: words("name slug description"),
		fields: join([]field{need(text("name", 100)), slug(), cascade(ref("parent", "dcim/site-groups"))}, common(),
			[]field{treeDepth(func() *model { return siteGroup })}),
		order: byText("name"),
	}
}

// newSite describes sites. Nested in a device a site does not show its region, so
// clients have to ask for the site itself.
func newSite() *model {
	return &model{
		ctype: "dcim.site", name: "Site", path: "dcim/sites",
		brief: nameSlugBrief, search: words("name slug facility description comments"),
		fields: join([]field{
			need(only1(text("name", 100))), slug(),
			pick("status", "active", "planned", "staging", "active", "decommissioning", "retired"),
			ref("region", "dcim/regions"), ref("group", "dcim/site-groups"), protect(ref("tenant", "tenancy/tenants")),
			text("facility", 50), orNull(text("time_zone", 100)),
			text("physical_address", 200), text("shipping_address", 200),
			{name: "latitude", kind: floatField, nullable: true}, {name: "longitude", kind: floatField, nullable: true},
		}, common(), []field{computed("asns", func(*Server, *answer, *object) any { return []doc{} })}),
		order: byText("name"),
	}
}

// newLocation describes locations within a site.
func newLocation() *model {
	return &model{
		ctype: "dcim.location", name: "Location", path: "dcim/locations",
		brief: words("id url display name slug description _depth"), search: words("name slug facility description"),
		fields: join([]field{
			need(text("name", 100)), {name: "slug", kind: slugField, required: true, max: 100, pattern: slugPattern},
			need(cascade(ref("site", "dcim/sites"))), cascade(ref("parent", "dcim/locations")),
			pick("status", "active", "planned", "staging", "active", "decommissioning", "retired"),
			protect(ref("tenant", "tenancy/tenants")), text("facility", 50),
		}, common(), []field{treeDepth(func() *model { return location })}),
		order: byText("name"),
	}
}

// newRack describes racks.
func newRack() *model {
	return &model{
		ctype: "dcim.rack", name: "Rack", path: "dcim/racks",
		brief: nameBrief, search: words("name facility_id serial asset_tag description"),
		fields: join([]field{
			need(text("name", 100)), orNull(text("facility_id", 50)), need(protect(ref("site", "dcim/sites"))),
			ref("location", "dcim/locations"), protect(ref("tenant", "tenancy/tenants")),
			pick("status", "active", "reserved", "available", "planned", "active", "deprecated"),
			text("serial", 50), only1(orNull(text("asset_tag", 50))),
			{name: "u_height", kind: intField, def: int64(42)},
		}, common()),
		order: byText("name"),
	}
}

// newManufacturer describes makers of hardware.
func newManufacturer() *model {
	return &model{
		ctype: "dcim.manufacturer", name: "Manufacturer", path: "dcim/manufacturers",
		brief: nameSlugBrief, search: words("name slug description"),
		fields: join([]field{need(only1(text("name", 100))), slug()}, common()),
		order:  byText("name"),
	}
}

// newPlatform describes operating systems.
func newPlatform() *model {
	return &model{
		ctype: "dcim.platform", name: "Platform", path: "dcim/platforms",
		brief: nameSlugBrief, search: words("name slug description"),
		fields: join([]field{need(text("name", 100)), slug(), protect(ref("manufacturer", "dcim/manufacturers"))}, common()),
		order:  byText("name"),
	}
}

// newDeviceRole describes what devices are for.
func newDeviceRole() *model {
	return &model{
		ctype: "dcim.devicerole", name: "DeviceRole", path: "dcim/device-roles",
		brief: words("id url display name slug description _depth"), search: words("name slug description"),
		fields: join([]field{need(text("name", 100)), slug(), color(), flag("vm_role", true)}, common(),
			[]field{computed("_depth", depth)}),
		order: byText("name"),
	}
}

// color is what the web interface paints a row with.
func color() field {
	return field{name: "color", kind: textField, max: 6, def: "9e9e9e", pattern: hexColor}
}

// newDeviceType describes models of hardware. What a Node has as its instance type is
// the slug.
func newDeviceType() *model {
	return &model{
		ctype: "dcim.devicetype", name: "DeviceType", path: "dcim/device-types",
		brief: words("id url display manufacturer model slug description"), search: words("model slug part_number description"),
		fields: join([]field{
			need(protect(ref("manufacturer", "dcim/manufacturers"))), need(text("model", 100)), slug(),
			text("part_number", 50), {name: "u_height", kind: floatField, def: 1.0}, flag("is_full_depth", true),
		}, common(), counts("console_port_template_count", "console_server_port_template_count", "power_port_template_count",
			"power_outlet_template_count", "interface_template_count", "front_port_template_count", "rear_port_template_count",
			"device_bay_template_count", "module_bay_template_count", "inventory_item_template_count")),
		display: func(_ *Server, o *object) string { return o.str("model") },
		order:   byText("model"),
	}
}

// primaries are the fields that name the addresses of a machine.
func primaries() []field {
	return []field{
		computed("primary_ip", primaryIP),
		computedRef("primary_ip4"), computedRef("primary_ip6"),
	}
}

// computedRef is a reference to an address. Nested in machines those show what they
// are translated to, from 4.6 on.
func computedRef(name string) field {
	f := ref(name, "ipam/ip-addresses")
	f.nested = words("id url display family address description nat_outside")
	return f
}

// primaryIP is the primary address that NetBox prefers: IPv6, where there is one.
func primaryIP(s *Server, a *answer, o *object) any {
	for _, n := range []string{"primary_ip6", "primary_ip4"} {
		if id := o.num(n); id != 0 {
			return a.ref(device.field(n), id)
		}
	}
	return nil
}

// deviceStatuses are what people plan for a device; NetBox does not look whether it
// runs.
var deviceStatuses = words("offline active planned staged failed inventory decommissioning")

// newDevice describes devices. A name may be missing, and is not unique.
func newDevice() *model {
	return &model{
		ctype: "dcim.device", name: "Device", path: "dcim/devices",
		brief: nameBrief, search: words("name serial asset_tag description comments"),
		fields: join([]field{
			{name: "name", kind: textField, max: 64, nullable: true, def: "", foldCase: true},
			need(protect(ref("device_type", "dcim/device-types"))), need(protect(ref("role", "dcim/device-roles"))),
			protect(ref("tenant", "tenancy/tenants")), ref("platform", "dcim/platforms"),
			text("serial", 50), only1(orNull(text("asset_tag", 50))),
			need(protect(ref("site", "dcim/sites"))), protect(ref("location", "dcim/locations")), protect(ref("rack", "dcim/racks")),
			{name: "position", kind: floatField, nullable: true}, pick("face", "", "front", "rear"),
			{name: "latitude", kind: floatField, nullable: true}, {name: "longitude", kind: floatField, nullable: true},
		}, unset("parent_device"), []field{pick("status", "active", deviceStatuses...)}, unset("airflow"),
			primaries(), []field{computedRef("oob_ip"), ref("cluster", "virtualization/clusters")},
			unset("virtual_chassis", "vc_position", "vc_priority"), common(), unset("config_template"),
			[]field{
				computed("config_context", func(_ *Server, _ *answer, o *object) any { return contextOf(o) }),
				{name: "local_context_data", kind: jsonField, nullable: true},
			},
			counts("console_port_count", "console_server_port_count", "power_port_count", "power_outlet_count"),
			[]field{computed("interface_count", func(s *Server, _ *answer, o *object) any {
				return s.countRefs(iface, "device", o.id)
			})},
			counts("front_port_count", "rear_port_count", "device_bay_count", "module_bay_count", "inventory_item_count")),
		order: byText("name"),
		display: func(s *Server, o *object) string {
			if n := o.str("name"); n != "" {
				return n
			}
			return s.displayOf("dcim/device-types", o.num("device_type"))
		},
		clean: cleanDevice, special: machineFilters,
	}
}

// contextOf is the merged configuration of a machine, here its own data alone.
func contextOf(o *object) any {
	if v := o.vals["local_context_data"]; v != nil {
		return v
	}
	return doc{}
}

// newIface describes interfaces of devices.
func newIface() *model {
	return &model{
		ctype: "dcim.interface", name: "Interface", path: "dcim/interfaces",
		brief: words("id url display device name description"), search: words("name label description"),
		fields: join([]field{
			need(cascade(ref("device", "dcim/devices"))), need(text("name", 64)), text("label", 64),
			need(pick("type", "", "virtual", "bridge", "lag=Link Aggregation Group (LAG)", "1000base-t=1000BASE-T (1GE)",
				"10gbase-t=10GBASE-T (10GE)", "10gbase-x-sfpp=SFP+ (10GE)", "25gbase-x-sfp28=SFP28 (25GE)",
				"100gbase-x-qsfp28=QSFP28 (100GE)", "other")),
			flag("enabled", true), number("mtu"), flag("mgmt_only", false), protect(ref("vrf", "ipam/vrfs")),
			text("description", 200),
		}, emptyLinks(), []field{addressCount()}, counts("count_fhrp_groups"), occupied()),
		order: byText("name"),
	}
}

// emptyLinks are what cables would tell.
func emptyLinks() []field {
	return []field{
		computed("link_peers", func(*Server, *answer, *object) any { return []doc{} }),
		computed("connected_endpoints_reachable", func(*Server, *answer, *object) any { return nil }),
	}
}

// occupied is whether something is plugged in, which nothing ever is here.
func occupied() []field {
	return []field{computed("_occupied", func(*Server, *answer, *object) any { return false })}
}

// addressCount is the number of addresses on an interface.
func addressCount() field {
	return computed("count_ipaddresses", func(s *Server, _ *answer, o *object) any {
		return s.countRefs(ipAddress, "assigned_object_id", o.id)
	})
}
