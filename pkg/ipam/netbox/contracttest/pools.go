// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package contracttest

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox"
)

// poolTests are about where the addresses of a pool come from.
var poolTests = []test{
	{"an IP range", testRange},
	{"prefixes, then ranges, then what is found", testOrder},
	{"what is wrong with an IP range", testRangeProblems},
	{"a source that does not work is passed over", testPassedOver},
	{"a selector", testSelector},
	{"a prefix that is tagged joins the pool", testJoins},
	{"what is wrong with a selector", testSelectorProblems},
	{"addresses that end in .0 and .255 are avoided", testAvoidBuggy},
	{"racing claims that avoid addresses", testRacingPicked},
	{"usage counts an address once", testUsageOnce},
	{"reserved addresses", testReserved},
	{"an asked-for reserved address", testReservedAsked},
	{"racing claims of reserved addresses", testReservedRacing},
	{"what is wrong with reserved addresses", testReservedProblems},
}

// poolOf is a pool with this source.
func poolOf(source v1alpha1.NetBoxSource) ipam.Pool {
	return ipam.Pool{Name: "public", Spec: v1alpha1.AddressPoolSpec{NetBox: &source}}
}

// of is a request for a pool that may not be resolved.
func (s *scene) of(service string, f ipam.Family, p ipam.Pool) ipam.Request {
	return ipam.Request{
		Key:   ipam.Key{Cluster: s.target.Cluster, Namespace: s.namespace, Service: service, Family: f},
		Owner: ipam.Owner{UID: "uid-of-" + service}, Pools: []ipam.Pool{p},
	}
}

