// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package schema

// The custom fields on ipam.ipaddress that say who owns an address. Their names
// are in every NetBox that bm-ccm was used with: under others it would find
// none of its claims again.
const (
	// FieldClaim holds the claim key; no two addresses have the same.
	FieldClaim = "k8s_lb_claim"
	// FieldCluster holds the name of the cluster. Permissions are fenced by it.
	FieldCluster = "k8s_cluster"
	// FieldClusterUID tells two clusters of one name apart.
	FieldClusterUID = "k8s_cluster_uid"
	// FieldServiceUID is empty while the address is kept for a Service that does
	// not have it.
	FieldServiceUID = "k8s_service_uid"
	// FieldClass holds the LoadBalancerClass.
	FieldClass = "k8s_lb_class"
	// FieldRelease says what becomes of the record when its Service releases
	// it: ReleaseDelete, ReleaseKeep or ReleaseReturn.
	FieldRelease = "k8s_lb_release"
)

// The values of FieldRelease. Only what bm-ccm has created is deleted.
const (
	// ReleaseDelete (also an empty field) deletes the record.
	ReleaseDelete = "delete"
	// ReleaseKeep keeps the record with its claim, for a Service of that name:
	// somebody else created it for this one.
	ReleaseKeep = "keep"
	// ReleaseReturn keeps the record without its claim: it is one of the
	// reserved addresses of a pool.
	ReleaseReturn = "return"
)

// ObjectType is what the fields are on.
const ObjectType = "ipam.ipaddress"

// fieldType is the type of all the fields: NetBox compares text exactly, and a
// text can be cleared.
const fieldType = "text"

// Field is a custom field as it is written to NetBox.
type Field struct {
	ObjectTypes []string `json:"object_types"`
	Name        string   `json:"name"`
	Label       string   `json:"label"`
	GroupName   string   `json:"group_name"`
	Description string   `json:"description"`
	Type        string   `json:"type"`
	Unique      bool     `json:"unique"`
	// FilterLogic must be exact: NetBox's default finds every claim that
	// contains the text.
	FilterLogic string `json:"filter_logic"`
	UIVisible   string `json:"ui_visible"`
	UIEditable  string `json:"ui_editable"`
}

// Fields returns the custom fields, all of which must exist.
func Fields() []Field {
	field := func(name, label, description, editable string) Field {
		return Field{
			ObjectTypes: []string{ObjectType}, Name: name, Label: label, GroupName: "Kubernetes", Description: description,
			Type: fieldType, Unique: name == FieldClaim, FilterLogic: "exact", UIVisible: "if-set", UIEditable: editable,
		}
	}
	return []Field{
		field(FieldClaim, "Kubernetes claim", "<cluster>/<namespace>/<service>/<ipv4|ipv6>", "yes"),
		field(FieldCluster, "Kubernetes cluster", "Cluster that the address is for", "yes"),
		field(FieldClusterUID, "Kubernetes cluster UID", "UID of the cluster's kube-system namespace", "no"),
		field(FieldServiceUID, "Kubernetes Service UID", "UID of the Service that has the address", "no"),
		field(FieldClass, "Kubernetes load balancer class", "LoadBalancerClass of the Service", "no"),
		field(FieldRelease, "Kubernetes release", "What becomes of this record without its Service: delete, keep or return", "yes"),
	}
}
