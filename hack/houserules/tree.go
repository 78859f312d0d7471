// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package houserules

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"strings"
)

// Module is the path of the product's module. The conformance module is its
// folder "conformance".
const Module = "github.com/bm-ccm/bm-ccm"

// Tree is a source tree, read once and parsed.
type Tree struct {
	fset    *token.FileSet
	goFiles []goFile
	other   []textFile
}

// goFile is one Go file; path is relative to the tree's root.
type goFile struct {
	path string
	src  string
	ast  *ast.File
}

// textFile is any other file that a rule looks at.
type textFile struct {
	path string
	src  string
}

func (f goFile) dir() string     { return path.Dir(f.path) }
func (f goFile) isTest() bool    { return strings.HasSuffix(f.path, "_test.go") }
func (f goFile) generated() bool { return ast.IsGenerated(f.ast) }

// imports returns the packages of this repository that f imports, relative to
// the tree's root.
func (f goFile) imports() []string {
	var out []string
	for _, spec := range f.ast.Imports {
		p := strings.Trim(spec.Path.Value, `"`)
		if rel, ours := strings.CutPrefix(p, Module+"/"); ours {
			out = append(out, rel)
		}
	}
	return out
}

// Load reads the tree in fsys. Folders that hold no source of ours are skipped:
// build output, test data and hidden ones except .ci.
func Load(fsys fs.FS) (*Tree, error) {
	t := &Tree{fset: token.NewFileSet()}
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return skipDir(p)
		}
		if !wanted(p) || !d.Type().IsRegular() {
			return nil
		}
		return t.add(fsys, p)
	})
	if err != nil {
		return nil, fmt.Errorf("reading the source tree: %w", err)
	}
	return t, nil
}

func skipDir(p string) error {
	switch base := path.Base(p); {
	case p == ".", base == ".ci":
		return nil
	case p == "build", base == "testdata", base == "vendor", strings.HasPrefix(base, "."):
		return fs.SkipDir
	}
	return nil
}

func wanted(p string) bool {
	switch path.Ext(p) {
	case ".go", ".sh", ".yaml", ".yml", ".md", ".py":
		return true
	}
	return path.Base(p) == "Makefile" || path.Dir(p) == ".ci"
}

func (t *Tree) add(fsys fs.FS, p string) error {
	src, err := fs.ReadFile(fsys, p)
	if err != nil {
		return err
	}
	if path.Ext(p) != ".go" {
		t.other = append(t.other, textFile{path: p, src: string(src)})
		return nil
	}
	parsed, err := parser.ParseFile(t.fset, p, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	t.goFiles = append(t.goFiles, goFile{path: p, src: string(src), ast: parsed})
	return nil
}
