// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
)

// TestExamples shows the schema every object of deploy/examples.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../../../deploy/examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples (%v)", err)
	}
	crds := loadCRDs(t)
	seen := map[string]int{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for doc := range strings.SplitSeq(string(data), "\n---\n") {
			obj := map[string]any{}
			if err := yaml.UnmarshalStrict([]byte(doc), &obj); err != nil {
				t.Errorf("%s: %v", file, err)
				continue
			}
			kind, _ := obj["kind"].(string)
			if obj["apiVersion"] != v1alpha1.GroupVersion.String() {
				continue
			}
			seen[kind]++
			errs := newSchema(t, crds[kind]).check(t.Context(), normalise(obj).(map[string]any))
			if len(errs) > 0 {
				t.Errorf("%s: %s: %v", file, kind, errs.ToAggregate())
			}
		}
	}
	for _, kind := range []string{"LoadBalancerClass", "AddressPool", "BGPPeer"} {
		if seen[kind] == 0 {
			t.Errorf("no example of a %s", kind)
		}
	}
}

func TestClassName(t *testing.T) {
	tests := []struct {
		class, want string
		ok          bool
	}{
		{"bm-ccm.io/public", "public", true},
		{"bm-ccm.io/a.b", "a.b", true},
		{"bm-ccm.io/", "", true},
		{"other.io/public", "other.io/public", false},
		{"bm-ccm.iox/public", "bm-ccm.iox/public", false},
		{"public", "public", false},
		{"", "", false},
	}
	for _, tc := range tests {
		if got, ok := v1alpha1.ClassName(tc.class); got != tc.want || ok != tc.ok {
			t.Errorf("ClassName(%q) = %q, %t; want %q, %t", tc.class, got, ok, tc.want, tc.ok)
		}
	}
}
