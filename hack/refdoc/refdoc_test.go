// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

// source is a small product that is documented throughout.
var source = fstest.MapFS{
	"cmd/x/main.go": {Data: []byte("package main\n")},
	"pkg/api/names.go": {Data: []byte(`package api

const Group = "example.org"

// Annotations of Things.
const (
	// AnnotationSize is the size | in m.
	AnnotationSize = Group + "/size"
	// AnnotationKeep, with the value "true", keeps it.
	AnnotationKeep = Group + "/keep"
	Annotations = 2
)

// ConditionReady of a Thing is True when all is well.
const ConditionReady = "Ready"
`)},
	"pkg/cloud/a.go": {Data: []byte(`package cloud

import "example.org/pkg/api"

// Reasons of the condition Ready.
const (
	// ReasonFound means that the thing is there.
	ReasonFound = "Found"
	reasonGone  = "Gone" // the thing is gone, unlike ReasonFound: create it
)

// Reasons of Events on a Thing.
const (
	// eventMoved is written when a Thing moves.
	eventMoved  = "Moved"
	eventSource = "x-y"
)

type FindingKind string

// Twice: two of one name.
const Twice FindingKind = "twice"

const system = "things"

var (
	a = metrics.NewGaugeVec(&metrics.GaugeOpts{Subsystem: system, Name: "held", Help: "Things " + "held."}, []string{"size", api.Group})
	b = prometheus.NewDesc("things_seen", "Things seen.", nil, nil)
)
`)},
	"pkg/announce/m.go": {Data: []byte(`package announce

func f() { prometheus.NewCounter(prometheus.CounterOpts{Name: "sent_total", Help: "Things sent."}) }
`)},
	"pkg/thingtest/t.go":  {Data: []byte("package thingtest\n\nconst ReasonFake = \"Fake\"\n")},
	"pkg/cloud/a_test.go": {Data: []byte("package cloud\n\nconst reasonTest = \"Test\"\n")},
}

func TestPages(t *testing.T) {
	tree, err := load(source)
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, p := range tree.pages() {
		texts[p.file] = p.text
	}
	for _, problem := range tree.problems {
		t.Error(problem)
	}
	tests := []struct{ file, want string }{
		{"metrics.md", "## Controller\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n| `things_held` | gauge | `size`, `example.org` | Things held. |\n"},
		{"metrics.md", "| `things_seen` | gauge |  | Things seen. |\n"},
		{"metrics.md", "## Agent\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n| `sent_total` | counter |  | Things sent. |\n"},
		{"annotations.md", "| `example.org/size` | The size \\| in m. |\n"},
		{"annotations.md", "| `example.org/keep` | With the value \"true\", keeps it. |\n"},
		{"conditions.md", "| `Ready` | Of a Thing: True when all is well. |\n"},
		{"conditions.md", "\nReasons of the condition Ready:\n\n| reason | meaning |\n|---|---|\n| `Found` | The thing is there. |\n| `Gone` | The thing is gone, unlike `Found`: create it |\n"},
		{"conditions.md", "| `twice` | Two of one name. |\n"},
		{"events.md", "\nReasons of Events on a Thing:\n\n| reason | meaning |\n|---|---|\n| `Moved` | Written when a Thing moves. |\n"},
	}
	for _, tc := range tests {
		if !strings.Contains(texts[tc.file], tc.want) {
			t.Errorf("%s: no %q in:\n%s", tc.file, tc.want, texts[tc.file])
		}
	}
	for file, stray := range map[string]string{"conditions.md": "Moved", "events.md": "x-y"} {
		if strings.Contains(texts[file], stray) {
			t.Errorf("%s: %q should not be in:\n%s", file, stray, texts[file])
		}
	}
	for _, stray := range []string{"Fake", "Test"} {
		if strings.Contains(texts["conditions.md"], stray) {
			t.Errorf("the reference has %q, which is of a test", stray)
		}
	}
}

