// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"go/ast"
	"regexp"
	"slices"
	"strings"
)

const annotationsIntro = `# Annotations and labels

What bm-ccm reads on Services, and writes. What Kubernetes itself defines
(` + "`spec.loadBalancerClass`, `spec.externalTrafficPolicy`," + `
` + "`node.kubernetes.io/exclude-from-external-load-balancers`" + `) is in
[concepts](../concepts.md).
`

func (t *tree) annotationsPage() page {
	var b strings.Builder
	b.WriteString(annotationsIntro)
	for _, kind := range []struct{ title, prefix string }{
		{"Annotations", "annotation"}, {"Labels", "label"}, {"Finalizers", "finalizer"}, {"Taints", "taint"},
	} {
		found := t.named(strings.ToUpper(kind.prefix[:1])+kind.prefix[1:], kind.prefix)
		if rows := t.constantRows(found, "say what it does, and on which object"); len(rows) > 0 {
			fmt.Fprintf(&b, "\n## %s\n\n", kind.title)
			table(&b, []string{kind.prefix, "meaning"}, rows)
		}
	}
	return page{"annotations.md", b.String()}
}

// constantRows are rows of value and meaning. hint says what the comment of a
// constant is to say.
func (t *tree) constantRows(constants []constant, hint string) [][]string {
	var rows [][]string
	for _, c := range constants {
		value, _ := t.text(c.file.pkg(), c.expr)
		if c.doc == "" {
			t.problem(c.at, "%s (%q) has no comment: %s", c.name, value, hint)
		}
		rows = append(rows, []string{code(value), t.values(c, meaning(c.name, c.doc))})
	}
	return rows
}

