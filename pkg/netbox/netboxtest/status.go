// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

import (
	"net/http"
	"strings"
)

// statusView answers what NetBox tells of itself.
func (s *Server) statusView(*request) *response {
	return ok(doc{
		{"django-version", "6.1"},
		{"hostname", "netboxtest"},
		{"installed_apps", doc{}},
		{"netbox-version", s.version.String()},
		{"netbox-full-version", s.version.String()},
		{"plugins", doc{}},
		{"python-version", "3.13.5"},
		{"rq-workers-running", 0},
	})
}

// authCheckView answers who asks (4.5).
func (s *Server) authCheckView(q *request) *response {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.tables[user]
	return ok(s.answerFor(q).brief(t, t.rows[q.who.user]))
}

// rootView lists what there is, below /api/ as NetBox does it, though flat.
func (s *Server) rootView(q *request) *response {
	if q.Method != http.MethodGet && q.Method != http.MethodHead {
		return methodNotAllowed(q)
	}
	d := doc{{"status", q.base() + "/api/status/"}}
	for _, m := range models {
		d = append(d, kv{m.path, q.base() + "/api/" + m.path + "/"})
	}
	return ok(d)
}

// unimplemented are paths that NetBox has and the double has not. A path that
// neither has is a 404.
var unimplemented = map[string]bool{
	"ipam/aggregates": true, "ipam/asns": true, "ipam/asn-ranges": true, "ipam/fhrp-groups": true,
	"ipam/fhrp-group-assignments": true, "ipam/rirs": true, "ipam/route-targets": true, "ipam/services": true,
	"ipam/service-templates": true, "ipam/vlans": true, "ipam/vlan-groups": true,
	"extras/custom-field-choice-sets": true, "extras/journal-entries": true, "extras/webhooks": true,
	"extras/event-rules": true, "extras/config-contexts": true, "extras/custom-links": true, "extras/saved-filters": true,
	"extras/object-types": true, "core/object-types": true, "core/jobs": true, "core/data-sources": true,
	"users/groups": true, "users/config": true, "users/owners": true, "users/owner-groups": true,
	"users/tokens/provision": true, "tenancy/tenant-groups": true, "tenancy/contacts": true,
	"virtualization/cluster-groups": true, "virtualization/virtual-disks": true,
	"virtualization/virtual-machine-types": true, "dcim/modules": true, "dcim/cables": true,
	"dcim/mac-addresses": true, "dcim/virtual-chassis": true, "dcim/rack-roles": true, "dcim/rack-types": true,
	"dcim/inventory-items": true, "dcim/console-ports": true, "dcim/power-ports": true,
}

// unknownView answers a path whose model the double does not know: nil, for a
// 404, unless NetBox knows it.
func (s *Server) unknownView(p string) view {
	for known := range unimplemented {
		if p == known || strings.HasPrefix(p, known+"/") {
			return func(*request) *response { return notImplemented("/api/%s/", p) }
		}
	}
	return nil
}
