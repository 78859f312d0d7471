// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
)

// filled is a NetBox with n claims in a /16.
func filled(b *testing.B, n int) *Server {
	b.Helper()
	s := New(Options{Seed: &Seed{ClaimFields: true, Prefixes: []SeedPrefix{{Prefix: "10.0.0.0/16"}}}})
	for i := range n {
		claimOnce(b, s, i)
	}
	return s
}

func send(b *testing.B, s *Server, method, path, body string, want int) {
	b.Helper()
	r := httptest.NewRequestWithContext(b.Context(), method, path, bytes.NewReader([]byte(body)))
	r.Header.Set("Authorization", "Token "+DefaultToken)
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if w.Code != want {
		b.Fatalf("%s %s: status %d: %s", method, path, w.Code, w.Body)
	}
}

func claimOnce(b *testing.B, s *Server, i int) {
	send(b, s, "POST", "/api/ipam/prefixes/1/available-ips/",
		fmt.Sprintf(`{"prefix_length":32,"custom_fields":{"k8s_lb_claim":"c1/ns/s%d/ipv4","k8s_cluster":"c1"}}`, i), http.StatusCreated)
}

// A claim and its release, with 5000 addresses there.
func BenchmarkClaimRelease(b *testing.B) {
	s := filled(b, 5000)
	for i := 0; b.Loop(); i++ {
		claimOnce(b, s, 5000+i)
		send(b, s, "DELETE", fmt.Sprintf("/api/ipam/ip-addresses/%d/", 5001+i), "", http.StatusNoContent)
	}
}

// Look up one claim among 5000.
func BenchmarkLookup(b *testing.B) {
	s := filled(b, 5000)
	for b.Loop() {
		send(b, s, "GET", "/api/ipam/ip-addresses/?cf_k8s_lb_claim=c1/ns/s4711/ipv4&limit=2", "", http.StatusOK)
	}
}

// All 5000 records of a cluster, in pages of 1000.
func BenchmarkListCluster(b *testing.B) {
	s := filled(b, 5000)
	for b.Loop() {
		for offset := 0; offset < 5000; offset += 1000 {
			send(b, s, "GET", fmt.Sprintf("/api/ipam/ip-addresses/?cf_k8s_cluster=c1&limit=1000&ordering=id&fields=id,address,custom_fields&offset=%d", offset), "", http.StatusOK)
		}
	}
}
