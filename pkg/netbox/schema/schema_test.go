// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestVersions(t *testing.T) {
	for version, want := range map[string]string{
		"4.4.0": "", "4.7.3": "", "4.10.0-beta1": "", "5.0": "",
		"4.3.9": "too old", "3.7.8": "too old", "": "check netbox.url", "next": "check netbox.url",
	} {
		if got := VersionMistake(version); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%q: got %q, want %q", version, got, want)
		}
	}
}

// TestPlanHasNoSurprises is what an administrator reads before applying it.
func TestPlanHasNoSurprises(t *testing.T) {
	raw, err := json.Marshal(Access{Cluster: "prod-1", User: "svc", ReservedTenants: []string{"stock"}}.Plan())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"user":{"username":"svc"}`,
		`{"object_types":["ipam.ipaddress"],"name":"k8s_lb_claim","label":"Kubernetes claim"`,
		`"actions":["add","change","delete"],"constraints":[{"custom_field_data__k8s_cluster":"prod-1"}]`,
		`{"custom_field_data__k8s_cluster__isnull":true,"status":"reserved","tenant__slug":"stock"}`,
		`"name":"svc view"`, `"actions":["view"],"constraints":null`,
	} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("the plan lacks %s:\n%s", want, raw)
		}
	}
}
