// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package contracttest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox"
	client "github.com/bm-ccm/bm-ccm/pkg/netbox"
)

// Target is a NetBox to test against. It must have the claim fields. What the
// tests make in it lies in a VRF of their own and is removed again.
type Target struct {
	URL string
	// TokenFile holds the token that the allocator uses.
	TokenFile string
	// AdminToken sets the scene: it may add and change everything.
	AdminToken string
	// Cluster is the cluster that the allocator's token may write for.
	Cluster string
}

// clusterUID is the UID that the tests' cluster has.
const clusterUID = "0d0f9a55-7d2c-4d9e-9d0c-contract0001"

// scene is what one run made in NetBox.
type scene struct {
	target    Target
	namespace string // of all Services of this run
	vrf       object
}

// object is something in NetBox.
type object struct {
	path string
	id   int64
}

// newScene begins a run, with names that no other run has.
func newScene(t *testing.T, target Target) *scene {
	t.Helper()
	name := "contract-" + strings.ToLower(rand.Text()[:8])
	s := &scene{target: target, namespace: name}
	s.vrf = s.make(t, "ipam/vrfs/", map[string]any{"name": name})
	return s
}

// pool makes a prefix in NetBox and returns the pool of it.
func (s *scene) pool(t *testing.T, prefixes ...string) ipam.Pool {
	t.Helper()
	source := &v1alpha1.NetBoxSource{}
	for _, p := range prefixes {
		s.make(t, "ipam/prefixes/", map[string]any{"prefix": p, "vrf": s.vrf.id, "status": "active"})
		source.Prefixes = append(source.Prefixes, v1alpha1.NetBoxPrefix{Prefix: p, VRF: s.namespace})
	}
	return ipam.Pool{Name: "public", Spec: v1alpha1.AddressPoolSpec{NetBox: source}}
}

// allocator returns a fresh one, as after a restart.
func (s *scene) allocator(t *testing.T) *netbox.Allocator { return s.allocatorOf(t, clusterUID) }

// allocatorOf returns that of a cluster with this UID.
func (s *scene) allocatorOf(t *testing.T, uid string) *netbox.Allocator {
	t.Helper()
	c, err := s.client()
	if err != nil {
		t.Fatal(err)
	}
	return netbox.NewAllocator(c, s.target.Cluster, uid, netbox.Record{})
}

// client has the token of the cluster, with the rights that it has in production.
func (s *scene) client() (*client.Client, error) {
	return client.NewClient(client.Options{URL: s.target.URL, TokenFile: s.target.TokenFile, Timeout: 30 * time.Second})
}

// request asks for an address for a Service, of the family of the first pool.
func (s *scene) request(service string, pools ...ipam.Pool) ipam.Request {
	family := ipam.IPv4
	if ranges, err := pools[0].Ranges(); err == nil {
		family = ipam.FamilyOf(ranges[0].From())
	}
	return ipam.Request{
		Key:   ipam.Key{Cluster: s.target.Cluster, Namespace: s.namespace, Service: service, Family: family},
		Owner: ipam.Owner{UID: "uid-of-" + service}, Pools: pools,
	}
}

// address is an address record as NetBox shows it.
type address struct {
	ID          int64  `json:"id"`
	Address     string `json:"address"`
	Description string `json:"description"`
	DNSName     string `json:"dns_name"`
	Tenant      slug   `json:"tenant"`
	Tags        []slug `json:"tags"`
	Status      struct {
		Value string `json:"value"`
	} `json:"status"`
	Role   any            `json:"role"`
	Fields map[string]any `json:"custom_fields"`
}

// slug is a nested object of which only the slug counts.
type slug struct {
	Slug string `json:"slug"`
}

// objectPath is the path of an address.
func objectPath(id int64) string { return fmt.Sprintf("ipam/ip-addresses/%d/", id) }

// addresses returns all addresses of this run's VRF, by id.
func (s *scene) addresses(t *testing.T) []address {
	t.Helper()
	var out struct {
		Results []address `json:"results"`
	}
	s.admin(t, http.MethodGet, fmt.Sprintf("ipam/ip-addresses/?limit=1000&ordering=id&vrf_id=%d", s.vrf.id), nil, &out)
	return out.Results
}

// claims returns the claim fields of all addresses of this run's VRF.
func (s *scene) claims(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, a := range s.addresses(t) {
		host, _, _ := strings.Cut(a.Address, "/")
		claim, _ := a.Fields["k8s_lb_claim"].(string)
		out[host] = strings.TrimPrefix(claim, s.target.Cluster+"/"+s.namespace+"/")
	}
	return out
}

// record writes an address as an engineer would; claim is "<service>/<family>".
func (s *scene) record(t *testing.T, host, claim string, fields map[string]any) object {
	t.Helper()
	all := map[string]any{}
	if claim != "" {
		all["k8s_lb_claim"] = s.target.Cluster + "/" + s.namespace + "/" + claim
	}
	maps.Copy(all, fields)
	return s.make(t, "ipam/ip-addresses/", map[string]any{
		"address": host, "vrf": s.vrf.id, "status": "active", "description": "written by hand", "custom_fields": all})
}

// ours are the fields of a record that this cluster made.
func (s *scene) ours(service string) map[string]any {
	return map[string]any{"k8s_cluster": s.target.Cluster, "k8s_cluster_uid": clusterUID, "k8s_service_uid": "uid-of-" + service}
}

// make makes something in NetBox, and removes it after the run.
func (s *scene) make(t *testing.T, path string, fields map[string]any) object {
	t.Helper()
	var out struct {
		ID int64 `json:"id"`
	}
	s.admin(t, http.MethodPost, path, fields, &out)
	o := object{path: path, id: out.ID}
	t.Cleanup(func() { s.remove(t, o) })
	return o
}

// remove removes something, and first what keeps NetBox from it.
func (s *scene) remove(t *testing.T, o object) {
	t.Helper()
	if o == s.vrf {
		for _, a := range s.addresses(t) {
			s.remove(t, object{path: "ipam/ip-addresses/", id: a.ID})
		}
	}
	if status, body := s.send(t, http.MethodDelete, fmt.Sprintf("%s%d/", o.path, o.id), nil); status != 204 && status != 404 {
		t.Errorf("removing %s%d: %d %s", o.path, o.id, status, body)
	}
}

// change changes custom fields of an address as an engineer would.
func (s *scene) change(t *testing.T, id int64, fields map[string]any) {
	t.Helper()
	s.admin(t, http.MethodPatch, objectPath(id), map[string]any{"custom_fields": fields}, nil)
}

// admin sends a request that must succeed.
func (s *scene) admin(t *testing.T, method, path string, in, out any) {
	t.Helper()
	status, body := s.send(t, method, path, in)
	if status < 200 || status > 299 {
		t.Fatalf("%s %s: %d %s", method, path, status, body)
	}
	if out == nil {
		return
	}
	if err := json.Unmarshal(body, out); err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
}

// send sends a request with the administrator's token, past the code under test.
func (s *scene) send(t *testing.T, method, path string, in any) (int, []byte) {
	t.Helper()
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		body = bytes.NewReader(b)
	}
	base, err := url.Parse(strings.TrimRight(s.target.URL, "/") + "/api/" + path)
	if err != nil {
		t.Fatal(err)
	}
	// Clean-up comes after the test's context has ended.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, base.String(), body)
	if err != nil {
		t.Fatal(err)
	}
	keyword := "Token "
	if strings.HasPrefix(s.target.AdminToken, "nbt_") {
		keyword = "Bearer "
	}
	req.Header.Set("Authorization", keyword+s.target.AdminToken)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, answer
}
