// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package contracttest

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/schema"
)

// hasETags reports whether pools of reserved addresses work with this NetBox.
func (s *scene) hasETags(t *testing.T) bool {
	t.Helper()
	var out struct {
		Version string `json:"netbox-version"`
	}
	s.admin(t, http.MethodGet, "status/", nil, &out)
	return !strings.HasPrefix(out.Version, "4.4.") && !strings.HasPrefix(out.Version, "4.5.")
}

// permission is an object permission as NetBox shows it.
type permission struct {
	Constraints any `json:"constraints"`
	Users       []struct {
		ID int64 `json:"id"`
	} `json:"users"`
}

// allow lets the cluster's token take reserved addresses of a tenant.
func (s *scene) allow(t *testing.T, tenant string) {
	t.Helper()
	var all struct {
		Results []permission `json:"results"`
	}
	s.admin(t, http.MethodGet, "users/permissions/?limit=1000", nil, &all)
	var users []int64
	for _, p := range all.Results {
		if strings.Contains(fmt.Sprint(p.Constraints), schema.ClusterConstraint+":"+s.target.Cluster) {
			for _, u := range p.Users {
				users = append(users, u.ID)
			}
		}
	}
	if len(users) == 0 {
		t.Fatalf("no user is fenced to cluster %s", s.target.Cluster)
	}
	for _, p := range (schema.Access{Cluster: s.target.Cluster, ReservedTenants: []string{tenant}}).Permissions() {
		if p.Grows {
			s.make(t, "users/permissions/", map[string]any{
				"name": s.namespace, "object_types": p.ObjectTypes, "actions": p.Actions, "constraints": p.Constraints, "users": users})
		}
	}
}

// reservedPool makes reserved addresses of a tenant and returns the pool of them.
func (s *scene) reservedPool(t *testing.T, hosts ...string) (p ipam.Pool, tenant object) {
	t.Helper()
	slug, tenant := s.named(t, "tenancy/tenants/", "")
	for _, host := range hosts {
		s.reserve(t, host, tenant, nil)
	}
	return poolOf(v1alpha1.NetBoxSource{Reserved: &v1alpha1.NetBoxReserved{Tenant: slug}}), tenant
}

// reserve makes a reserved address as an engineer would.
func (s *scene) reserve(t *testing.T, host string, tenant object, fields map[string]any) object {
	t.Helper()
	return s.make(t, "ipam/ip-addresses/", s.inVRF(map[string]any{
		"address": host, "status": "reserved", "tenant": tenant.id, "description": "kept for load balancers"}, fields))
}

// testReserved claims and gives back addresses that engineers have reserved: the record
// is never deleted.
func testReserved(t *testing.T, s *scene) {
	p, tenant := s.reservedPool(t, "198.18.0.3/24", "198.18.0.2/24", "2001:db8:c::5/64")
	a := s.allocator(t)
	if !s.hasETags(t) {
		_, err := a.Claim(t.Context(), s.of("web", ipam.IPv4, p))
		if !errors.As(err, new(*ipam.ConfigError)) || !strings.Contains(err.Error(), "spec.netbox.reserved needs NetBox 4.6 or newer") {
			t.Errorf("got %v", err)
		}
		return
	}
	s.allow(t, p.Spec.NetBox.Reserved.Tenant)
	s.make(t, "ipam/ip-addresses/", s.inVRF(map[string]any{"address": "198.18.0.1/24", "status": "active", "tenant": tenant.id}, nil))
	r := s.of("web", ipam.IPv4, p)
	if got := claim(t, a, r); got != "198.18.0.2" {
		t.Errorf("got %s, want the lowest that is reserved", got)
	}
	rec := s.recordAt(t, "198.18.0.2")
	if rec.Address != "198.18.0.2/24" || rec.Status.Value != "active" || rec.Description != "kept for load balancers" ||
		rec.Fields["k8s_lb_claim"] != r.Key.String() || rec.Fields["k8s_service_uid"] != "uid-of-web" || rec.Fields["k8s_lb_release"] != "return" {
		t.Errorf("claimed: %+v", rec)
	}
	if got := claim(t, s.allocator(t), s.of("web", ipam.IPv6, p)); got != "2001:db8:c::5" {
		t.Errorf("got %s", got)
	}
	wantUsage(t, a, p, map[ipam.Family]ipam.Usage{ipam.IPv4: {Capacity: 2, Used: 1, Free: 1}, ipam.IPv6: {Capacity: 1, Used: 1}})
	if found := fmt.Sprint(resolved(t, a, p).Found); found != "[198.18.0.2-198.18.0.3 2001:db8:c::5-2001:db8:c::5]" {
		t.Errorf("Found: %s", found)
	}
	claim(t, a, s.of("next", ipam.IPv4, p))
	_, err := a.Claim(t.Context(), s.of("late", ipam.IPv4, p))
	want := fmt.Sprintf(`pool "public": 0 of 2 addresses free among those reserved in NetBox for tenant %q`, p.Spec.NetBox.Reserved.Tenant)
	if !errors.As(err, new(*ipam.ExhaustedError)) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := a.Release(t.Context(), r.Key); err != nil {
		t.Fatal(err)
	}
	if rec := s.recordAt(t, "198.18.0.2"); rec.Status.Value != "reserved" || rec.Fields["k8s_lb_claim"] != nil || rec.Description != "kept for load balancers" {
		t.Errorf("given back: %+v", rec)
	}
	report, err := a.Audit(t.Context(), []ipam.Pool{resolved(t, a, p)})
	if err != nil || len(report.Findings) != 0 {
		t.Errorf("given back, the audit says %v, %v", report.Findings, err)
	}
	if got := claim(t, s.allocator(t), s.of("late", ipam.IPv4, p)); got != "198.18.0.2" {
		t.Errorf("got %s, want the one that was given back", got)
	}
}

