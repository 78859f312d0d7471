// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox/contracttest"
	client "github.com/bm-ccm/bm-ccm/pkg/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/netboxtest"
)

var pool = ipam.Pool{Name: "public", Spec: v1alpha1.AddressPoolSpec{
	NetBox: &v1alpha1.NetBoxSource{Prefixes: []v1alpha1.NetBoxPrefix{{Prefix: "203.0.113.0/24"}}},
}}

func seed() *netboxtest.Seed {
	return &netboxtest.Seed{ClaimFields: true, Prefixes: []netboxtest.SeedPrefix{{Prefix: "203.0.113.0/24"}}}
}

func startWithPool(t *testing.T) (*netboxtest.Server, contracttest.Target) {
	t.Helper()
	return start(t, netboxtest.Options{Seed: seed()})
}

func newClient(t *testing.T, target contracttest.Target, timeout time.Duration) *client.Client {
	t.Helper()
	c, err := client.NewClient(client.Options{URL: target.URL, TokenFile: target.TokenFile, Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newAllocator(t *testing.T, target contracttest.Target) *netbox.Allocator {
	t.Helper()
	return netbox.NewAllocator(newClient(t, target, 5*time.Second), "lab", "uid-1", netbox.Record{})
}

func request(service, addr string) ipam.Request {
	r := ipam.Request{
		Key:   ipam.Key{Cluster: "lab", Namespace: "default", Service: service, Family: ipam.IPv4},
		Owner: ipam.Owner{UID: "uid-of-" + service}, Pools: []ipam.Pool{pool},
	}
	if addr != "" {
		r.Addr = netip.MustParseAddr(addr)
	}
	return r
}

// records maps the addresses in NetBox to their claims.
func records(srv *netboxtest.Server) map[string]string {
	out := map[string]string{}
	for _, a := range srv.Addresses() {
		claim, _ := a.CustomFields["k8s_lb_claim"].(string)
		out[strings.TrimSuffix(a.Address, "/32")] = strings.TrimPrefix(claim, "lab/default/")
	}
	return out
}

func wantRecords(t *testing.T, srv *netboxtest.Server, want map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, records(srv)); diff != "" {
		t.Errorf("the records in NetBox (-want +got):\n%s", diff)
	}
}

// eventually repeats what may fail for as long as a open circuit lets it.
func eventually(t *testing.T, do func() error) {
	t.Helper()
	var err error
	for range 300 { // several times as long as the circuit stays open
		if err = do(); err == nil {
			return
		}
		var away *ipam.UnavailableError
		if !errors.As(err, &away) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal(err)
}

// TestCrashAtEveryStep lets a process die at each request that it sends, the
// request done or not done, and wants its successor to finish the job.
func TestCrashAtEveryStep(t *testing.T) {
	const other = "203.0.113.77"
	jobs := []struct {
		name  string
		start string // the address before
		do    func(*testing.T, *netbox.Allocator) error
		want  map[string]string
	}{
		{"claim", "", claiming("web", ""), map[string]string{"203.0.113.1": "web/ipv4"}},
		{"claim of a given address", "", claiming("web", other), map[string]string{other: "web/ipv4"}},
		{"change of the address", "203.0.113.5", claiming("web", other), map[string]string{other: "web/ipv4"}},
		{"release", "203.0.113.5", releasing("web"), map[string]string{}},
	}
	deaths := map[string]netboxtest.Fault{
		"before the request": {Reset: true},
		"after the request":  {LoseAnswerAfterCommit: true, Times: 1},
	}
	for _, job := range jobs {
		for death, fault := range deaths {
			t.Run(job.name+"/"+death, func(t *testing.T) {
				for step := 0; crashAt(t, step, job.start, fault, job.do, job.want); step++ {
					if step > 30 {
						t.Fatal("the job never ends")
					}
				}
			})
		}
	}
}

// crashAt returns false when the job was done before the step came.
func crashAt(t *testing.T, step int, start string, fault netboxtest.Fault, do func(*testing.T, *netbox.Allocator) error, want map[string]string) bool {
	t.Helper()
	srv, target := startWithPool(t)
	if start != "" {
		eventually(t, func() error { return claiming("web", start)(t, newAllocator(t, target)) })
	}
	fault.Skip = step
	srv.Inject(fault)
	srv.Inject(netboxtest.Fault{Skip: step, Reset: true}) // after death nothing more is sent
	crashed := do(t, newAllocator(t, target)) != nil
	srv.ClearFaults()
	if n := len(srv.Addresses()); n > 2 {
		t.Errorf("step %d left %d records", step, n)
	}
	eventually(t, func() error { return do(t, newAllocator(t, target)) })
	if diff := cmp.Diff(want, records(srv)); diff != "" {
		t.Errorf("crash at step %d (-want +got):\n%s", step, diff)
	}
	return crashed
}

func claiming(service, addr string) func(*testing.T, *netbox.Allocator) error {
	return func(t *testing.T, a *netbox.Allocator) error {
		_, err := a.Claim(t.Context(), request(service, addr))
		return err
	}
}

func releasing(service string) func(*testing.T, *netbox.Allocator) error {
	return func(t *testing.T, a *netbox.Allocator) error {
		return a.Release(t.Context(), request(service, "").Key)
	}
}

// TestLostAnswers keeps the process alive: it must find what NetBox did.
func TestLostAnswers(t *testing.T) {
	tests := []struct {
		name  string
		fault netboxtest.Fault
	}{
		{"connection broken after commit", netboxtest.Fault{LoseAnswerAfterCommit: true}},
		{"answer cut off", netboxtest.Fault{Truncate: true}},
		{"no answer after commit", netboxtest.Fault{HangAfterCommit: true}},
		{"no answer, not done", netboxtest.Fault{HangBeforeCommit: true}},
		{"connection broken, not done", netboxtest.Fault{Reset: true}},
		{"500, not done", netboxtest.Fault{Status: 500}},
		{"502 page of a proxy", netboxtest.Fault{Status: 502, HTMLBody: true}},
		{"200 page of a proxy", netboxtest.Fault{HTMLBody: true}},
	}
	for _, tt := range tests {
		for _, addr := range []string{"", "203.0.113.9"} {
			t.Run(tt.name+"/"+addr, func(t *testing.T) {
				srv, target := startWithPool(t)
				a := netbox.NewAllocator(newClient(t, target, 300*time.Millisecond), "lab", "uid-1", netbox.Record{})
				eventually(t, func() error { return claiming("first", "")(t, a) })
				tt.fault.Method, tt.fault.Times = http.MethodPost, 1
				srv.Inject(tt.fault)
				var got ipam.Claim
				for range 3 { // a page of a proxy is a matter of configuration: no eventually
					var err error
					if got, err = a.Claim(t.Context(), request("web", addr)); err == nil {
						break
					}
				}
				want := addr
				if want == "" {
					want = "203.0.113.2"
				}
				if got.Addr.String() != want {
					t.Errorf("got %v, want %s", got.Addr, want)
				}
				wantRecords(t, srv, map[string]string{"203.0.113.1": "first/ipv4", want: "web/ipv4"})
			})
		}
	}
}

func TestLostAnswerOfAList(t *testing.T) {
	srv, target := startWithPool(t)
	a := newAllocator(t, target)
	eventually(t, func() error { return claiming("first", "")(t, a) })
	srv.Inject(netboxtest.Fault{Method: http.MethodPost, Path: "available-ips", Skip: 1, Times: 1, LoseAnswerAfterCommit: true})
	srv.Inject(netboxtest.Fault{Method: http.MethodPost, Times: 1, Latency: netboxtest.Duration(50 * time.Millisecond)})
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() { eventually(t, func() error { return claiming(fmt.Sprintf("s%d", i), "")(t, a) }) })
	}
	wg.Wait()
	byClaim := map[string]bool{}
	for addr, claim := range records(srv) {
		if byClaim[claim] {
			t.Errorf("%s: a second record of %s", addr, claim)
		}
		byClaim[claim] = true
	}
	if len(byClaim) != 21 {
		t.Errorf("%d claims, want 21", len(byClaim))
	}
}

// TestSentences wants errors to tell the user what to do.
func TestSentences(t *testing.T) {
	config := func(err error) bool { return errors.As(err, new(*ipam.ConfigError)) }
	away := func(err error) bool { return errors.As(err, new(*ipam.UnavailableError)) }
	tests := []struct {
		name  string
		fault netboxtest.Fault
		kind  func(error) bool
		want  string
	}{
		{"page instead of an answer", netboxtest.Fault{HTMLBody: true}, config, "answered HTML, not JSON: check netbox.url"},
		{"page for an error", netboxtest.Fault{Status: 404, HTMLBody: true}, config, "answered HTML, not JSON: check netbox.url"},
		{"redirect", netboxtest.Fault{Status: 301, Header: map[string]string{"Location": "https://netbox.example/"}, Body: "{}"}, config, "redirects to https://netbox.example/: correct netbox.url"},
		{"bad token", netboxtest.Fault{Status: 403, Body: `{"detail":"Invalid v2 token"}`}, config, "put a valid one into netbox.tokenFile"},
		{"no permission", netboxtest.Fault{Status: 403, Body: `{"detail":"You do not have permission to perform this action."}`}, config, "lacks the permission"},
		{"500", netboxtest.Fault{Status: 500}, away, "answers 500"},
		{"503 page", netboxtest.Fault{Status: 503, HTMLBody: true}, away, "answers 503"},
		{"slow", netboxtest.Fault{HangBeforeCommit: true}, away, "did not answer in time (200ms)"},
		{"restart", netboxtest.Fault{Reset: true}, away, "EOF"},
		{"not JSON", netboxtest.Fault{Status: 200, Body: "[1"}, away, "is not understood"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			srv, target := startWithPool(t)
			a := netbox.NewAllocator(newClient(t, target, 200*time.Millisecond), "lab", "uid-1", netbox.Record{})
			remove := srv.Inject(tt.fault)
			_, err := a.Claim(t.Context(), request("web", ""))
			if !tt.kind(err) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %T %v, want %q", err, err, tt.want)
			}
			wantRecords(t, srv, map[string]string{})
			remove()
			time.Sleep(1100 * time.Millisecond) // a failed check is remembered for a second
			eventually(t, func() error { return claiming("web", "")(t, a) })
		})
	}
}

