// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package ipam

import "github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"

// Pool is what an Allocator needs of an AddressPool.
type Pool struct {
	Name string
	Spec v1alpha1.AddressPoolSpec
}
