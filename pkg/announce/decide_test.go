// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package announce

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
)

// testSnapshot is a Snapshot under construction.
type testSnapshot struct {
	Snapshot
	slices map[types.NamespacedName][]*discoveryv1.EndpointSlice
}

// newTestSnapshot has the nodes a, b and c, one class "public", and one Service "web"
// with the address 192.0.2.1 and a ready endpoint on each of a and b.
func newTestSnapshot() *testSnapshot {
	w := &testSnapshot{slices: map[types.NamespacedName][]*discoveryv1.EndpointSlice{}}
	w.Endpoints = func(n types.NamespacedName) []*discoveryv1.EndpointSlice { return w.slices[n] }
	for _, n := range []string{"a", "b", "c"} {
		w.Nodes = append(w.Nodes, testNode(n))
	}
	w.Classes = []*v1alpha1.LoadBalancerClass{testClass("public")}
	w.Services = []*corev1.Service{testService("web", "192.0.2.1")}
	w.endpoints("web", discoveryv1.AddressTypeIPv4, ready("a"), ready("b"))
	return w
}

func testNode(name string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + name), Labels: map[string]string{"kubernetes.io/hostname": name}},
		Status: corev1.NodeStatus{
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
}

func testClass(name string) *v1alpha1.LoadBalancerClass {
	return &v1alpha1.LoadBalancerClass{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha1.LoadBalancerClassSpec{Pools: []string{"p"}, BGP: &v1alpha1.BGPAnnouncement{}},
	}
}

func testService(name string, addrs ...string) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: new("bm-ccm.io/public"),
			ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyCluster,
			SessionAffinity:       corev1.ServiceAffinityNone,
		},
	}
	for _, a := range addrs {
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress,
			corev1.LoadBalancerIngress{IP: a, IPMode: ptr.To(corev1.LoadBalancerIPModeVIP)})
	}
	return s
}

func (w *testSnapshot) endpoints(service string, family discoveryv1.AddressType, es ...discoveryv1.Endpoint) {
	key := types.NamespacedName{Namespace: "default", Name: service}
	w.slices[key] = append(w.slices[key], &discoveryv1.EndpointSlice{AddressType: family, Endpoints: es})
}

func (w *testSnapshot) onlyEndpoints(es ...discoveryv1.Endpoint) {
	clear(w.slices)
	w.endpoints("web", discoveryv1.AddressTypeIPv4, es...)
}

func endpoint(node string, ready, serving, terminating bool) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{
		NodeName:   new(node),
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
	}
}

func ready(node string) discoveryv1.Endpoint   { return endpoint(node, true, true, false) }
func unready(node string) discoveryv1.Endpoint { return endpoint(node, false, false, false) }
func leaving(node string) discoveryv1.Endpoint { return endpoint(node, false, true, true) }
func dying(node string) discoveryv1.Endpoint   { return endpoint(node, false, false, true) }

// who returns the nodes that announce each address, as "addr: a b".
func (w *testSnapshot) who() []string {
	nodes := map[netip.Addr][]string{}
	for _, n := range w.Nodes {
		for _, a := range Decide(n.Name, &w.Snapshot).Announcements {
			nodes[a.Addr] = append(nodes[a.Addr], n.Name)
		}
	}
	var out []string
	for a, names := range nodes {
		out = append(out, fmt.Sprintf("%s: %s", a, strings.Join(names, " ")))
	}
	slices.Sort(out)
	return out
}

func (w *testSnapshot) node(name string) *corev1.Node {
	for _, n := range w.Nodes {
		if n.Name == name {
			return n
		}
	}
	panic("no node " + name)
}

func local(w *testSnapshot) {
	w.Services[0].Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
}

// everywhere is what all nodes announce of the one Service.
var everywhere = []string{"192.0.2.1: a b c"}