func TestRetryAfter(t *testing.T) {
	srv, target := startWithPool(t)
	a := newAllocator(t, target)
	eventually(t, func() error { return claiming("first", "")(t, a) })
	srv.Inject(netboxtest.Fault{Status: 429, Header: map[string]string{"Retry-After": "40"}, Times: 1})
	var away *ipam.UnavailableError
	if _, err := a.Claim(t.Context(), request("web", "")); !errors.As(err, &away) || away.RetryAfter != 40*time.Second {
		t.Fatalf("got %v", err)
	}
	before := len(srv.Requests())
	if _, err := a.Claim(t.Context(), request("web", "")); !errors.As(err, &away) || away.RetryAfter < 30*time.Second {
		t.Errorf("got %v", err)
	}
	if n := len(srv.Requests()) - before; n != 0 {
		t.Errorf("%d requests though NetBox asked to be left alone", n)
	}
	// What has an address is not touched by that.
	if c, err := a.Claim(t.Context(), request("first", "")); err != nil || c.Addr.String() != "203.0.113.1" {
		t.Errorf("%v, %v", c, err)
	}
}

func TestADeadNetBoxIsNotHammered(t *testing.T) {
	srv, target := startWithPool(t)
	a := newAllocator(t, target)
	eventually(t, func() error { return claiming("first", "")(t, a) })
	srv.Inject(netboxtest.Fault{Status: 500})
	before := len(srv.Requests())
	for i := range 200 {
		if err := claiming(fmt.Sprintf("s%d", i), "")(t, a); err == nil {
			t.Fatal("claimed without NetBox")
		}
	}
	if n := len(srv.Requests()) - before; n > 20 {
		t.Errorf("%d requests for 200 claims", n)
	}
	srv.ClearFaults()
	eventually(t, func() error { return claiming("web", "")(t, a) })
}