// testReservedAsked claims the reserved address that the user names.
func testReservedAsked(t *testing.T, s *scene) {
	if !s.hasETags(t) {
		t.Skip("NetBox before 4.6 has no ETags")
	}
	p, _ := s.reservedPool(t, "198.18.0.2/24", "198.18.0.3/24", "198.18.0.4/24")
	s.allow(t, p.Spec.NetBox.Reserved.Tenant)
	a := s.allocator(t)
	if got := claim(t, a, asking(s.of("web", ipam.IPv4, p), "198.18.0.3")); got != "198.18.0.3" {
		t.Errorf("got %s", got)
	}
	var conflict *ipam.ConflictError
	if _, err := a.Claim(t.Context(), asking(s.of("other", ipam.IPv4, p), "198.18.0.3")); !errors.As(err, &conflict) || !strings.Contains(err.Error(), "/web/ipv4") {
		t.Errorf("taken: %v", err)
	}
	if _, err := a.Claim(t.Context(), asking(s.of("other", ipam.IPv4, p), "198.18.0.9")); !errors.As(err, new(*ipam.NotInPoolsError)) {
		t.Errorf("not reserved: %v", err)
	}
	// The user changes the address: what they had goes back.
	if got := claim(t, a, asking(s.of("web", ipam.IPv4, p), "198.18.0.4")); got != "198.18.0.4" {
		t.Errorf("got %s", got)
	}
	claim(t, a, holding(asking(s.of("web", ipam.IPv4, p), "198.18.0.4"), "198.18.0.4"))
	wantClaims(t, s, map[string]string{"198.18.0.2": "", "198.18.0.3": "", "198.18.0.4": "web/ipv4"})
	if rec := s.recordAt(t, "198.18.0.3"); rec.Status.Value != "reserved" {
		t.Errorf("given back: %+v", rec)
	}
}

// testReservedRacing lets two controllers want the same records. Only their ETags keep
// them apart.
func testReservedRacing(t *testing.T, s *scene) {
	if !s.hasETags(t) {
		t.Skip("NetBox before 4.6 has no ETags")
	}
	const n = 12
	var hosts []string
	for i := range n {
		hosts = append(hosts, fmt.Sprintf("198.18.0.%d/24", i+1))
	}
	p, _ := s.reservedPool(t, hosts...)
	s.allow(t, p.Spec.NetBox.Reserved.Tenant)
	s.race(t, n, p)
	if claims := s.claims(t); len(claims) != n {
		t.Errorf("%d records, want %d", len(claims), n)
	}
}

// testReservedProblems wants to know a missing right from a missing address.
func testReservedProblems(t *testing.T, s *scene) {
	if !s.hasETags(t) {
		t.Skip("NetBox before 4.6 has no ETags")
	}
	p, tenant := s.reservedPool(t)
	try := func(change func(*v1alpha1.NetBoxReserved)) error {
		changed := *p.Spec.NetBox.Reserved
		change(&changed)
		_, err := s.allocator(t).Claim(t.Context(), s.of("web", ipam.IPv4, poolOf(v1alpha1.NetBoxSource{Reserved: &changed})))
		return err
	}
	slug := p.Spec.NetBox.Reserved.Tenant
	wantProblem(t, try(func(r *v1alpha1.NetBoxReserved) { r.VRF = s.namespace }), fmt.Sprintf(
		`pool "public": spec.netbox.reserved finds no address in NetBox with status reserved and tenant %q and VRF %q: make some there or correct it`, slug, s.namespace))
	wantProblem(t, try(func(r *v1alpha1.NetBoxReserved) { r.Tenant = "no-such" }),
		`pool "public": NetBox has no tenant "no-such": create it or correct spec.netbox.reserved.tenant`)
	wantProblem(t, try(func(r *v1alpha1.NetBoxReserved) { r.Tag = "no-such" }),
		`pool "public": NetBox has no tag "no-such": create it or correct spec.netbox.reserved.tag`)
	wantProblem(t, try(func(r *v1alpha1.NetBoxReserved) { r.VRF = "no-such" }),
		`pool "public": NetBox has no VRF "no-such": create it or correct spec.netbox.reserved.vrf`)

	s.reserve(t, "198.18.0.2/24", tenant, nil)
	err := try(func(*v1alpha1.NetBoxReserved) {})
	if !errors.As(err, new(*ipam.ConfigError)) || !strings.Contains(err.Error(), `the NetBox token may not change address`) || !strings.Contains(err.Error(), slug) {
		t.Errorf("a token that may not: %v", err)
	}
	s.allow(t, slug)
	s.patch(t, object{path: "ipam/ip-addresses/", id: s.recordAt(t, "198.18.0.2").ID}, map[string]any{"custom_fields": map[string]any{"k8s_cluster": "another"}})
	if err := try(func(*v1alpha1.NetBoxReserved) {}); !errors.As(err, new(*ipam.ExhaustedError)) {
		t.Errorf("given back by another cluster: %v", err)
	}
	if diff := cmp.Diff(map[string]string{"198.18.0.2": ""}, s.claims(t)); diff != "" {
		t.Error(diff)
	}
}