func TestDecideWho(t *testing.T) {
	now := metav1.Now()
	tests := []struct {
		name   string
		change func(*testSnapshot)
		want   []string
	}{
		{"A1 Cluster: every node, with endpoints or without", func(*testSnapshot) {}, everywhere},
		{"A2 Local: nodes with endpoints", local, []string{"192.0.2.1: a b"}},
		{"Cluster, no endpoint at all", func(w *testSnapshot) { clear(w.slices) }, nil},
		{"A4 Cluster, none is ready", func(w *testSnapshot) { w.onlyEndpoints(unready("a")) }, nil},
		{"A4 Cluster, all terminate and one serves", func(w *testSnapshot) { w.onlyEndpoints(leaving("a"), dying("b")) }, everywhere},
		{"Cluster, all terminate and none serves", func(w *testSnapshot) { w.onlyEndpoints(dying("a")) }, nil},
		{"A2 Local, one unready", func(w *testSnapshot) { local(w); w.onlyEndpoints(ready("a"), unready("b")) }, []string{"192.0.2.1: a"}},
		{"Local, one terminating leaves to the ready one", func(w *testSnapshot) { local(w); w.onlyEndpoints(ready("a"), leaving("b")) }, []string{"192.0.2.1: a"}},
		{"A4 Local, all terminating: the serving ones stay", func(w *testSnapshot) { local(w); w.onlyEndpoints(leaving("b"), dying("a"), unready("c")) }, []string{"192.0.2.1: b"}},
		{"Local, endpoints in two slices", func(w *testSnapshot) {
			local(w)
			w.endpoints("web", discoveryv1.AddressTypeIPv4, ready("c"))
		}, everywhere},
		{"Local, endpoint on no node", func(w *testSnapshot) {
			local(w)
			w.onlyEndpoints(discoveryv1.Endpoint{})
		}, nil},
		{"unknown conditions are ready", func(w *testSnapshot) {
			local(w)
			w.onlyEndpoints(discoveryv1.Endpoint{NodeName: new("c")})
		}, []string{"192.0.2.1: c"}},
		{"not of type LoadBalancer", func(w *testSnapshot) { w.Services[0].Spec.Type = corev1.ServiceTypeClusterIP }, nil},
		{"no address yet", func(w *testSnapshot) { w.Services[0].Status = corev1.ServiceStatus{} }, nil},
		{"a hostname only", func(w *testSnapshot) {
			w.Services[0].Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{Hostname: "x.example"}}
		}, nil},
		{"ipMode Proxy", func(w *testSnapshot) {
			w.Services[0].Status.LoadBalancer.Ingress[0].IPMode = ptr.To(corev1.LoadBalancerIPModeProxy)
		}, nil},
		{"no ipMode", func(w *testSnapshot) { w.Services[0].Status.LoadBalancer.Ingress[0].IPMode = nil }, everywhere},
		{"not an address", func(w *testSnapshot) { w.Services[0].Status.LoadBalancer.Ingress[0].IP = "300.1.1.1" }, nil},
		{"A5 being deleted", func(w *testSnapshot) { w.Services[0].DeletionTimestamp = &now }, nil},
		{"foreign class", func(w *testSnapshot) { w.Services[0].Spec.LoadBalancerClass = new("example.com/public") }, nil},
		{"class without a LoadBalancerClass", func(w *testSnapshot) { w.Services[0].Spec.LoadBalancerClass = new("bm-ccm.io/other") }, nil},
		{"A6 class that is not announced", func(w *testSnapshot) { w.Classes[0].Spec.BGP = nil }, nil},
		{"no class and no default", func(w *testSnapshot) { w.Services[0].Spec.LoadBalancerClass = nil }, nil},
		{"no class and a default", func(w *testSnapshot) {
			w.Services[0].Spec.LoadBalancerClass = nil
			w.Classes[0].Spec.Default = true
		}, everywhere},
		{"no class and two defaults", func(w *testSnapshot) {
			w.Services[0].Spec.LoadBalancerClass = nil
			w.Classes[0].Spec.Default = true
			other := testClass("other")
			other.Spec.Default, other.Spec.BGP = true, nil
			w.Classes = append(w.Classes, other)
		}, nil},
		{"two defaults do not matter to who names a class", func(w *testSnapshot) {
			w.Classes[0].Spec.Default = true
			other := testClass("other")
			other.Spec.Default = true
			w.Classes = append(w.Classes, other)
		}, everywhere},
		{"A7 class for some nodes", func(w *testSnapshot) {
			w.Classes[0].Spec.NodeSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/hostname": "b"}}
		}, []string{"192.0.2.1: b"}},
		{"class with a broken selector", func(w *testSnapshot) {
			w.Classes[0].Spec.NodeSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "x", Operator: "Sideways"}}}
		}, nil},
		{"A8 node excluded by label", func(w *testSnapshot) { w.node("a").Labels[corev1.LabelNodeExcludeBalancers] = "" }, []string{"192.0.2.1: b c"}},
		{"node excluded whatever the value", func(w *testSnapshot) { w.node("a").Labels[corev1.LabelNodeExcludeBalancers] = "false" }, []string{"192.0.2.1: b c"}},
		{"A9 node being deleted", func(w *testSnapshot) { w.node("a").DeletionTimestamp = &now }, []string{"192.0.2.1: b c"}},
		{"A9 node about to be removed by the autoscaler", func(w *testSnapshot) {
			w.node("b").Spec.Taints = []corev1.Taint{{Key: taintAutoscaler}}
		}, []string{"192.0.2.1: a c"}},
		{"A11 node not Ready by the API", func(w *testSnapshot) { w.node("a").Status.Conditions[0].Status = corev1.ConditionUnknown }, everywhere},
		{"node cordoned", func(w *testSnapshot) { w.node("a").Spec.Unschedulable = true }, everywhere},
		{"A10 kube-proxy unhealthy", func(w *testSnapshot) { w.ProxyUnhealthy = "503" }, nil},
		{"IPv6 address with IPv6 endpoints", func(w *testSnapshot) {
			w.Services[0] = testService("web", "192.0.2.1", "2001:db8::1")
			w.endpoints("web", discoveryv1.AddressTypeIPv6, ready("c"))
			local(w)
		}, []string{"192.0.2.1: a b", "2001:db8::1: c"}},
		{"IPv6 address without IPv6 endpoints", func(w *testSnapshot) { w.Services[0] = testService("web", "2001:db8::1") }, nil},
		{"IPv4-mapped address", func(w *testSnapshot) { w.Services[0] = testService("web", "::ffff:192.0.2.1") }, everywhere},
		{"shared address, one Service without endpoints", func(w *testSnapshot) {
			w.Services = append(w.Services, testService("api", "192.0.2.1"))
			local(w)
		}, []string{"192.0.2.1: a b"}},
		{"shared address, each where its endpoints are", func(w *testSnapshot) {
			api := testService("api", "192.0.2.1")
			api.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
			w.Services = append(w.Services, api)
			w.endpoints("api", discoveryv1.AddressTypeIPv4, ready("c"))
			local(w)
		}, everywhere},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newTestSnapshot()
			tt.change(w)
			if d := cmp.Diff(tt.want, w.who()); d != "" {
				t.Errorf("who announces (-want +got):\n%s", d)
			}
		})
	}
}

