// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"net/http"
)

// Patch gives an address to a cluster, or to none, with a status.
func (c *Client) Patch(ctx context.Context, id int64, cluster any, status string) error {
	body := map[string]any{"status": status, "custom_fields": map[string]any{"k8s_cluster": cluster}}
	return c.write(ctx, http.MethodPatch, pathOf(addressesPath, id), "changing an address", body, nil)
}
