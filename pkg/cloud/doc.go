// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cloud implements k8s.io/cloud-provider's Interface for bare metal:
// LoadBalancer over an ipam.Allocator and InstancesV2 over NetBox DCIM, so that
// the upstream control loops can call it unmodified.
//
// Beside the interface stand the parts that upstream leaves out: the class view
// (classview.go), which shows the service controller exactly the Services that
// are ours; the service controller's wiring (services.go); the ledger
// (ledger.go), which compares the records of claims with the live Services; and
// the status of pools and classes (status.go).
package cloud