func affine(w *testSnapshot) { w.Services[0].Spec.SessionAffinity = corev1.ServiceAffinityClientIP }

// owner returns the one node that announces 192.0.2.1.
func owner(t *testing.T, w *testSnapshot) string {
	t.Helper()
	got := w.who()
	if len(got) != 1 || strings.Count(got[0], " ") != 1 {
		t.Fatalf("announced by %v, want exactly one node", got)
	}
	return strings.TrimPrefix(got[0], "192.0.2.1: ")
}

// A3: one node at a time.
func TestDecideClientIP(t *testing.T) {
	w := newTestSnapshot()
	affine(w)
	first := owner(t, w)
	others := slices.DeleteFunc([]string{"a", "b", "c"}, func(n string) bool { return n == first })

	t.Run("a node that is not the owner does not matter", func(t *testing.T) {
		w := newTestSnapshot()
		affine(w)
		w.node(others[0]).Labels[corev1.LabelNodeExcludeBalancers] = ""
		if got := owner(t, w); got != first {
			t.Errorf("owner moved from %s to %s", first, got)
		}
	})
	t.Run("not Ready: another one takes over", func(t *testing.T) {
		w := newTestSnapshot()
		affine(w)
		w.node(first).Status.Conditions[0].Status = corev1.ConditionUnknown
		if got := owner(t, w); got == first {
			t.Errorf("owner is still %s", got)
		}
	})
	t.Run("none is Ready: the owner stays", func(t *testing.T) {
		w := newTestSnapshot()
		affine(w)
		for _, n := range w.Nodes {
			n.Status.Conditions[0].Status = corev1.ConditionUnknown
		}
		if got := owner(t, w); got != first {
			t.Errorf("owner moved from %s to %s", first, got)
		}
	})
	t.Run("Local: a node with endpoints", func(t *testing.T) {
		w := newTestSnapshot()
		affine(w)
		local(w)
		w.onlyEndpoints(ready(others[1]))
		if got := owner(t, w); got != others[1] {
			t.Errorf("owner is %s, want %s", got, others[1])
		}
	})
	t.Run("kube-proxy unhealthy: nobody else would step in", func(t *testing.T) {
		w := newTestSnapshot()
		affine(w)
		w.ProxyUnhealthy = "503"
		if got := owner(t, w); got != first {
			t.Errorf("owner is %s, want %s", got, first)
		}
	})
}

