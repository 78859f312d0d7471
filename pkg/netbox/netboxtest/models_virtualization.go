// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

// newClusterType describes kinds of clusters.
func newClusterType() *model {
	return &model{
		ctype: "virtualization.clustertype", name: "ClusterType", path: "virtualization/cluster-types",
		brief: nameSlugBrief, search: words("name slug description"),
		fields: join([]field{need(only1(text("name", 100))), slug()}, common()),
		order:  byText("name"),
	}
}

// newCluster describes clusters of virtual machines.
func newCluster() *model {
	return &model{
		ctype: "virtualization.cluster", name: "Cluster", path: "virtualization/clusters",
		brief: nameBrief, search: words("name description comments"),
		fields: join([]field{
			need(text("name", 100)), need(protect(ref("type", "virtualization/cluster-types"))),
			pick("status", "active", "planned", "staging", "active", "decommissioning", "offline"),
			protect(ref("tenant", "tenancy/tenants")),
			orNull(text("scope_type", 100)), number("scope_id"),
			computed("scope", func(_ *Server, a *answer, o *object) any {
				return a.generic(o.str("scope_type"), o.num("scope_id"))
			}),
		}, common()),
		order: byText("name"),
	}
}

// newVirtualMachine describes virtual machines, which belong to a site, a cluster or
// both.
func newVirtualMachine() *model {
	return &model{
		ctype: "virtualization.virtualmachine", name: "VirtualMachine", path: "virtualization/virtual-machines",
		brief: nameBrief, search: words("name description comments serial"),
		fields: join([]field{
			{name: "name", kind: textField, max: 64, required: true, foldCase: true},
			ref("role", "dcim/device-roles"),
			pick("status", "active", append(words("offline active planned staged failed"), "decommissioning", "paused")...),
			protect(ref("site", "dcim/sites")), protect(ref("cluster", "virtualization/clusters")),
			protect(ref("device", "dcim/devices")), ref("platform", "dcim/platforms"),
		}, primaries(), []field{
			{name: "vcpus", kind: floatField, nullable: true}, number("memory"), number("disk"),
			text("serial", 50), protect(ref("tenant", "tenancy/tenants")),
			{name: "local_context_data", kind: jsonField, nullable: true},
			computed("config_context", func(_ *Server, _ *answer, o *object) any { return contextOf(o) }),
			computed("interface_count", func(s *Server, _ *answer, o *object) any {
				return s.countRefs(vmInterface, "virtual_machine", o.id)
			}),
		}, common(), counts("virtual_disk_count")),
		order: byText("name"), clean: cleanMachine, special: machineFilters,
	}
}

// newVMInterface describes interfaces of virtual machines.
func newVMInterface() *model {
	return &model{
		ctype: "virtualization.vminterface", name: "VMInterface", path: "virtualization/interfaces",
		brief: words("id url display virtual_machine name description"), search: words("name description"),
		fields: join([]field{
			need(cascade(ref("virtual_machine", "virtualization/virtual-machines"))), need(text("name", 64)),
			flag("enabled", true), number("mtu"), protect(ref("vrf", "ipam/vrfs")), text("description", 200),
			addressCount(),
		}, counts("count_fhrp_groups")),
		order: byText("name"),
	}
}
