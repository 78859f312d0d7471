// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"slices"
	"strings"
)

// metric is one metric of a process.
type metric struct {
	name, kind, help string
	labels           []string
	component        string
	at               ast.Node
}

// kinds are the types of metrics by the names of their options, in
// prometheus/client_golang and in k8s.io/component-base/metrics.
var kinds = map[string]string{
	"GaugeOpts": "gauge", "CounterOpts": "counter", "HistogramOpts": "histogram",
	"SummaryOpts": "summary", "TimingHistogramOpts": "histogram",
}

// components are the processes and parts that metrics come from, by the folder
// of the code. The first that fits counts.
var components = []struct{ folder, name string }{
	{"pkg/announce", "Agent"},
	{"cmd/bm-ccm-agent", "Agent"},
	{"pkg/netbox", "NetBox client (part of the controller)"},
	{"", "Controller"},
}

func componentOf(dir string) string {
	for _, c := range components {
		if c.folder == "" || dir == c.folder || strings.HasPrefix(dir, c.folder+"/") {
			return c.name
		}
	}
	return ""
}

// metrics finds every metric that the code defines.
func (t *tree) metrics() []metric {
	var out []metric
	for _, f := range t.files {
		labels := map[*ast.CompositeLit][]string{}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				t.noteLabels(f, n, labels)
				if m, ok := t.described(f, n); ok {
					out = append(out, m)
				}
			case *ast.CompositeLit:
				if kind := kinds[typeName(n.Type)]; kind != "" {
					out = append(out, t.metric(f, n, kind, labels[n]))
				}
			}
			return true
		})
	}
	slices.SortStableFunc(out, func(a, b metric) int { return cmp.Compare(a.name, b.name) })
	for i := 1; i < len(out); i++ {
		if out[i].name == out[i-1].name {
			t.problem(out[i].at, "metric %s is defined elsewhere too: only one of them can be registered", out[i].name)
		}
	}
	return out
}

// metric reads the options of one metric.
func (t *tree) metric(f file, lit *ast.CompositeLit, kind string, labels []string) metric {
	m := metric{kind: kind, labels: labels, component: componentOf(f.dir), at: lit}
	var parts []string
	for _, key := range []string{"Namespace", "Subsystem", "Name"} {
		if e := field(lit, key); e != nil {
			part, ok := t.text(f.pkg(), e)
			if !ok {
				t.problem(lit, "the %s of this metric is no constant: the reference cannot name it", key)
				part = "?"
			}
			parts = append(parts, part)
		}
	}
	m.name = strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "_")
	if e := field(lit, "Help"); e != nil {
		m.help, _ = t.text(f.pkg(), e)
	}
	t.checkMetric(lit, m)
	return m
}

func (t *tree) checkMetric(at ast.Node, m metric) {
	if m.name == "" {
		t.problem(at, "this metric has no name")
	}
	if m.help == "" {
		t.problem(at, "metric %s has no help: say what it counts, and in what unit", m.name)
	}
}

// noteLabels remembers the labels that a call gives to options of a metric:
// NewGaugeVec(GaugeOpts{...}, []string{...}).
func (t *tree) noteLabels(f file, call *ast.CallExpr, labels map[*ast.CompositeLit][]string) {
	if len(call.Args) < 2 {
		return
	}
	if opts := literal(call.Args[0]); opts != nil && kinds[typeName(opts.Type)] != "" {
		labels[opts] = t.texts(f, call.Args[1])
	}
}

// described reads a call of NewDesc(name, help, labels, ...).
func (t *tree) described(f file, call *ast.CallExpr) (metric, bool) {
	if typeName(call.Fun) != "NewDesc" || len(call.Args) < 3 {
		return metric{}, false
	}
	m := metric{kind: "gauge", labels: t.texts(f, call.Args[2]), component: componentOf(f.dir), at: call}
	m.name, _ = t.text(f.pkg(), call.Args[0])
	m.help, _ = t.text(f.pkg(), call.Args[1])
	t.checkMetric(call, m)
	return m, true
}

// texts are the strings of a list.
func (t *tree) texts(f file, e ast.Expr) []string {
	lit, ok := e.(*ast.CompositeLit)
	if !ok {
		if id, isNil := e.(*ast.Ident); !isNil || id.Name != "nil" {
			t.problem(e, "the labels of this metric are no list of constants: the reference cannot name them")
		}
		return nil
	}
	var out []string
	for _, elt := range lit.Elts {
		s, ok := t.text(f.pkg(), elt)
		if !ok {
			t.problem(elt, "this label is no constant: the reference cannot name it")
		}
		out = append(out, s)
	}
	return out
}

// literal returns the composite literal in T{...} and &T{...}.
func literal(e ast.Expr) *ast.CompositeLit {
	if u, ok := e.(*ast.UnaryExpr); ok {
		e = u.X
	}
	lit, _ := e.(*ast.CompositeLit)
	return lit
}

// typeName is the last part of a type or function: "GaugeOpts" for
// prometheus.GaugeOpts.
func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

// field returns the value of a field of a composite literal.
func field(lit *ast.CompositeLit, name string) ast.Expr {
	for _, elt := range lit.Elts {
		if kv, ok := elt.(*ast.KeyValueExpr); ok && typeName(kv.Key) == name {
			return kv.Value
		}
	}
	return nil
}

const metricsIntro = `# Metrics

Beside these, both processes have what client-go and Go's runtime count; the
controller also has the metrics of the upstream controllers
(` + "`service_controller_*`, `workqueue_*`, `leader_election_master_status`" + `).
How to reach them is in [operations](../operations.md).
`

func (t *tree) metricsPage() page {
	all := t.metrics()
	var b strings.Builder
	b.WriteString(metricsIntro)
	for _, component := range []string{"Controller", "NetBox client (part of the controller)", "Agent"} {
		var rows [][]string
		for _, m := range all {
			if m.component == component {
				rows = append(rows, []string{code(m.name), m.kind, codes(m.labels), m.help})
			}
		}
		if len(rows) > 0 {
			fmt.Fprintf(&b, "\n## %s\n\n", component)
			table(&b, []string{"metric", "type", "labels", "meaning"}, rows)
		}
	}
	return page{"metrics.md", b.String()}
}