func TestRendezvousBalance(t *testing.T) {
	w := newTestSnapshot()
	w.Services, w.slices = nil, map[types.NamespacedName][]*discoveryv1.EndpointSlice{}
	const n = 3000
	for i := range n {
		s := testService(fmt.Sprintf("svc-%d", i), netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String())
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		w.Services = append(w.Services, s)
		w.endpoints(s.Name, discoveryv1.AddressTypeIPv4, ready("a"))
	}
	total := 0
	for _, node := range w.Nodes {
		got := len(Decide(node.Name, &w.Snapshot).Announcements)
		total += got
		if got < n/3-150 || got > n/3+150 {
			t.Errorf("node %s announces %d of %d", node.Name, got, n)
		}
	}
	if total != n {
		t.Errorf("%d announcements of %d Services", total, n)
	}
}

func TestDecideDetails(t *testing.T) {
	w := newTestSnapshot()
	w.node("a").Status.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeHostName, Address: "a"},
		{Type: corev1.NodeInternalIP, Address: "10.0.0.1"}, {Type: corev1.NodeInternalIP, Address: "fd00::1"},
	}
	w.Classes[0].Spec.BGP = &v1alpha1.BGPAnnouncement{Peers: []string{"tor2", "tor1"}, Communities: []string{"64500:2", "64500:1", "70000:1"}}
	second := testClass("second")
	second.Spec.BGP.Communities = []string{"1:1"}
	w.Classes = append(w.Classes, second)
	shared := testService("api", "192.0.2.1")
	shared.Spec.LoadBalancerClass = new("bm-ccm.io/second")
	w.Services = append(w.Services, shared, testService("zoo", "192.0.2.0"))
	w.endpoints("api", discoveryv1.AddressTypeIPv4, ready("a"))
	w.endpoints("zoo", discoveryv1.AddressTypeIPv4, ready("a"))
	w.Peers = []*v1alpha1.BGPPeer{
		{ObjectMeta: metav1.ObjectMeta{Name: "z"}},
		{ObjectMeta: metav1.ObjectMeta{Name: "elsewhere"}, Spec: v1alpha1.BGPPeerSpec{
			NodeSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/hostname": "b"}},
		}},
		{ObjectMeta: metav1.ObjectMeta{Name: "broken"}, Spec: v1alpha1.BGPPeerSpec{
			NodeSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "x", Operator: "Sideways"}}},
		}},
		{ObjectMeta: metav1.ObjectMeta{Name: "m"}},
	}
	got := Decide("a", &w.Snapshot)
	want := []Announcement{
		{
			Addr: netip.MustParseAddr("192.0.2.0"), Service: types.NamespacedName{Namespace: "default", Name: "zoo"},
			Class: "public", Peers: []string{"tor1", "tor2"}, Communities: []uint32{64500<<16 | 1, 64500<<16 | 2},
		},
		{ // The second class goes to all peers, so the address does.
			Addr: netip.MustParseAddr("192.0.2.1"), Service: types.NamespacedName{Namespace: "default", Name: "api"},
			Class: "second", Communities: []uint32{1<<16 | 1, 64500<<16 | 1, 64500<<16 | 2},
		},
	}
	equalAddr := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	if d := cmp.Diff(want, got.Announcements, equalAddr); d != "" {
		t.Errorf("announcements (-want +got):\n%s", d)
	}
	var peers []string
	for _, p := range got.Peers {
		peers = append(peers, p.Name)
	}
	if d := cmp.Diff([]string{"m", "z"}, peers); d != "" {
		t.Errorf("peers (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}, got.Addresses, equalAddr); d != "" {
		t.Errorf("addresses (-want +got):\n%s", d)
	}
	if len(got.Problems) != 2 || !strings.Contains(got.Problems[0], `BGPPeer "broken"`) || !strings.Contains(got.Problems[1], `"70000:1"`) {
		t.Errorf("problems %q, want the broken selector and the broken community", got.Problems)
	}
}