// meaning turns the comment "ConditionReady is True when" into "True when": the
// name stands in the column before.
func meaning(name, doc string) string {
	text, glued := strings.CutPrefix(doc, name+": ")
	if !glued {
		text, glued = strings.CutPrefix(doc, name+", ")
	}
	if !glued {
		text = strings.TrimPrefix(doc, name+" ")
		for _, verb := range []string{"is ", "are ", "means that ", "means "} {
			text = strings.TrimPrefix(text, verb)
		}
	}
	if text == "" {
		return ""
	}
	if strings.HasPrefix(text, "of ") { // "of a pool is True when": the verb, too, is in the way
		text = strings.Replace(text, " is True", ": True", 1)
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// constantName is what the comment of a constant may call another one.
var constantName = regexp.MustCompile(`\b(?i:reason|annotation|condition|label|event)[A-Z]\w*`)

// values puts the values of constants where a comment names them.
func (t *tree) values(c constant, text string) string {
	return constantName.ReplaceAllStringFunc(text, func(name string) string {
		if value, ok := t.text(c.file.pkg(), &ast.Ident{Name: name}); ok {
			return code(value)
		}
		return name
	})
}

const conditionsIntro = `# Conditions and their reasons

    kubectl describe addresspool NAME        # and loadbalancerclass, bgppeer, nodeannouncement, service

A condition of a Service has the prefix ` + "`bm-ccm.io/`" + `. The message of a condition names
what is wrong and what to do about it; the reason is for scripts and stays the same.
`

const kindsIntro = "As `bm-ccm netbox audit` prints them. What only a human can correct is also the reason of\n" +
	"the conditions that name a conflict, written as one word (`duplicate-claim` is\n`DuplicateClaim`), and a label of `bm_ccm_ipam_conflicts`.\n"

func (t *tree) conditionsPage() page {
	var b strings.Builder
	b.WriteString(conditionsIntro)
	b.WriteString("\n## Conditions\n\n")
	table(&b, []string{"condition", "meaning"}, t.constantRows(t.named("Condition", "condition"), "say of which object it is and when it is True"))
	b.WriteString("\n## Reasons\n")
	t.reasons(&b, false)
	if kinds := t.findingKinds(); len(kinds) > 0 {
		b.WriteString("\n## What a comparison with NetBox finds\n\n" + kindsIntro + "\n")
		table(&b, []string{"kind", "meaning"}, t.constantRows(kinds, "say what is wrong and what becomes of it"))
	}
	return page{"conditions.md", b.String()}
}

const eventsIntro = `# Events

    kubectl describe service NAME            # or node, addresspool, loadbalancerclass, bgppeer

The message names what is wrong and what to do about it. Whenever a condition turns bad, or
good again, there is an Event with the condition's reason on the same object too: see
[conditions](conditions.md). Events with other reasons come from upstream's controllers and
from Kubernetes.
`

func (t *tree) eventsPage() page {
	var b strings.Builder
	b.WriteString(eventsIntro)
	t.reasons(&b, true)
	return page{"events.md", b.String()}
}

// oneWord is what Kubernetes wants a reason to be; other constants may be
// called so by chance.
var oneWord = regexp.MustCompile(`^[A-Z][A-Za-z0-9]+$`)

const reasonHint = "say when it is written and what to do"

// reasons writes a table for each block of reasons, below what the block's
// comment says, and one for those that are no constants.
func (t *tree) reasons(b *strings.Builder, events bool) {
	found := slices.DeleteFunc(t.named("Reason", "reason", "EventReason", "eventReason", "Event", "event"), func(c constant) bool {
		value, _ := t.text(c.file.pkg(), c.expr)
		return !oneWord.MatchString(value)
	})
	for len(found) > 0 {
		n := 1
		for n < len(found) && found[n].file.ast == found[0].file.ast && found[n].block == found[0].block {
			n++
		}
		block := found[:n]
		found = found[n:]
		ofEvents, ofConditions := t.whose(block[0])
		if events && !ofEvents || !events && !ofConditions {
			continue
		}
		fmt.Fprintf(b, "\n%s:\n\n", t.values(block[0], strings.TrimSuffix(title(block[0]), ".")))
		table(b, []string{"reason", "meaning"}, t.constantRows(block, reasonHint))
	}
	var rows [][]string
	for _, l := range t.literalReasons() {
		if l.event == events {
			t.problem(l.at, "the reason %q is a literal: make it a constant whose comment says when it is written and what to do", l.text)
			if row := []string{code(l.text), ""}; !slices.ContainsFunc(rows, func(r []string) bool { return r[0] == row[0] }) {
				rows = append(rows, row)
			}
		}
	}
	if len(rows) > 0 {
		b.WriteString("\nOthers:\n\n")
		table(b, []string{"reason", "meaning"}, rows)
	}
}

func title(c constant) string {
	if c.block == "" {
		return c.name
	}
	return c.block
}

// whose reports by their comment whether reasons are of Events, of conditions,
// or of both.
func (t *tree) whose(c constant) (events, conditions bool) {
	about := c.block + " " + c.doc
	events = strings.Contains(about, "Event") || hasWordPrefix(c.name, []string{"event", "EventReason", "eventReason"})
	conditions = strings.Contains(strings.ToLower(about), "condition")
	if !events && !conditions {
		t.problem(c.at, "neither the comment of %s nor that of its block says \"condition\" or \"Event\": say whose reason it is", c.name)
		conditions = true
	}
	return events, conditions
}

// findingKinds are the constants of types like FindingKind.
func (t *tree) findingKinds() []constant {
	var out []constant
	for _, f := range t.files {
		for _, c := range t.constants(f) {
			if c.typ == "Kind" || strings.HasSuffix(c.typ, "FindingKind") || strings.HasSuffix(c.typ, "DifferenceKind") {
				if _, isText := t.text(f.pkg(), c.expr); isText {
					out = append(out, c)
				}
			}
		}
	}
	return out
}

// literalReason is a reason that is written where it is used.
type literalReason struct {
	at    *ast.BasicLit
	text  string
	event bool
}

// literalReasons finds literals that are given as a reason: the third argument
// of Event and Eventf, the field Reason of a condition, and arguments of
// functions that call the parameter reason.
func (t *tree) literalReasons() []literalReason {
	positions := t.reasonParameters()
	var out []literalReason
	note := func(e ast.Expr, event bool) {
		if lit, ok := e.(*ast.BasicLit); ok {
			if text, _ := t.text("", lit); oneWord.MatchString(text) {
				out = append(out, literalReason{at: lit, text: text, event: event})
			}
		}
	}
	for _, f := range t.files {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit:
				note(field(n, "Reason"), false)
				note(field(n, "reason"), false)
			case *ast.AssignStmt:
				for i, to := range n.Lhs {
					if sel, ok := to.(*ast.SelectorExpr); ok && strings.EqualFold(sel.Sel.Name, "reason") && len(n.Rhs) == len(n.Lhs) {
						note(n.Rhs[i], false)
					}
				}
			case *ast.CallExpr:
				name := typeName(n.Fun)
				i, ok := positions[f.dir+"."+name]
				if name == "Event" || name == "Eventf" {
					i, ok = 2, true
				}
				if ok && i < len(n.Args) {
					note(n.Args[i], !strings.Contains(strings.ToLower(name), "condition"))
				}
			}
			return true
		})
	}
	return out
}

// reasonParameters returns which argument of a function is a parameter called
// reason, by folder and name.
func (t *tree) reasonParameters() map[string]int {
	out := map[string]int{}
	for _, f := range t.files {
		for _, decl := range f.ast.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			i := 0
			for _, group := range fn.Type.Params.List {
				for _, name := range group.Names {
					if name.Name == "reason" && typeName(group.Type) == "string" {
						out[f.dir+"."+fn.Name.Name] = i
					}
					i++
				}
				if len(group.Names) == 0 {
					i++
				}
			}
		}
	}
	return out
}
