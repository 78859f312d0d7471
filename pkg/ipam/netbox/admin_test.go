// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox/contracttest"
)

// admin sends a request as NetBox's administrator and returns the answer.
func admin(t *testing.T, method, url string, target contracttest.Target) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Token "+target.AdminToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