func TestDecideUnknownNode(t *testing.T) {
	got := Decide("nowhere", &newTestSnapshot().Snapshot)
	if len(got.Announcements) != 0 || !strings.Contains(got.Withheld, `no Node "nowhere"`) {
		t.Errorf("decision %+v, want nothing announced and the reason", got)
	}
}

// randomSnapshot is a small one in which everything may be odd.
func randomSnapshot(r *rand.Rand) *testSnapshot {
	w := newTestSnapshot()
	w.Services, w.slices = nil, map[types.NamespacedName][]*discoveryv1.EndpointSlice{}
	classes := []*string{nil, new("bm-ccm.io/public"), new("bm-ccm.io/gone"), new("example.com/x"), new("public")}
	w.Classes[0].Spec.Default = r.IntN(2) == 0
	for i := range r.IntN(6) {
		s := testService(fmt.Sprint("s", i), fmt.Sprintf("192.0.2.%d", r.IntN(4)))
		s.Spec.LoadBalancerClass = classes[r.IntN(len(classes))]
		if r.IntN(2) == 0 {
			s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		}
		if r.IntN(3) == 0 {
			s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		}
		if r.IntN(6) == 0 {
			s.DeletionTimestamp = new(metav1.Now())
		}
		w.Services = append(w.Services, s)
		for range r.IntN(4) {
			w.endpoints(s.Name, discoveryv1.AddressTypeIPv4,
				endpoint([]string{"a", "b", "c", "d"}[r.IntN(4)], r.IntN(2) == 0, r.IntN(2) == 0, r.IntN(2) == 0))
		}
	}
	for _, n := range w.Nodes {
		if r.IntN(4) == 0 {
			n.Labels[corev1.LabelNodeExcludeBalancers] = ""
		}
		if r.IntN(4) == 0 {
			n.Status.Conditions[0].Status = corev1.ConditionFalse
		}
	}
	return w
}

// TestDecideProperties checks on random input what must hold on any.
func TestDecideProperties(t *testing.T) {
	for seed := range uint64(3000) {
		w := randomSnapshot(rand.New(rand.NewPCG(seed, 1)))
		announcers := map[string]int{} // by service
		for _, n := range w.Nodes {
			d := Decide(n.Name, &w.Snapshot)
			checkDecision(t, seed, w, n, d)
			for _, a := range d.Announcements {
				announcers[a.Service.Name]++
			}
		}
		checkOwners(t, seed, w, announcers)
		if t.Failed() {
			return
		}
	}
}

