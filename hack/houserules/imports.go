// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package houserules

import (
	"fmt"
	"strings"
)

// layer is what the packages below a folder may import of this repository.
type layer struct {
	folder  string
	imports []string
}

// layers are the import directions: downwards only. The first layer that holds
// a package is its own, so the deeper folders come first. A package may always
// import its own layer.
//
// pkg/announce does without pkg/ipam and pkg/cloud because an agent holds no
// NetBox token; the mechanisms below it know nothing of each other.
var layers = []layer{
	{"pkg/announce/bgp", []string{"pkg/api"}},
	{"pkg/announce/l2", []string{"pkg/api"}},
	{"pkg/announce/bfd", []string{"pkg/api"}},
	{"pkg/announce/owner", []string{"pkg/api"}},
	{"pkg/announce/iface", []string{"pkg/api"}},
	{"pkg/announce", []string{"pkg/api", "pkg/announce", "pkg/trigger"}},
	{"pkg/api", nil},
	{"pkg/trigger", nil},
	{"pkg/netbox/netboxtest", []string{"pkg/netbox", "pkg/netbox/schema"}},
	{"pkg/netbox/dcim", []string{"pkg/netbox"}},
	{"pkg/netbox/schema", []string{"pkg/netbox"}},
	{"pkg/netbox", nil},
	{"pkg/keylock", nil},
	{"pkg/ipam/netbox", []string{"pkg/api", "pkg/ipam", "pkg/netbox", "pkg/keylock"}},
	{"pkg/ipam", []string{"pkg/api"}},
	// The way of a Service: service < assign < drift < cloud; classview beside them.
	{"pkg/cloud/service", []string{"pkg/api", "pkg/ipam"}},
	{"pkg/cloud/classview", []string{"pkg/api", "pkg/ipam", "pkg/cloud/service"}},
	{"pkg/cloud/assign", []string{"pkg/api", "pkg/ipam", "pkg/cloud/service"}},
	{"pkg/cloud/drift", []string{"pkg/api", "pkg/ipam", "pkg/trigger", "pkg/cloud/service", "pkg/cloud/assign", "pkg/cloud/classview"}},
	{"pkg/cloud", []string{"pkg/api", "pkg/ipam", "pkg/netbox", "pkg/keylock", "pkg/trigger"}},
	{"cmd", []string{"pkg"}},
	{"deploy", []string{"pkg"}}, // tests only
	{"hack", []string{"pkg"}},
	{"conformance", []string{"pkg"}},
}

// netboxtest is the in-memory NetBox. It must not get into a binary of the
// product.
const netboxtest = "pkg/netbox/netboxtest"

// mayUseNetboxtest are the folders whose code outside of tests may import it:
// its own command and the lab.
var mayUseNetboxtest = []string{netboxtest, "cmd/netboxtest", "conformance"}

// Imports wants imports to run downwards only.
func (t *Tree) Imports() []string {
	var bad []string
	for _, f := range t.goFiles {
		own := layerOf(f.dir())
		if own == nil {
			bad = append(bad, fmt.Sprintf("%s: %s is in no layer: place it in hack/houserules/imports.go", f.path, f.dir()))
			continue
		}
		for _, p := range f.imports() {
			if !own.allows(p) {
				bad = append(bad, fmt.Sprintf("%s: imports %s, which is not below %s", f.path, p, own.folder))
			}
			if within(p, netboxtest) && !f.isTest() && !withinAny(f.dir(), mayUseNetboxtest) {
				bad = append(bad, fmt.Sprintf("%s: imports %s outside of a test", f.path, p))
			}
		}
	}
	return bad
}

func layerOf(dir string) *layer {
	for i := range layers {
		if within(dir, layers[i].folder) {
			return &layers[i]
		}
	}
	return nil
}

func (l *layer) allows(p string) bool { return within(p, l.folder) || withinAny(p, l.imports) }

// within reports whether the package p is folder or below it.
func within(p, folder string) bool {
	return p == folder || strings.HasPrefix(p, folder+"/")
}

func withinAny(p string, folders []string) bool {
	for _, f := range folders {
		if within(p, f) {
			return true
		}
	}
	return false
}
