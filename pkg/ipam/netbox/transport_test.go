// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"crypto/x509"
	"encoding/pem"
	"net/http/httptest"
	"testing"
)

// TestCAFileReplacesTheSystems: who names an authority wants no other.
func TestCAFileReplacesTheSystems(t *testing.T) {
	srv := httptest.NewTLSServer(nil)
	defer srv.Close()
	want := x509.NewCertPool()
	want.AddCert(srv.Certificate())
	got, err := trustedRoots(write(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}))))
	if err != nil || !got.Equal(want) {
		t.Errorf("trusted is more, or other, than the file has (%v)", err)
	}
	if got, err = trustedRoots(""); got != nil || err != nil {
		t.Errorf("without a file: %v, %v, want the system's", got, err)
	}
}
