// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

// main is run by "make generate", from the root of the repository.
func main() {
	crds := flag.String("crds", "deploy/crds", "the folder of the generated CRDs")
	out := flag.String("out", "docs/reference/api.md", "the file to write")
	flag.Parse()
	if err := run(*crds, *out); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

// run writes the reference of the CRDs in dir. It has no date and no version in it,
// so that it changes only with the API and CI can compare it.
func run(dir, out string) error {
	crds, err := load(dir)
	if err != nil {
		return fmt.Errorf("reading the CRDs: %w", err)
	}
	// The folder may be new: docs/reference holds generated files only.
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return fmt.Errorf("writing the reference: %w", err)
	}
	if err := os.WriteFile(out, []byte(render(crds)), 0o644); err != nil {
		return fmt.Errorf("writing the reference: %w", err)
	}
	return nil
}

// load reads the CRDs in the order of their file names. An empty folder is a mistake:
// the reference would be written empty. Unknown fields are one too: controller-gen
// of a later version would have lost its words here unseen.
func load(dir string) ([]apiextensionsv1.CustomResourceDefinition, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, fmt.Errorf("looking for CRDs in %s: %w", dir, err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no *.yaml in %s", dir)
	}
	// The order of the chapters must not depend on the file system.
	slices.Sort(files)
	var crds []apiextensionsv1.CustomResourceDefinition
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(data, &crd); err != nil {
			return nil, fmt.Errorf("parsing %s: %w", f, err)
		}
		crds = append(crds, crd)
	}
	return crds, nil
}
