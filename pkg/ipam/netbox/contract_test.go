// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox_test

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox/contracttest"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/netboxtest"
)

const fencedToken = "fenced0123456789abcdef0123456789abcdef01"

// start runs a NetBox in memory with an administrator's and a fenced token.
func start(t *testing.T, opts netboxtest.Options) (*netboxtest.Server, contracttest.Target) {
	t.Helper()
	opts.Tokens = []netboxtest.Token{
		{User: "admin", Key: netboxtest.DefaultToken, Superuser: true},
		{User: "lab", Key: fencedToken, Permissions: netboxtest.FencedPermissions("lab")},
	}
	if opts.Seed == nil {
		opts.Seed = &netboxtest.Seed{ClaimFields: true}
	}
	srv := netboxtest.New(opts)
	hs := httptest.NewServer(srv)
	t.Cleanup(func() {
		srv.ClearFaults()
		hs.Close()
		for _, v := range srv.Violations() {
			t.Errorf("a request that NetBox would not stand: %s", v)
		}
	})
	return srv, contracttest.Target{URL: hs.URL, TokenFile: writeToken(t, fencedToken), AdminToken: netboxtest.DefaultToken, Cluster: "lab"}
}

func writeToken(t *testing.T, token string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestContract(t *testing.T) {
	for _, version := range []string{"4.4", "4.5", "4.6", "4.7"} {
		t.Run(version, func(t *testing.T) {
			_, target := start(t, netboxtest.Options{Version: version})
			contracttest.Run(t, target)
		})
	}
}
