// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

import (
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
)

// page is what a person sees at /: everything that the double holds of address
// management, on one page.
var pageTemplate = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>NetBox in memory</title>
<style>
body { font: 14px/1.5 system-ui, sans-serif; margin: 2em; color: #222 }
table { border-collapse: collapse; margin-bottom: 2em }
th, td { text-align: left; padding: .2em .9em .2em 0; border-bottom: 1px solid #ddd; vertical-align: top }
th { color: #666; font-weight: 600 }
code { font: 13px ui-monospace, monospace }
</style></head><body>
<h1>NetBox {{.Version}} in memory</h1>
<p>This is the test double of bm-ccm, not NetBox. The API is at <a href="/api/"><code>/api/</code></a>.
{{if .Faults}}<strong>{{.Faults}} faults are injected.</strong>{{end}}</p>
<h2>Prefixes</h2>
<table><tr><th>Prefix</th><th>VRF</th><th>Status</th><th>Addresses</th><th>Tags</th><th>Description</th></tr>
{{range .Prefixes}}<tr><td><code>{{.Net}}</code></td><td>{{.VRF}}</td><td>{{.Status}}</td><td>{{.Used}}</td><td>{{.Tags}}</td><td>{{.Text}}</td></tr>
{{else}}<tr><td>none</td></tr>{{end}}</table>
{{if .Ranges}}<h2>Ranges</h2>
<table><tr><th>Range</th><th>VRF</th><th>Status</th><th>Addresses</th></tr>
{{range .Ranges}}<tr><td><code>{{.Net}}</code></td><td>{{.VRF}}</td><td>{{.Status}}</td><td>{{.Used}}</td></tr>
{{end}}</table>{{end}}
<h2>Addresses ({{len .Addresses}})</h2>
<table><tr><th>Id</th><th>Address</th><th>VRF</th><th>Status</th><th>DNS name</th><th>Description</th><th>Custom fields</th><th>Last change</th></tr>
{{range .Addresses}}<tr><td>{{.ID}}</td><td><code>{{.Net}}</code></td><td>{{.VRF}}</td><td>{{.Status}}</td><td>{{.DNS}}</td><td>{{.Text}}</td>
<td>{{range .Fields}}<code>{{.}}</code><br>{{end}}</td><td>{{.Updated}}</td></tr>
{{else}}<tr><td>none</td></tr>{{end}}</table>
<h2>Machines</h2>
<table><tr><th>Name</th><th>Kind</th><th>Site</th><th>Status</th><th>Primary addresses</th></tr>
{{range .Machines}}<tr><td>{{.Name}}</td><td>{{.Kind}}</td><td>{{.Site}}</td><td>{{.Status}}</td><td><code>{{.Primary}}</code></td></tr>
{{else}}<tr><td>none</td></tr>{{end}}</table>
</body></html>
`))

// pageRow is a row of any of the page's tables.
type pageRow struct {
	ID                                 int64
	Net, VRF, Status, Tags, Text, DNS  string
	Name, Kind, Site, Primary, Updated string
	Used                               int
	Fields                             []string
}

// servePage serves the page for people, who would otherwise need curl to see what a
// test in the lab has left.
func (s *Server) servePage(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/" {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, "want GET", http.StatusMethodNotAllowed)
		return
	}
	var b strings.Builder
	if err := pageTemplate.Execute(&b, s.pageData()); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write([]byte(b.String())) // a browser that went away needs no page
}

// pageData collects what the page shows, under the lock; it is written without.
func (s *Server) pageData() map[string]any {
	faults := len(s.faults.listed())
	s.mu.RLock()
	defer s.mu.RUnlock()
	return map[string]any{
		"Version": s.version.String(), "Faults": faults,
		"Prefixes":  s.pageRows(prefix, s.networkRow),
		"Ranges":    s.pageRows(ipRange, s.networkRow),
		"Addresses": s.pageRows(ipAddress, s.addressRow),
		"Machines":  append(s.pageRows(device, s.machineRow), s.pageRows(virtualMachine, s.machineRow)...),
	}
}

// pageRows are the rows of a model in its own order.
func (s *Server) pageRows(m *model, row func(*model, *object) pageRow) []pageRow {
	var rows []*object
	for _, o := range s.tables[m].rows {
		rows = append(rows, o)
	}
	slices.SortFunc(rows, func(a, b *object) int { return m.order(s, a, b) })
	var out []pageRow
	for _, o := range rows {
		p := row(m, o)
		p.ID, p.Status, p.Text = o.id, o.str("status"), o.str("description")
		p.VRF = s.displayOf("ipam/vrfs", o.num("vrf"))
		p.Updated = o.updated.Format("15:04:05.000")
		out = append(out, p)
	}
	return out
}

// networkRow is a prefix or a range, with the number of its addresses.
func (s *Server) networkRow(m *model, o *object) pageRow {
	p := pageRow{Net: m.display(s, o)}
	for _, id := range o.tags {
		p.Tags += s.displayOf("extras/tags", id) + " "
	}
	src := parentOf(m, o)
	for a := range s.space.hosts[src.vrf] {
		if a.BitLen() == src.first.BitLen() && !a.Less(src.first) && !src.last.Less(a) {
			p.Used++
		}
	}
	return p
}

// addressRow is an address with its custom fields.
func (s *Server) addressRow(_ *model, o *object) pageRow {
	p := pageRow{Net: o.prefix("address").String(), DNS: o.str("dns_name")}
	for k, v := range o.cf {
		p.Fields = append(p.Fields, fmt.Sprintf("%s = %v", k, v))
	}
	slices.Sort(p.Fields)
	return p
}

// machineRow is a device or a virtual machine.
func (s *Server) machineRow(m *model, o *object) pageRow {
	p := pageRow{Name: m.display(s, o), Kind: "device", Site: s.displayOf("dcim/sites", o.num("site"))}
	if m == virtualMachine {
		p.Kind = "virtual machine"
	}
	for _, n := range []string{"primary_ip4", "primary_ip6"} {
		p.Primary += s.displayOf("ipam/ip-addresses", o.num(n)) + " "
	}
	return p
}
