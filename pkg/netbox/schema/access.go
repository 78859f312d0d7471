// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package schema

// ClusterConstraint is the filter that finds a cluster's addresses, as NetBox
// wants it in the constraints of a permission.
const ClusterConstraint = "custom_field_data__" + FieldCluster

// Access is what a cluster's token may do.
type Access struct {
	// Cluster is clusterName of the cloud configuration.
	Cluster string
	// User is the NetBox user; empty means "bm-ccm-<cluster>".
	User string
	// ReservedTenants are slugs of tenants whose addresses of status reserved
	// the cluster may take.
	ReservedTenants []string
}

// UserName is the name of the NetBox user.
func (a Access) UserName() string {
	if a.User != "" {
		return a.User
	}
	return "bm-ccm-" + a.Cluster
}

// View is a type of objects that is read.
type View struct {
	// ObjectType is the name of the type in a permission.
	ObjectType string
	// Path is where the REST API lists it, below /api/.
	Path string
	// Optional means that it is read only where a pool, a record or a node
	// needs it.
	Optional bool
}

// Views returns everything that is read.
func Views() []View {
	return []View{
		{ObjectType: "ipam.prefix", Path: "ipam/prefixes"},
		{ObjectType: "ipam.iprange", Path: "ipam/ip-ranges"},
		{ObjectType: ObjectType, Path: "ipam/ip-addresses"},
		{ObjectType: "ipam.vrf", Path: "ipam/vrfs"},
		{ObjectType: "ipam.role", Path: "ipam/roles", Optional: true},
		{ObjectType: "tenancy.tenant", Path: "tenancy/tenants", Optional: true},
		{ObjectType: "extras.tag", Path: "extras/tags", Optional: true},
		{ObjectType: "extras.customfield", Path: "extras/custom-fields"},
		{ObjectType: "dcim.device", Path: "dcim/devices"},
		{ObjectType: "dcim.devicetype", Path: "dcim/device-types", Optional: true},
		{ObjectType: "dcim.interface", Path: "dcim/interfaces", Optional: true},
		{ObjectType: "dcim.site", Path: "dcim/sites"},
		{ObjectType: "dcim.region", Path: "dcim/regions"},
		{ObjectType: "dcim.location", Path: "dcim/locations", Optional: true},
		{ObjectType: "dcim.rack", Path: "dcim/racks", Optional: true},
		{ObjectType: "virtualization.virtualmachine", Path: "virtualization/virtual-machines"},
		{ObjectType: "virtualization.vminterface", Path: "virtualization/interfaces", Optional: true},
		{ObjectType: "virtualization.cluster", Path: "virtualization/clusters", Optional: true},
	}
}

// Permission is an object permission as it is written to NetBox, but for the
// user, whom NetBox wants by id.
type Permission struct {
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Enabled     bool     `json:"enabled"`
	ObjectTypes []string `json:"object_types"`
	Actions     []string `json:"actions"`
	// Constraints are filters of which one must match; nil matches all objects.
	Constraints []map[string]any `json:"constraints"`
	// Grows means that further constraints are added to those of a permission
	// that exists. Those of others must be exactly these.
	Grows bool `json:"-"`
}

// PermissionType is the object type of permissions.
const PermissionType = "users.objectpermission"

// Permissions returns what the cluster's user is granted: to see what is read,
// to write the addresses of the cluster and no others, and to see these
// permissions, so that they can be checked.
func (a Access) Permissions() []Permission {
	user := a.UserName()
	var types []string
	for _, v := range Views() {
		types = append(types, v.ObjectType)
	}
	grant := func(what, description string, types, actions []string, constraints ...map[string]any) Permission {
		return Permission{
			Name: user + " " + what, Description: description, Enabled: true,
			ObjectTypes: types, Actions: actions, Constraints: constraints,
		}
	}
	out := []Permission{
		grant("view", "bm-ccm reads this", types, []string{"view"}),
		grant("addresses", "Fence of cluster "+a.Cluster+": its own addresses alone",
			[]string{ObjectType}, []string{"add", "change", "delete"}, map[string]any{ClusterConstraint: a.Cluster}),
		grant("permissions", "Lets bm-ccm check its own permissions",
			[]string{PermissionType}, []string{"view"}, map[string]any{"users": "$user"}),
	}
	if len(a.ReservedTenants) > 0 {
		reserved := grant("reserved", "Reserved addresses that cluster "+a.Cluster+" may take",
			[]string{ObjectType}, []string{"change"}, a.reserved()...)
		reserved.Grows = true
		out = append(out, reserved)
	}
	return out
}

// reserved finds the reserved addresses that no cluster has. Where a field
// was never set NetBox's database has no value, where it was cleared a null,
// and it compares the two differently.
func (a Access) reserved() []map[string]any {
	var out []map[string]any
	for _, slug := range a.ReservedTenants {
		for _, free := range []map[string]any{{ClusterConstraint: nil}, {ClusterConstraint + "__isnull": true}} {
			free["status"], free["tenant__slug"] = "reserved", slug
			out = append(out, free)
		}
	}
	return out
}

// Plan is everything that a NetBox must have for one cluster, but for the token.
type Plan struct {
	CustomFields []Field      `json:"customFields"`
	User         User         `json:"user"`
	Permissions  []Permission `json:"permissions"`
}

// User is a user as it is written to NetBox, but for the password.
type User struct {
	Username string `json:"username"`
}

// Plan returns what a NetBox must have for this access.
func (a Access) Plan() Plan {
	return Plan{CustomFields: Fields(), User: User{Username: a.UserName()}, Permissions: a.Permissions()}
}
