// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

const crd = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.org}
spec:
  group: example.org
  names: {kind: Thing, plural: things, shortNames: [th]}
  scope: Cluster
  versions:
    - name: v1
      schema:
        openAPIV3Schema:
          type: object
          description: Thing is one.
          x-kubernetes-validations: [{rule: "true", message: a thing is a thing}]
          properties:
            spec:
              type: object
              required: [parts]
              properties:
                parts:
                  type: array
                  minItems: 1
                  maxItems: 3
                  description: parts are what it | has.
                  items:
                    type: object
                    properties:
                      size:
                        type: integer
                        description: size is in m.
                        default: 2
                        minimum: 1
                        maximum: 9
                nodeSelector:
                  type: object
                  description: nodeSelector limits it.
                  properties: {matchLabels: {type: object}}
`

func TestRun(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thing.yaml"), []byte(crd), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "new", "api.md")
	if err := run(dir, out); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"## Thing\n\n`apiVersion: example.org/v1`, short: `th`\n\nThing is one.\n",
		"| `spec.parts` | list of objects | What it \\| has. **Required.** 1 to 3 entries. |\n",
		"| `spec.parts[].size` | number | In m. Default: `2`. From 1 to 9. |\n",
		"| `spec.nodeSelector` | label selector | Limits it. |\n",
		"- a thing is a thing\n",
	} {
		if !strings.Contains(string(got), want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
	if strings.Contains(string(got), "matchLabels") {
		t.Error("the fields of a label selector are repeated")
	}
}

// A description is a sentence in any language: its first letter may have several
// bytes.
func FuzzSentence(f *testing.F) {
	f.Add("size", "size is in m.")
	f.Add("size", "size are many")
	f.Add("", "")
	f.Add("größe", "größe is üblich")
	f.Fuzz(func(t *testing.T, name, description string) {
		got := sentence(name, description)
		if utf8.ValidString(name) && utf8.ValidString(description) && !utf8.ValidString(got) || strings.Contains(got, "\n") {
			t.Errorf("%q, %q: %q", name, description, got)
		}
	})
}

func TestRunWithoutCRDs(t *testing.T) {
	dir := t.TempDir()
	err := run(dir, filepath.Join(dir, "api.md"))
	if err == nil || !strings.Contains(err.Error(), "no *.yaml in "+dir) {
		t.Errorf("got %v", err)
	}
}