// resolved asks for what the pool has now, as the controller does.
func resolved(t *testing.T, a *netbox.Allocator, p ipam.Pool) ipam.Pool {
	t.Helper()
	p, err := a.Resolve(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// prefix makes a prefix in this run's VRF.
func (s *scene) prefix(t *testing.T, cidr string, fields map[string]any) object {
	t.Helper()
	return s.make(t, "ipam/prefixes/", s.inVRF(map[string]any{"prefix": cidr, "status": "active"}, fields))
}

// ipRange makes "first-last", with the mask of a /24 or a /64.
func (s *scene) ipRange(t *testing.T, text string, fields map[string]any) object {
	t.Helper()
	first, last, _ := strings.Cut(text, "-")
	mask := "/24"
	if strings.Contains(text, ":") {
		mask = "/64"
	}
	return s.make(t, "ipam/ip-ranges/", s.inVRF(map[string]any{"start_address": first + mask, "end_address": last + mask, "status": "active"}, fields))
}

// inVRF adds to fields that they are of this run's VRF.
func (s *scene) inVRF(fields, more map[string]any) map[string]any {
	fields["vrf"] = s.vrf.id
	maps.Copy(fields, more)
	return fields
}

// named makes something that has a name and a slug of this run.
func (s *scene) named(t *testing.T, path, suffix string) (slug string, o object) {
	t.Helper()
	slug = s.namespace + suffix
	return slug, s.make(t, path, map[string]any{"name": slug, "slug": slug})
}

// tagged are the fields of something with a tag.
func tagged(slug string) map[string]any {
	return map[string]any{"tags": []map[string]any{{"slug": slug}}}
}

// patch changes something as an engineer would.
func (s *scene) patch(t *testing.T, o object, fields map[string]any) {
	t.Helper()
	s.admin(t, http.MethodPatch, fmt.Sprintf("%s%d/", o.path, o.id), fields, nil)
}

// wantProblem wants an error to be this sentence: users read it in an Event, and it is
// all they have.
func wantProblem(t *testing.T, err error, want string) {
	t.Helper()
	if !errors.As(err, new(*ipam.ConfigError)) || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// wantUsage wants a pool to have these figures.
func wantUsage(t *testing.T, a *netbox.Allocator, p ipam.Pool, want map[ipam.Family]ipam.Usage) {
	t.Helper()
	got, err := a.Usage(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// testRange claims in an IP range, of which both ends count.
func testRange(t *testing.T, s *scene) {
	a := s.allocator(t)
	s.ipRange(t, "198.18.0.10-198.18.0.11", nil)
	s.ipRange(t, "2001:db8:c::10-2001:db8:c::ff", nil)
	p := poolOf(v1alpha1.NetBoxSource{Ranges: []v1alpha1.NetBoxRange{
		{Range: "198.18.0.10-198.18.0.11", VRF: s.namespace}, {Range: "2001:db8:c::10-2001:db8:c::ff", VRF: s.namespace},
	}})
	s.record(t, "198.18.0.9/24", "", nil)
	for want, r := range map[string]ipam.Request{
		"198.18.0.10": s.of("web", ipam.IPv4, p), "2001:db8:c::10": s.of("web", ipam.IPv6, p),
	} {
		if got := claim(t, a, r); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if got := claim(t, a, asking(s.of("asked", ipam.IPv4, p), "198.18.0.11")); got != "198.18.0.11" {
		t.Errorf("got %s", got)
	}
	wantUsage(t, a, p, map[ipam.Family]ipam.Usage{ipam.IPv4: {Capacity: 2, Used: 2}, ipam.IPv6: {Capacity: 240, Used: 1, Free: 239}})
	_, err := a.Claim(t.Context(), s.of("late", ipam.IPv4, p))
	want := fmt.Sprintf(`pool "public": 0 of 2 addresses free in 198.18.0.10-198.18.0.11 (VRF %s)`, s.namespace)
	if !errors.As(err, new(*ipam.ExhaustedError)) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := a.Release(t.Context(), s.of("web", ipam.IPv4, p).Key); err != nil {
		t.Fatal(err)
	}
	wantClaims(t, s, map[string]string{"198.18.0.9": "", "198.18.0.11": "asked/ipv4", "2001:db8:c::10": "web/ipv6"})
}

// testOrder wants prefixes before ranges before what the selector finds, and each only
// once.
func testOrder(t *testing.T, s *scene) {
	a := s.allocator(t)
	tag, _ := s.named(t, "extras/tags/", "")
	s.prefix(t, "198.18.9.0/32", tagged(tag)) // listed below: found, but not tried twice
	s.prefix(t, "198.18.1.0/32", tagged(tag))
	s.ipRange(t, "198.18.2.7-198.18.2.7", tagged(tag))
	s.ipRange(t, "198.18.3.5-198.18.3.6", nil)
	p := poolOf(v1alpha1.NetBoxSource{
		Prefixes: []v1alpha1.NetBoxPrefix{{Prefix: "198.18.9.0/32", VRF: s.namespace}},
		Ranges:   []v1alpha1.NetBoxRange{{Range: "198.18.3.5-198.18.3.6", VRF: s.namespace}},
		Selector: &v1alpha1.NetBoxSelector{Tag: tag, VRF: s.namespace},
	})
	var got []string
	for i := range 5 {
		got = append(got, claim(t, a, s.of(fmt.Sprintf("s%d", i), ipam.IPv4, p)))
	}
	if diff := cmp.Diff([]string{"198.18.9.0", "198.18.3.5", "198.18.3.6", "198.18.1.0", "198.18.2.7"}, got); diff != "" {
		t.Error(diff)
	}
	_, err := a.Claim(t.Context(), s.of("late", ipam.IPv4, p))
	in := func(text string) string { return text + " (VRF " + s.namespace + ")" }
	want := `pool "public": 0 of 5 addresses free in ` + strings.Join([]string{
		in("198.18.9.0/32"), in("198.18.3.5-198.18.3.6"), in("198.18.1.0/32"), in("198.18.2.7-198.18.2.7")}, ", ")
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	wantUsage(t, a, p, map[ipam.Family]ipam.Usage{ipam.IPv4: {Capacity: 5, Used: 5}})
}

// testRangeProblems: a range that NetBox would never give an address of is reported,
// and not taken for full.
func testRangeProblems(t *testing.T, s *scene) {
	a := s.allocator(t)
	s.ipRange(t, "198.18.0.10-198.18.0.11", map[string]any{"mark_populated": true})
	s.ipRange(t, "198.18.0.20-198.18.0.21", map[string]any{"status": "deprecated"})
	s.ipRange(t, "198.18.0.30-198.18.0.31", nil)
	for text, want := range map[string]string{
		"198.18.0.10-198.18.0.11": "IP range 198.18.0.10-198.18.0.11 is marked populated in NetBox, so it has no free address: clear the mark or correct",
		"198.18.0.20-198.18.0.21": "IP range 198.18.0.20-198.18.0.21 has status deprecated in NetBox, so no address may be taken from it: make it active or correct",
		"198.18.0.30-198.18.0.32": fmt.Sprintf("NetBox has no IP range 198.18.0.30-198.18.0.32 in VRF %q: create it or correct", s.namespace),
	} {
		p := poolOf(v1alpha1.NetBoxSource{Ranges: []v1alpha1.NetBoxRange{{Range: text, VRF: s.namespace}}})
		_, err := a.Claim(t.Context(), s.of("web", ipam.IPv4, p))
		wantProblem(t, err, fmt.Sprintf(`pool "public": %s spec.netbox.ranges[0].range`, want))
	}
	wantClaims(t, s, map[string]string{})
}

// testPassedOver claims in what works of a pool, and reports what does not once nothing
// else is left.
func testPassedOver(t *testing.T, s *scene) {
	a := s.allocator(t)
	s.prefix(t, "198.18.1.0/32", nil)
	p := poolOf(v1alpha1.NetBoxSource{Prefixes: []v1alpha1.NetBoxPrefix{
		{Prefix: "198.18.0.0/32", VRF: s.namespace}, {Prefix: "198.18.1.0/32", VRF: s.namespace},
	}})
	if got := claim(t, a, s.of("web", ipam.IPv4, p)); got != "198.18.1.0" {
		t.Errorf("got %s", got)
	}
	problem := fmt.Sprintf(`pool "public": NetBox has no prefix 198.18.0.0/32 in VRF %q: create it or correct spec.netbox.prefixes[0].prefix`, s.namespace)
	_, err := a.Claim(t.Context(), s.of("late", ipam.IPv4, p))
	wantProblem(t, err, problem)
	usage, err := a.Usage(t.Context(), p)
	wantProblem(t, err, problem)
	if diff := cmp.Diff(map[ipam.Family]ipam.Usage{ipam.IPv4: {Capacity: 1, Used: 1}}, usage); diff != "" {
		t.Error(diff)
	}
}

// testSelector finds what has the tag, role, tenant and site, and is for addresses.
func testSelector(t *testing.T, s *scene) {
	tag, _ := s.named(t, "extras/tags/", "")
	role, roleID := s.named(t, "ipam/roles/", "")
	tenant, tenantID := s.named(t, "tenancy/tenants/", "")
	site, siteID := s.named(t, "dcim/sites/", "")
	with := func(fields, more map[string]any) map[string]any {
		maps.Copy(fields, more)
		return fields
	}
	s.prefix(t, "198.18.0.0/31", with(tagged(tag), map[string]any{"status": "container"}))
	s.prefix(t, "198.18.1.0/31", with(tagged(tag), map[string]any{"status": "deprecated"}))
	s.prefix(t, "198.18.2.0/31", with(tagged(tag), map[string]any{"role": roleID.id}))
	s.prefix(t, "198.18.3.0/31", with(tagged(tag), map[string]any{"tenant": tenantID.id, "scope_type": "dcim.site", "scope_id": siteID.id}))
	s.prefix(t, "198.18.4.0/31", nil)
	s.ipRange(t, "198.18.5.1-198.18.5.2", with(tagged(tag), map[string]any{"mark_populated": true}))
	s.ipRange(t, "198.18.6.1-198.18.6.2", with(tagged(tag), map[string]any{"status": "deprecated"}))
	s.ipRange(t, "198.18.7.1-198.18.7.2", with(tagged(tag), map[string]any{"role": roleID.id}))
	s.prefix(t, "2001:db8:c::/127", tagged(tag))
	for _, tt := range []struct {
		sel  v1alpha1.NetBoxSelector
		want string
	}{
		{v1alpha1.NetBoxSelector{Tag: tag}, "198.18.2.0-198.18.2.1 198.18.3.0-198.18.3.1 198.18.7.1-198.18.7.2 2001:db8:c::-2001:db8:c::1"},
		{v1alpha1.NetBoxSelector{Role: role}, "198.18.2.0-198.18.2.1 198.18.7.1-198.18.7.2"},
		{v1alpha1.NetBoxSelector{Tenant: tenant}, "198.18.3.0-198.18.3.1"},
		{v1alpha1.NetBoxSelector{Site: site}, "198.18.3.0-198.18.3.1"},
		{v1alpha1.NetBoxSelector{Tag: tag, Tenant: tenant, Site: site, VRF: s.namespace}, "198.18.3.0-198.18.3.1"},
	} {
		p := resolved(t, s.allocator(t), poolOf(v1alpha1.NetBoxSource{Selector: &tt.sel}))
		var got []string
		for _, r := range p.Found {
			got = append(got, r.String())
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%+v finds %v, want %s", tt.sel, got, tt.want)
		}
	}
	p := poolOf(v1alpha1.NetBoxSource{Selector: &v1alpha1.NetBoxSelector{Tag: tag}})
	if got := claim(t, s.allocator(t), s.of("web", ipam.IPv6, p)); got != "2001:db8:c::" {
		t.Errorf("got %s", got)
	}
	if got := claim(t, s.allocator(t), asking(s.of("web", ipam.IPv4, p), "198.18.7.2")); got != "198.18.7.2" {
		t.Errorf("got %s", got)
	}
}

// testJoins: what engineers tag joins the pool by itself. What leaves it keeps its
// addresses.
func testJoins(t *testing.T, s *scene) {
	a := s.allocator(t)
	tag, _ := s.named(t, "extras/tags/", "")
	one := s.prefix(t, "198.18.0.0/32", tagged(tag))
	two := s.prefix(t, "198.18.1.0/32", nil)
	p := poolOf(v1alpha1.NetBoxSource{Selector: &v1alpha1.NetBoxSelector{Tag: tag}})
	claim(t, a, s.of("first", ipam.IPv4, p))
	if _, err := a.Claim(t.Context(), s.of("web", ipam.IPv4, p)); !errors.As(err, new(*ipam.ExhaustedError)) {
		t.Fatalf("got %v", err)
	}
	s.patch(t, two, tagged(tag))
	wantUsage(t, a, p, map[ipam.Family]ipam.Usage{ipam.IPv4: {Capacity: 2, Used: 1, Free: 1}})
	if got := claim(t, a, s.of("web", ipam.IPv4, p)); got != "198.18.1.0" {
		t.Errorf("got %s", got)
	}
	// What leaves the pool keeps its addresses.
	s.patch(t, one, map[string]any{"tags": []any{}})
	wantUsage(t, a, p, map[ipam.Family]ipam.Usage{ipam.IPv4: {Capacity: 1, Used: 1}})
	if got := claim(t, a, holding(s.of("first", ipam.IPv4, resolved(t, a, p)), "198.18.0.0")); got != "198.18.0.0" {
		t.Errorf("got %s", got)
	}
}

// testSelectorProblems wants a selector that finds nothing to say what to do in NetBox.
func testSelectorProblems(t *testing.T, s *scene) {
	tag, _ := s.named(t, "extras/tags/", "")
	tenant, _ := s.named(t, "tenancy/tenants/", "")
	try := func(sel v1alpha1.NetBoxSelector) error {
		_, err := s.allocator(t).Claim(t.Context(), s.of("web", ipam.IPv4, poolOf(v1alpha1.NetBoxSource{Selector: &sel})))
		return err
	}
	for _, tt := range []struct {
		sel  v1alpha1.NetBoxSelector
		want string
	}{
		{v1alpha1.NetBoxSelector{Tag: tag}, fmt.Sprintf("spec.netbox.selector finds no prefix or IP range in NetBox with tag %q: tag one there or correct it", tag)},
		{v1alpha1.NetBoxSelector{Tag: tag, Tenant: tenant, VRF: s.namespace}, fmt.Sprintf(
			"spec.netbox.selector finds no prefix or IP range in NetBox with tag %q and tenant %q and VRF %q: give one these there or correct it", tag, tenant, s.namespace)},
		{v1alpha1.NetBoxSelector{Tag: "no-such"}, `NetBox has no tag "no-such": create it or correct spec.netbox.selector.tag`},
		{v1alpha1.NetBoxSelector{Tag: tag, Role: "no-such"}, `NetBox has no role "no-such": create it or correct spec.netbox.selector.role`},
		{v1alpha1.NetBoxSelector{Tenant: "no-such"}, `NetBox has no tenant "no-such": create it or correct spec.netbox.selector.tenant`},
		{v1alpha1.NetBoxSelector{Site: "no-such"}, `NetBox has no site "no-such": create it or correct spec.netbox.selector.site`},
		{v1alpha1.NetBoxSelector{Tag: tag, VRF: "no-such"}, `NetBox has no VRF "no-such": create it or correct spec.netbox.selector.vrf`},
	} {
		wantProblem(t, try(tt.sel), `pool "public": `+tt.want)
	}
	other := s.make(t, "ipam/vrfs/", map[string]any{"name": s.namespace + "-2"})
	s.prefix(t, "198.18.0.0/24", tagged(tag))
	s.prefix(t, "198.18.0.128/25", map[string]any{"vrf": other.id, "tags": tagged(tag)["tags"]})
	wantProblem(t, try(v1alpha1.NetBoxSelector{Tag: tag}), fmt.Sprintf(
		`pool "public": spec.netbox.selector finds 198.18.0.0/24 (VRF %s) and 198.18.0.128/25 (VRF %s-2), and one address must not be assigned twice: set spec.netbox.selector.vrf`,
		s.namespace, s.namespace))
	if err := try(v1alpha1.NetBoxSelector{Tag: tag, VRF: s.namespace}); err != nil {
		t.Error(err)
	}
}

// testAvoidBuggy leaves out addresses that end in .0 or .255, which NetBox cannot do.
func testAvoidBuggy(t *testing.T, s *scene) {
	a := s.allocator(t)
	s.ipRange(t, "198.18.0.254-198.18.0.255", nil)
	s.prefix(t, "198.18.2.0/23", map[string]any{"is_pool": true})
	s.prefix(t, "198.18.4.0/31", nil)
	p := poolOf(v1alpha1.NetBoxSource{
		Prefixes: []v1alpha1.NetBoxPrefix{{Prefix: "198.18.4.0/31", VRF: s.namespace}, {Prefix: "198.18.2.0/23", VRF: s.namespace}},
		Ranges:   []v1alpha1.NetBoxRange{{Range: "198.18.0.254-198.18.0.255", VRF: s.namespace}},
	})
	p.Spec.AvoidBuggyIPs = true
	wantUsage(t, a, p, map[ipam.Family]ipam.Usage{ipam.IPv4: {Capacity: 1 + 508 + 1, Free: 510}})
	got := []string{claim(t, a, s.of("a", ipam.IPv4, p)), claim(t, a, s.of("b", ipam.IPv4, p))}
	if diff := cmp.Diff([]string{"198.18.4.1", "198.18.2.1"}, got); diff != "" {
		t.Error(diff)
	}
	if got := claim(t, a, asking(s.of("asked", ipam.IPv4, p), "198.18.2.0")); got != "198.18.2.0" {
		t.Errorf("asked for, got %s", got)
	}
	only := poolOf(v1alpha1.NetBoxSource{Ranges: p.Spec.NetBox.Ranges})
	only.Spec.AvoidBuggyIPs = true
	claim(t, a, s.of("c", ipam.IPv4, only))
	_, err := a.Claim(t.Context(), s.of("d", ipam.IPv4, only))
	want := fmt.Sprintf(`pool "public": 0 of 1 addresses free in 198.18.0.254-198.18.0.255 (VRF %s)`, s.namespace)
	if !errors.As(err, new(*ipam.ExhaustedError)) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	wantClaims(t, s, map[string]string{"198.18.4.1": "a/ipv4", "198.18.2.1": "b/ipv4", "198.18.2.0": "asked/ipv4", "198.18.0.254": "c/ipv4"})
	rec := s.recordAt(t, "198.18.2.1")
	if rec.Address != "198.18.2.1/32" || rec.Status.Value != "active" || rec.Fields["k8s_lb_release"] != "delete" {
		t.Errorf("the record of an address that was picked: %+v", rec)
	}
}

// testRacingPicked lets two controllers pick addresses of one prefix.
func testRacingPicked(t *testing.T, s *scene) {
	const n = 30
	s.prefix(t, "198.18.2.0/23", nil)
	p := poolOf(v1alpha1.NetBoxSource{Prefixes: []v1alpha1.NetBoxPrefix{{Prefix: "198.18.2.0/23", VRF: s.namespace}}})
	p.Spec.AvoidBuggyIPs = true
	got := s.race(t, n, p)
	if slices.ContainsFunc(got, ipam.Buggy) {
		t.Errorf("got %v", got)
	}
}

// race claims with two allocators at a time and returns n distinct addresses.
func (s *scene) race(t *testing.T, n int, p ipam.Pool) []netip.Addr {
	t.Helper()
	one, two := s.allocator(t), s.allocator(t)
	got := make([]netip.Addr, n)
	var wg sync.WaitGroup
	for i := range n {
		a := one
		if i%2 == 1 {
			a = two
		}
		wg.Go(func() {
			c, err := a.Claim(t.Context(), s.of(fmt.Sprintf("s%d", i), ipam.IPv4, p))
			for range 5 { // the other one may have been faster many times in a row
				if !errors.As(err, new(*ipam.UnavailableError)) {
					break
				}
				c, err = a.Claim(t.Context(), s.of(fmt.Sprintf("s%d", i), ipam.IPv4, p))
			}
			if err != nil {
				t.Errorf("claim %d: %v", i, err)
			}
			got[i] = c.Addr
		})
	}
	wg.Wait()
	claims := s.claims(t)
	for i, addr := range got {
		if claims[addr.String()] != fmt.Sprintf("s%d/ipv4", i) {
			t.Errorf("s%d has %s, which NetBox gives to %q", i, addr, claims[addr.String()])
		}
	}
	return got
}

// testUsageOnce counts each address once, however often the pool names it.
func testUsageOnce(t *testing.T, s *scene) {
	s.prefix(t, "198.18.0.0/24", nil)
	s.prefix(t, "198.18.0.0/28", nil)
	s.ipRange(t, "198.18.0.250-198.18.0.255", nil)
	s.record(t, "198.18.0.3/24", "", nil)
	s.record(t, "198.18.0.251/32", "", nil)
	p := poolOf(v1alpha1.NetBoxSource{
		Prefixes: []v1alpha1.NetBoxPrefix{{Prefix: "198.18.0.0/28", VRF: s.namespace}, {Prefix: "198.18.0.0/24", VRF: s.namespace}},
		Ranges:   []v1alpha1.NetBoxRange{{Range: "198.18.0.250-198.18.0.255", VRF: s.namespace}},
	})
	wantUsage(t, s.allocator(t), p, map[ipam.Family]ipam.Usage{ipam.IPv4: {Capacity: 255, Used: 2, Free: 253}})
	p.Spec.AvoidBuggyIPs = true
	wantUsage(t, s.allocator(t), p, map[ipam.Family]ipam.Usage{ipam.IPv4: {Capacity: 254, Used: 2, Free: 252}})
}
