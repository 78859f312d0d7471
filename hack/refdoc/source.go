// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// tree is the source of the product, without tests.
type tree struct {
	fset  *token.FileSet
	files []file
	// consts are the values of all constants, by package name and name.
	consts map[string]ast.Expr
	// problems are what is not documented, each with its place.
	problems []string
}

// file is one source file; dir is its folder, seen from the root.
type file struct {
	dir string
	ast *ast.File
}

func (f file) pkg() string { return f.ast.Name.Name }

// load reads what is below pkg and cmd.
func load(fsys fs.FS) (*tree, error) {
	t := &tree{fset: token.NewFileSet(), consts: map[string]ast.Expr{}}
	for _, root := range []string{"pkg", "cmd"} {
		err := fs.WalkDir(fsys, root, func(p string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir():
				return skipTests(p)
			case path.Ext(p) != ".go" || strings.HasSuffix(p, "_test.go"):
				return nil
			}
			return t.add(fsys, p)
		})
		if err != nil {
			return nil, fmt.Errorf("reading the source: %w", err)
		}
	}
	for _, f := range t.files {
		for _, c := range t.constants(f) {
			t.consts[f.pkg()+"."+c.name] = c.expr
		}
	}
	return t, nil
}

// skipTests leaves out what never gets into a binary: test data, and packages
// that serve tests, which are called so (netboxtest, contracttest).
func skipTests(p string) error {
	if base := path.Base(p); base == "testdata" || strings.HasSuffix(base, "test") {
		return fs.SkipDir
	}
	return nil
}

func (t *tree) add(fsys fs.FS, p string) error {
	src, err := fs.ReadFile(fsys, p)
	if err != nil {
		return err
	}
	parsed, err := parser.ParseFile(t.fset, p, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	t.files = append(t.files, file{dir: path.Dir(p), ast: parsed})
	return nil
}

// problem notes what is wrong at a place.
func (t *tree) problem(at ast.Node, format string, args ...any) {
	p := t.fset.Position(at.Pos())
	text := fmt.Sprintf("%s:%d: %s", p.Filename, p.Line, fmt.Sprintf(format, args...))
	if !slices.Contains(t.problems, text) { // two pages may need the same
		t.problems = append(t.problems, text)
	}
}

// constant is one constant of a package.
type constant struct {
	file file
	name string
	// typ is the name of its type; "" if it has none of its own.
	typ  string
	expr ast.Expr
	at   ast.Node
	// doc is its comment, block that of the block that it stands in.
	doc, block string
}

// constants are those that a file declares at the top.
func (t *tree) constants(f file) []constant {
	var out []constant
	for _, decl := range f.ast.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.CONST {
			continue
		}
		for _, s := range gen.Specs {
			spec := s.(*ast.ValueSpec)
			for i, name := range spec.Names {
				if i >= len(spec.Values) {
					continue // goes on with iota
				}
				c := constant{file: f, name: name.Name, expr: spec.Values[i], at: spec, doc: docOf(spec), block: oneLine(gen.Doc.Text())}
				if typ, ok := spec.Type.(*ast.Ident); ok {
					c.typ = typ.Name
				}
				if !gen.Lparen.IsValid() { // const X = "x": its comment is that of the block
					c.doc, c.block = c.block, ""
				}
				out = append(out, c)
			}
		}
	}
	return out
}

func docOf(spec *ast.ValueSpec) string {
	if doc := oneLine(spec.Doc.Text()); doc != "" {
		return doc
	}
	return oneLine(spec.Comment.Text())
}

// text returns the value of an expression made of strings and constants.
func (t *tree) text(pkg string, e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		return s, err == nil && e.Kind == token.STRING
	case *ast.ParenExpr:
		return t.text(pkg, e.X)
	case *ast.BinaryExpr:
		x, okX := t.text(pkg, e.X)
		y, okY := t.text(pkg, e.Y)
		return x + y, okX && okY && e.Op == token.ADD
	case *ast.Ident:
		value, ok := t.consts[pkg+"."+e.Name]
		if !ok {
			return "", false
		}
		return t.text(pkg, value)
	case *ast.SelectorExpr:
		// The name of an import is taken for the name of its package.
		if x, ok := e.X.(*ast.Ident); ok && t.consts[x.Name+"."+e.Sel.Name] != nil {
			return t.text(x.Name, e.Sel)
		}
	case *ast.CallExpr: // a conversion
		if len(e.Args) == 1 {
			return t.text(pkg, e.Args[0])
		}
	}
	return "", false
}

// named returns the string constants whose names have one of the prefixes.
func (t *tree) named(prefixes ...string) []constant {
	var out []constant
	for _, f := range t.files {
		for _, c := range t.constants(f) {
			if _, isText := t.text(f.pkg(), c.expr); isText && hasWordPrefix(c.name, prefixes) {
				out = append(out, c)
			}
		}
	}
	return out
}

// hasWordPrefix reports whether a name begins with one of the words and goes on
// with another one.
func hasWordPrefix(name string, words []string) bool {
	return slices.ContainsFunc(words, func(word string) bool {
		rest, ok := strings.CutPrefix(name, word)
		return ok && rest != "" && strings.ToUpper(rest[:1]) == rest[:1]
	})
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