// TestProblems shows code that the reference cannot be made of.
func TestProblems(t *testing.T) {
	tests := []struct{ name, src, want string }{
		{"metric without help", `var a = NewGauge(GaugeOpts{Name: "a"})`, "pkg/x.go:3: metric a has no help: say what it counts, and in what unit"},
		{"metric with a name made at run time", `var a = NewGauge(GaugeOpts{Name: f(1), Help: "A."})`, "pkg/x.go:3: the Name of this metric is no constant"},
		{"metric with labels made at run time", `var a = NewGaugeVec(GaugeOpts{Name: "a", Help: "A."}, labels())`, "pkg/x.go:3: the labels of this metric"},
		{"metric defined twice", "var (\n\ta = NewGauge(GaugeOpts{Name: \"a\", Help: \"A.\"})\n\tb = NewGauge(GaugeOpts{Name: \"a\", Help: \"B.\"})\n)", "pkg/x.go:5: metric a is defined elsewhere too"},
		{"annotation without comment", `const AnnotationA = "x/a"`, `pkg/x.go:3: AnnotationA ("x/a") has no comment: say what it does`},
		{"condition without comment", "const (\n\tConditionA = \"A\"\n)", `pkg/x.go:4: ConditionA ("A") has no comment: say of which object`},
		{"reason without comment", "// Reasons of the condition A.\nconst (\n\tReasonA = \"Aa\"\n)", `pkg/x.go:5: ReasonA ("Aa") has no comment: say when it is written and what to do`},
		{"reason of nobody", "// ReasonA is said when it is.\nconst ReasonA = \"Aa\"", `pkg/x.go:4: neither the comment of ReasonA nor that of its block says "condition" or "Event"`},
		{"kind without comment", "const A FindingKind = \"a\"", `pkg/x.go:3: A ("a") has no comment: say what is wrong`},
		{"literal in an Event", `func f() { r.Event(o, warning, "Gone", "it is gone") }`, `pkg/x.go:3: the reason "Gone" is a literal`},
		{"literal in a condition", `var c = Condition{Reason: "Gone"}`, `pkg/x.go:3: the reason "Gone" is a literal`},
		{"literal assigned", `func f() { c.Status, c.Reason = s, "Gone" }`, `pkg/x.go:3: the reason "Gone" is a literal`},
		{"literal passed on", "func f() { warn(o, \"Gone\") }\n\nfunc warn(o int, reason string) {}", `pkg/x.go:3: the reason "Gone" is a literal`},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			tree, err := load(fstest.MapFS{"pkg/x.go": {Data: []byte("package x\n\n" + tc.src + "\n")}, "cmd/x/main.go": source["cmd/x/main.go"]})
			if err != nil {
				t.Fatal(err)
			}
			tree.pages()
			if len(tree.problems) != 1 || !strings.HasPrefix(tree.problems[0], tc.want) {
				t.Errorf("got %q, want one problem that begins with %q", tree.problems, tc.want)
			}
		})
	}
}

// help is what cobra prints.
const help = `Makes things,
quickly.

It may be run again.

Usage:
  x [flags]

Examples:
  x --not-a-flag

Available Commands:
  completion  Generate the autocompletion script
  sub         Do a part of it

Some flags:

      --name string            the name; <a> or * (default "x")
      --gates map              Gates. Options are:
                               A=true|false (default=true)
  -v, --v Level                verbosity
      --on                     whether it is on,
                               or off (default true)

Global Flags:
      --everywhere   of every command

Use "x [command] --help" for more information about a command.
`

func TestParseHelp(t *testing.T) {
	c := parseHelp("x", help)
	if c.about != "Makes things, quickly." {
		t.Errorf("about: %q", c.about)
	}
	if len(c.subs) != 1 || c.subs[0] != "sub" {
		t.Errorf("subcommands: %q", c.subs)
	}
	want := []cliFlag{
		{name: "name", typ: "string", text: "the name; <a> or *", preset: `"x"`},
		{name: "gates", typ: "map", text: "Gates. (`--help` lists them)"},
		{name: "v", short: "v", typ: "Level", text: "verbosity"},
		{name: "on", text: "whether it is on, or off", preset: "true"},
	}
	if len(c.flags) != len(want) {
		t.Fatalf("flags: %+v", c.flags)
	}
	for i, f := range c.flags {
		if f != want[i] {
			t.Errorf("got %+v, want %+v", f, want[i])
		}
	}
}

// newProduct writes a small product with a command "x" that is built already.
func newProduct(t *testing.T, src string) options {
	t.Helper()
	root := t.TempDir()
	script := "#!/bin/sh\n[ \"$1\" = sub ] && { echo 'Does a part.'; exit; }\ncat <<'END'\n" + help + "END\n"
	for name, text := range map[string]string{"cmd/x/main.go": "package main\n", "pkg/x.go": src, "bin/x": script} {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return options{root: root, out: filepath.Join(root, "out"), bin: filepath.Join(root, "bin")}
}

func TestRun(t *testing.T) {
	o := newProduct(t, "package x\n")
	if err := run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(o.out, "flags.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"<!-- Generated by `make generate`",
		"\n## x\n\nMakes things, quickly.\n",
		"| `--name string` | `\"x\"` | the name; &lt;a> or \\* |\n",
		"| `-v, --v Level` |  | verbosity |\n",
		"\n## x sub\n\nDoes a part.\n",
	} {
		if !strings.Contains(string(got), want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
	for _, file := range []string{"metrics.md", "annotations.md", "conditions.md", "events.md"} {
		if _, err := os.Stat(filepath.Join(o.out, file)); err != nil {
			t.Error(err)
		}
	}
}

// TestRunIncomplete: what is not documented is an error, and nothing is written.
func TestRunIncomplete(t *testing.T) {
	o := newProduct(t, "package x\n\nconst AnnotationA = \"x/a\"\n")
	err := run(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "x.go:3: AnnotationA") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(o.out); err == nil {
		t.Error("the reference was written all the same")
	}
	o.lenient = true
	if err := run(t.Context(), o); err != nil {
		t.Errorf("lenient: %v", err)
	}
}