// checkDecision checks what one node announces.
func checkDecision(t *testing.T, seed uint64, w *testSnapshot, n *corev1.Node, d Decision) {
	t.Helper()
	if !slices.IsSortedFunc(d.Announcements, func(a, b Announcement) int { return a.Addr.Compare(b.Addr) }) {
		t.Errorf("seed %d: not sorted: %v", seed, d.Announcements)
	}
	if ineligibleReason(n) != "" && len(d.Announcements) > 0 {
		t.Errorf("seed %d: excluded node %s announces", seed, n.Name)
	}
	seen := map[netip.Addr]bool{}
	for _, a := range d.Announcements {
		if seen[a.Addr] {
			t.Errorf("seed %d: %s is announced twice", seed, a.Addr)
		}
		seen[a.Addr] = true
		for _, s := range w.Services {
			if s.Name == a.Service.Name {
				checkMayAnnounce(t, seed, w, n, s, a)
			}
		}
	}
	// The order in which caches list objects must not matter.
	shuffled := w.Snapshot
	shuffled.Services = slices.Clone(w.Services)
	slices.Reverse(shuffled.Services)
	shuffled.Nodes = slices.Clone(w.Nodes)
	slices.Reverse(shuffled.Nodes)
	again := Decide(n.Name, &shuffled)
	if d := cmp.Diff(d.Announcements, again.Announcements, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Errorf("seed %d: another order of input gives another decision:\n%s", seed, d)
	}
}

func checkMayAnnounce(t *testing.T, seed uint64, w *testSnapshot, n *corev1.Node, s *corev1.Service, a Announcement) {
	t.Helper()
	class := ptr.Deref(s.Spec.LoadBalancerClass, "")
	if class != "bm-ccm.io/public" && (class != "" || !w.Classes[0].Spec.Default) {
		t.Errorf("seed %d: Service of class %q is announced", seed, class)
	}
	if s.DeletionTimestamp != nil || s.Status.LoadBalancer.Ingress[0].IP != a.Addr.String() {
		t.Errorf("seed %d: %s is announced for Service %s: %+v", seed, a.Addr, s.Name, s)
	}
	if s.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal {
		return
	}
	for _, slice := range w.slices[a.Service] {
		for _, e := range slice.Endpoints {
			c := e.Conditions
			if *e.NodeName == n.Name && (*c.Ready || *c.Serving && *c.Terminating) {
				return
			}
		}
	}
	t.Errorf("seed %d: node %s announces Local Service %s without an endpoint", seed, n.Name, s.Name)
}

// checkOwners checks that a Service with session affinity and an address of its
// own has one announcer at most.
func checkOwners(t *testing.T, seed uint64, w *testSnapshot, announcers map[string]int) {
	t.Helper()
	users := map[string]int{}
	for _, s := range w.Services {
		users[s.Status.LoadBalancer.Ingress[0].IP]++
	}
	for _, s := range w.Services {
		alone := users[s.Status.LoadBalancer.Ingress[0].IP] == 1
		if alone && s.Spec.SessionAffinity == corev1.ServiceAffinityClientIP && announcers[s.Name] > 1 {
			t.Errorf("seed %d: %d nodes announce Service %s with session affinity", seed, announcers[s.Name], s.Name)
		}
	}
}

func BenchmarkDecide10kServices(b *testing.B) {
	w := newTestSnapshot()
	w.Services, w.slices = nil, map[types.NamespacedName][]*discoveryv1.EndpointSlice{}
	for i := range 10000 {
		s := testService(fmt.Sprintf("svc-%d", i), netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}).String())
		w.Services = append(w.Services, s)
		w.endpoints(s.Name, discoveryv1.AddressTypeIPv4, ready("a"), ready("b"))
	}
	b.ReportAllocs()
	for b.Loop() {
		if got := len(Decide("a", &w.Snapshot).Announcements); got != 10000 {
			b.Fatal(got)
		}
	}
}
