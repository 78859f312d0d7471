// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package houserules

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

// root is the root of the repository, seen from this package.
const root = "../.."

func loadRepository(t *testing.T) *Tree {
	t.Helper()
	tree, err := Load(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	// A walk that finds little would let every rule pass.
	seen := map[string]bool{}
	for _, f := range tree.goFiles {
		seen[f.dir()] = true
		if within(f.path, "conformance") {
			seen["conformance"] = true
		}
	}
	for _, dir := range []string{"cmd/bm-ccm", "pkg/api/v1alpha1", "conformance"} {
		if !seen[dir] {
			t.Fatalf("the walk from %s did not find %s", root, dir)
		}
	}
	return tree
}

func exists(p string) bool {
	_, err := os.Stat(filepath.Join(root, p))
	return err == nil
}

func TestRepository(t *testing.T) {
	tree := loadRepository(t)
	rules := []struct {
		name string
		rule func() []string
	}{
		{"package docs", tree.PackageDocs},
		{"licence headers", tree.LicenceHeaders},
		{"import directions", tree.Imports},
		{"package names", tree.PackageNames},
		{"lengths", tree.Lengths},
		{"rules of concepts.md", tree.ConceptsTested},
		{"links", func() []string { return tree.Links(exists) }},
	}
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			for _, violation := range r.rule() {
				t.Error(violation)
			}
		})
	}
}

// TestFunctionLengths holds the code to functions that fit in a head.
func TestFunctionLengths(t *testing.T) {
	mean, p95 := loadRepository(t).FuncLines()
	t.Logf("functions have %.1f lines on average, 95%% of them at most %d", mean, p95)
	if mean > 22 || p95 > 65 {
		t.Errorf("functions have %.1f lines on average and %d at the 95th percentile: more than 22 and 65", mean, p95)
	}
}

const header = "// Copyright The bm-ccm Authors.\n// SPDX-License-Identifier: Apache-2.0\n\n"

// TestBroken shows each rule a tree that breaks it.
func TestBroken(t *testing.T) {
	long := "func f() {\n" + strings.Repeat("\t_ = 0\n", maxFuncLines) + "}\n"
	tests := []struct {
		name string
		rule func(*Tree) []string
		file string
		src  string
		want string
	}{
		{"no package doc", (*Tree).PackageDocs, "pkg/api/a.go", "package api\n", "no package comment"},
		{"package doc elsewhere", (*Tree).PackageDocs, "pkg/api/a.go", "// Package api is.\npackage api\n", "move it to doc.go"},
		{"no licence", (*Tree).LicenceHeaders, "pkg/api/a.go", "package api\n", "does not begin"},
		{"licence glued to the package", (*Tree).LicenceHeaders, "pkg/api/a.go", strings.TrimSpace(header) + "\npackage api\n", "does not begin"},
		{"script without licence", (*Tree).LicenceHeaders, "hack/x.sh", "#!/bin/sh\nexit 0\n", "does not begin"},
		{"agent with allocator", (*Tree).Imports, "pkg/announce/a.go", "package announce\nimport _ \"" + Module + "/pkg/ipam\"\n", "not below pkg/announce"},
		{"agent with controller", (*Tree).Imports, "pkg/announce/a_test.go", "package announce\nimport _ \"" + Module + "/pkg/cloud\"\n", "not below pkg/announce"},
		{"speaker with agent", (*Tree).Imports, "pkg/announce/bgp/a.go", "package bgp\nimport _ \"" + Module + "/pkg/announce\"\n", "not below pkg/announce/bgp"},
		{"api with anything", (*Tree).Imports, "pkg/api/v1alpha1/a.go", "package v1alpha1\nimport _ \"" + Module + "/pkg/ipam\"\n", "not below pkg/api"},
		{"product with lab", (*Tree).Imports, "cmd/bm-ccm/a.go", "package main\nimport _ \"" + Module + "/conformance/lab\"\n", "not below cmd"},
		{"in-memory NetBox in the product", (*Tree).Imports, "cmd/bm-ccm/a.go", "package main\nimport _ \"" + Module + "/" + netboxtest + "\"\n", "outside of a test"},
		{"package in no layer", (*Tree).Imports, "pkg/metrics/a.go", "package metrics\n", "in no layer"},
		{"vague name", (*Tree).PackageNames, "pkg/api/util/a.go", "package util\n", "name it after what it does"},
		{"long function", (*Tree).Lengths, "pkg/api/a.go", "package api\n" + long, "func f has 102 lines"},
		{"long file", (*Tree).Lengths, "pkg/api/a.go", "package api\n" + strings.Repeat("\n", maxFileLines), "1001 lines"},
		{"rule without a test", (*Tree).ConceptsTested, "docs/concepts.md", "| | |\n|---|---|\n| Z99 | It holds. |\n", "no test names rule Z99"},
		{"dead link", func(t *Tree) []string { return t.Links(exists) }, "docs/a.md", "see [b](b.md#part)\n", "leads nowhere"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			tree, err := Load(fstest.MapFS{tc.file: {Data: []byte(tc.src)}})
			if err != nil {
				t.Fatal(err)
			}
			got := tc.rule(tree)
			if len(got) != 1 || !strings.Contains(got[0], tc.want) {
				t.Errorf("got %q, want one violation with %q", got, tc.want)
			}
		})
	}
}

// TestKept shows the rules a tree that keeps them all.
func TestKept(t *testing.T) {
	tree, err := Load(fstest.MapFS{
		"pkg/cloud/doc.go":          {Data: []byte(header + "// Package cloud is.\npackage cloud\n\nimport _ \"" + Module + "/pkg/ipam/netbox\"\n")},
		"pkg/cloud/cloud_test.go":   {Data: []byte(header + "package cloud\n\nimport _ \"" + Module + "/" + netboxtest + "\"\n")},
		"conformance/lab/doc.go":    {Data: []byte(header + "// Package lab is.\npackage lab\n\nimport _ \"" + Module + "/" + netboxtest + "\"\n")},
		"build/stray/util.go":       {Data: []byte("package util\n")},
		"deploy/x.yaml":             {Data: []byte("---\n# Copyright The bm-ccm Authors.\n# SPDX-License-Identifier: Apache-2.0\na: 1\n")},
		"docs/a.md":                 {Data: []byte("[x](../deploy/x.yaml) [y](https://example.com/y) [z](#z)\n")},
		"pkg/cloud/testdata/bad.go": {Data: []byte("not Go")},
	})
	if err != nil {
		t.Fatal(err)
	}
	there := func(p string) bool { return p == "deploy/x.yaml" }
	for _, got := range [][]string{
		tree.PackageDocs(), tree.LicenceHeaders(), tree.Imports(), tree.PackageNames(), tree.Lengths(), tree.Links(there),
	} {
		for _, violation := range got {
			t.Error(violation)
		}
	}
}
