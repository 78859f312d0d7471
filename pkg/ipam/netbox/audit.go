// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// Audit implements ipam.Allocator.
func (a *Allocator) Audit(ctx context.Context, _ []ipam.Pool) (ipam.Report, error) {
	claims, err := a.List(ctx)
	return ipam.Report{Claims: claims}, err
}