func TestTokenRotation(t *testing.T) {
	srv, target := startWithPool(t)
	a := newAllocator(t, target)
	eventually(t, func() error { return claiming("first", "")(t, a) })
	const next = "nbt_abcdefghijkl.0123456789abcdef0123456789abcdef01234567"
	if err := srv.AddToken(netboxtest.Token{User: "lab", Key: next}); err != nil {
		t.Fatal(err)
	}
	srv.RevokeToken(fencedToken)
	if err := claiming("web", "")(t, a); !errors.As(err, new(*ipam.ConfigError)) || !strings.Contains(err.Error(), "netbox.tokenFile") {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(target.TokenFile, []byte(next), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := claiming("web", "")(t, a); err != nil {
		t.Error(err)
	}
}

func TestRequestsPerClaim(t *testing.T) {
	srv, target := startWithPool(t)
	a := newAllocator(t, target)
	eventually(t, func() error { return claiming("first", "")(t, a) })
	before := len(srv.Requests())
	for i := range 10 {
		if err := claiming(fmt.Sprintf("one%d", i), "")(t, a); err != nil {
			t.Fatal(err)
		}
		if err := claiming(fmt.Sprintf("one%d", i), "")(t, a); err != nil { // it is there
			t.Fatal(err)
		}
	}
	if n := len(srv.Requests()) - before; n != 10 {
		t.Errorf("%d requests for 10 claims one after the other, want 10", n)
	}
	srv.Inject(netboxtest.Fault{Method: http.MethodPost, Latency: netboxtest.Duration(20 * time.Millisecond)})
	before = len(srv.Requests())
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			if err := claiming(fmt.Sprintf("many%d", i), "")(t, a); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(srv.Requests()) - before; n > 20 {
		t.Errorf("%d requests for 100 claims at a time", n)
	}
	before = len(srv.Requests())
	for i := range 100 {
		wg.Go(func() {
			if err := releasing(fmt.Sprintf("many%d", i))(t, a); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(srv.Requests()) - before; n > 40 {
		t.Errorf("%d requests for 100 releases at a time", n)
	}
	if n := len(srv.Addresses()); n != 11 {
		t.Errorf("%d records are left, want 11", n)
	}
}

func TestRestartAsksInPages(t *testing.T) {
	srv, target := startWithPool(t)
	const n = 2500
	for i := range n {
		if _, err := srv.WriteBehindBack(map[string]any{
			"address": netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}).String() + "/32", "status": "active",
			"custom_fields": map[string]any{"k8s_lb_claim": fmt.Sprintf("lab/default/s%d/ipv4", i), "k8s_cluster": "lab", "k8s_service_uid": fmt.Sprintf("uid-of-s%d", i), "k8s_cluster_uid": "uid-1"},
		}); err != nil {
			t.Fatal(err)
		}
	}
	a := newAllocator(t, target)
	for i := range n {
		c, err := a.Claim(t.Context(), request(fmt.Sprintf("s%d", i), ""))
		if want := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}); err != nil || c.Addr != want {
			t.Fatalf("s%d: %v, %v; want %s", i, c.Addr, err, want)
		}
	}
	if got := len(srv.Requests()); got != 5 { // status, custom fields, three pages
		t.Errorf("%d requests, want 5", got)
	}
	for _, r := range srv.Requests() {
		if r.Method != http.MethodGet {
			t.Errorf("%s %s: nothing was to be written", r.Method, r.Path)
		}
	}
}

// TestSeveralRecordsOfOneKey come from the web pages, whose writes NetBox does
// not serialise.
func TestSeveralRecordsOfOneKey(t *testing.T) {
	srv, target := startWithPool(t)
	for _, host := range []string{"203.0.113.30/32", "203.0.113.20/32"} {
		if _, err := srv.WriteBehindBack(map[string]any{"address": host, "status": "active", "custom_fields": map[string]any{
			"k8s_lb_claim": "lab/default/web/ipv4", "k8s_cluster": "lab", "k8s_cluster_uid": "uid-1", "k8s_service_uid": "uid-of-web"}}); err != nil {
			t.Fatal(err)
		}
	}
	c, err := newAllocator(t, target).Claim(t.Context(), request("web", ""))
	if err != nil || c.Addr.String() != "203.0.113.30" {
		t.Errorf("got %v, %v; want the one with the lowest id", c.Addr, err)
	}
}

// TestDuplicateAddress is about a NetBox that does not enforce uniqueness.
func TestDuplicateAddress(t *testing.T) {
	srv, target := start(t, netboxtest.Options{Seed: seed(), AllowGlobalDuplicates: true})
	if _, err := srv.WriteBehindBack(map[string]any{"address": "203.0.113.9/24", "status": "active", "description": "printer"}); err != nil {
		t.Fatal(err)
	}
	_, err := newAllocator(t, target).Claim(t.Context(), request("web", "203.0.113.9"))
	if !errors.As(err, new(*ipam.ConflictError)) || !strings.Contains(err.Error(), "printer") {
		t.Errorf("got %v", err)
	}
	if n := len(srv.Addresses()); n != 1 {
		t.Errorf("%d records, want the printer's only", n)
	}
}

func TestCheck(t *testing.T) {
	fields := func(change func(map[string]*netboxtest.CustomField)) []netboxtest.CustomField {
		list := netboxtest.ClaimFields()
		byName := map[string]*netboxtest.CustomField{}
		for i := range list {
			byName[list[i].Name] = &list[i]
		}
		change(byName)
		return list
	}
	tests := []struct {
		name   string
		change func(map[string]*netboxtest.CustomField)
		want   []string
	}{
		{"missing", func(f map[string]*netboxtest.CustomField) { f["k8s_lb_claim"].Name = "other" },
			[]string{"NetBox has no custom field k8s_lb_claim that the token may see: create it on ipam.ipaddress with type text, unique and filter logic exact"}},
		{"loose", func(f map[string]*netboxtest.CustomField) { f["k8s_cluster"].FilterLogic = "loose" }, []string{"k8s_cluster has filter logic loose: set it to exact"}},
		{"not unique", func(f map[string]*netboxtest.CustomField) { f["k8s_lb_claim"].Unique = false }, []string{"k8s_lb_claim is not unique"}},
		{"two mistakes", func(f map[string]*netboxtest.CustomField) {
			f["k8s_service_uid"].ObjectTypes = []string{"ipam.prefix"}
			f["k8s_cluster_uid"].Type = "integer"
		}, []string{"k8s_service_uid is not for ipam.ipaddress", "k8s_cluster_uid has type integer"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := seed()
			s.ClaimFields, s.CustomFields = false, fields(tt.change)
			srv, target := start(t, netboxtest.Options{Seed: s})
			_, err := newAllocator(t, target).Claim(t.Context(), request("web", ""))
			if !errors.As(err, new(*ipam.ConfigError)) {
				t.Fatalf("got %v", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want %q in it", err, want)
				}
			}
			if n := len(srv.Addresses()); n != 0 {
				t.Errorf("%d addresses claimed all the same", n)
			}
		})
	}
}

// TestFieldTakenAway: NetBox ignores a filter by a field that is gone, and
// returns every address there is.
func TestFieldTakenAway(t *testing.T) {
	srv, target := startWithPool(t)
	if _, err := srv.WriteBehindBack(map[string]any{"address": "10.0.0.1/32", "status": "active"}); err != nil {
		t.Fatal(err)
	}
	a := newAllocator(t, target)
	eventually(t, func() error { return claiming("first", "")(t, a) })
	removeField(t, target, "k8s_cluster")
	if claims, err := a.List(t.Context()); !errors.As(err, new(*ipam.ConfigError)) || !strings.Contains(err.Error(), "k8s_cluster") {
		t.Errorf("List: %v, %v", claims, err)
	}
	if err := claiming("web", "")(t, a); !errors.As(err, new(*ipam.ConfigError)) {
		t.Errorf("Claim: %v", err)
	}
	if n := len(srv.Addresses()); n != 2 {
		t.Errorf("%d records, want 2", n)
	}
}

func removeField(t *testing.T, target contracttest.Target, name string) {
	t.Helper()
	for id := 1; id <= 4; id++ {
		path := fmt.Sprintf("%s/api/extras/custom-fields/%d/", target.URL, id)
		if body := admin(t, http.MethodGet, path, target); strings.Contains(body, `"name":"`+name+`"`) {
			admin(t, http.MethodDelete, path, target)
			return
		}
	}
	t.Fatalf("no custom field %s", name)
}
