// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package announce

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"

	"github.com/bm-ccm/bm-ccm/pkg/announce/bgp/frrtest"
	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
)

// harness is an agent for node a, with an API server and a router.
type harness struct {
	t      *testing.T
	router *frrtest.Router
	kube   *fake.Clientset
	api    *apiServer
	events *record.FakeRecorder
	agent  *Agent
}

func newHarness(t *testing.T) *harness {
	t.Helper()
	s := &harness{t: t, events: record.NewFakeRecorder(100), api: newAPIServer(t)}
	s.router = frrtest.New(t, 1, "neighbor {4} remote-as 64500", "neighbor {4} timers 1 3", "bgp graceful-restart",
		"address-family ipv4 unicast", " neighbor {4} activate", "exit-address-family",
		"address-family ipv6 unicast", " neighbor {4} activate", "exit-address-family")
	node := testNode("a")
	node.Status.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: s.router.Local4.String()},
		{Type: corev1.NodeInternalIP, Address: s.router.Local6.String()},
	}
	s.kube = fake.NewClientset(node, testNode("b"))
	s.api.classes = []v1alpha1.LoadBalancerClass{*testClass("public")}
	s.api.peers = []v1alpha1.BGPPeer{{
		ObjectMeta: metav1.ObjectMeta{Name: "tor"},
		Spec: v1alpha1.BGPPeerSpec{
			Address: s.router.Addr4.String(), Port: 179, PeerASN: frrtest.ASN, LocalASN: 64500, HoldTimeSeconds: 9,
		},
	}}
	return s
}

// start runs the agent until the test ends or stop is called.
func (s *harness) start(proxyHealth string) (stop func()) {
	s.t.Helper()
	a, err := New(Config{Node: "a", Kube: s.kube, API: s.api.client(s.t), Events: s.events, ProxyHealth: proxyHealth})
	if err != nil {
		s.t.Fatal(err)
	}
	s.agent = a
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := a.Run(ctx); err != nil {
			s.t.Error(err)
		}
	}()
	stop = func() { cancel(); <-done }
	s.t.Cleanup(stop)
	return stop
}

func (s *harness) create(svc *corev1.Service, nodes ...string) {
	s.t.Helper()
	ctx := context.Background()
	if _, err := s.kube.CoreV1().Services(svc.Namespace).Create(ctx, svc, metav1.CreateOptions{}); err != nil {
		s.t.Fatal(err)
	}
	for _, in := range svc.Status.LoadBalancer.Ingress {
		s.createSlice(svc.Name, netip.MustParseAddr(in.IP), nodes)
	}
}

func (s *harness) createSlice(service string, addr netip.Addr, nodes []string) {
	s.t.Helper()
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: service + "-" + strings.ToLower(string(familyOf(addr))),
			Labels: map[string]string{discoveryv1.LabelServiceName: service},
		},
		AddressType: familyOf(addr),
	}
	for _, n := range nodes {
		slice.Endpoints = append(slice.Endpoints, ready(n))
	}
	if _, err := s.kube.DiscoveryV1().EndpointSlices("default").Create(context.Background(), slice, metav1.CreateOptions{}); err != nil {
		s.t.Fatal(err)
	}
}

// waitRouter waits until the router has exactly these addresses.
func (s *harness) waitRouter(addrs ...string) {
	s.t.Helper()
	slices.Sort(addrs)
	s.router.Eventually(20*time.Second, fmt.Sprint("routes ", addrs), func() bool {
		var got []string
		for p := range s.router.Routes() {
			got = append(got, p.Addr().String())
		}
		slices.Sort(got)
		return slices.Equal(got, addrs)
	})
}

// waitStatus waits until the NodeAnnouncement satisfies ok.
func (s *harness) waitStatus(what string, ok func(v1alpha1.NodeAnnouncementStatus) bool) v1alpha1.NodeAnnouncementStatus {
	s.t.Helper()
	var got v1alpha1.NodeAnnouncementStatus
	deadline := time.Now().Add(20 * time.Second)
	for {
		if n, _ := s.api.stored(); n != nil {
			if got = n.Status; ok(got) {
				return got
			}
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("NodeAnnouncement is not %s: %+v", what, got)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func inSync(st v1alpha1.NodeAnnouncementStatus) bool {
	return meta.IsStatusConditionTrue(st.Conditions, v1alpha1.ConditionInSync)
}

func TestAgent(t *testing.T) {
	s := newHarness(t)
	s.create(testService("web", "192.0.2.1", "2001:db8::1"), "b")
	s.start("")
	s.waitRouter("192.0.2.1", "2001:db8::1")
	st := s.waitStatus("in sync", inSync)
	if st.AddressCount != 2 || st.BGPSummary != "1/1" || len(st.Classes) != 1 || len(st.Classes[0].Addresses) != 2 {
		t.Errorf("status %+v, want two addresses of one class and 1/1 sessions", st)
	}
	n, _ := s.api.stored()
	if o := n.OwnerReferences; len(o) != 1 || o[0].Kind != "Node" || o[0].UID != "uid-a" {
		t.Errorf("owners %+v, want the Node", o)
	}
	if got := <-s.events.Events; got != "Normal SessionEstablished BGP session established" {
		t.Errorf("first Event %q, want the established session", got)
	}

	t.Run("Local follows the endpoint", func(t *testing.T) {
		svc := testService("local", "192.0.2.2")
		svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		s.create(svc, "b")
		s.waitStatus("unchanged", inSync)
		s.moveEndpoint("local-ipv4", "a")
		s.waitRouter("192.0.2.1", "192.0.2.2", "2001:db8::1")
		s.moveEndpoint("local-ipv4", "b")
		s.waitRouter("192.0.2.1", "2001:db8::1")
	})
	t.Run("withdrawn with the Service", func(t *testing.T) {
		if err := s.kube.CoreV1().Services("default").Delete(context.Background(), "web", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		s.waitRouter()
		s.waitStatus("empty", func(st v1alpha1.NodeAnnouncementStatus) bool { return st.AddressCount == 0 && inSync(st) })
	})
	t.Run("excluded node", func(t *testing.T) {
		s.create(testService("again", "192.0.2.3"), "b")
		s.waitRouter("192.0.2.3")
		s.updateNode(func(n *corev1.Node) { n.Labels[corev1.LabelNodeExcludeBalancers] = "" })
		s.waitRouter()
		s.waitStatus("withheld", func(st v1alpha1.NodeAnnouncementStatus) bool {
			c := meta.FindStatusCondition(st.Conditions, v1alpha1.ConditionInSync)
			return c != nil && c.Reason == ReasonWithheld && strings.Contains(c.Message, corev1.LabelNodeExcludeBalancers)
		})
	})
}

func (s *harness) moveEndpoint(slice, node string) {
	s.t.Helper()
	ctx := context.Background()
	got, err := s.kube.DiscoveryV1().EndpointSlices("default").Get(ctx, slice, metav1.GetOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	got = got.DeepCopy()
	got.ResourceVersion += "1"
	got.Endpoints = []discoveryv1.Endpoint{ready(node)}
	if _, err := s.kube.DiscoveryV1().EndpointSlices("default").Update(ctx, got, metav1.UpdateOptions{}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *harness) updateNode(change func(*corev1.Node)) {
	s.t.Helper()
	ctx := context.Background()
	n, err := s.kube.CoreV1().Nodes().Get(ctx, "a", metav1.GetOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	n = n.DeepCopy()
	n.ResourceVersion += "1"
	change(n)
	if _, err := s.kube.CoreV1().Nodes().Update(ctx, n, metav1.UpdateOptions{}); err != nil {
		s.t.Fatal(err)
	}
}

func TestAgentWithoutAPIServer(t *testing.T) {
	s := newHarness(t)
	s.create(testService("web", "192.0.2.1"), "b")
	s.start("")
	s.waitRouter("192.0.2.1")
	s.waitStatus("in sync", inSync)
	s.api.stop()
	// The router ends the session and must be told everything again, by an
	// agent that cannot ask anybody.
	bgp, neighbor := fmt.Sprintf("router bgp %d", frrtest.ASN), "neighbor "+s.router.Local4.String()
	s.router.Configure(bgp, neighbor+" shutdown")
	s.waitRouter()
	s.router.Configure(bgp, "no "+neighbor+" shutdown")
	s.waitRouter("192.0.2.1")
}

func TestAgentRestart(t *testing.T) {
	s := newHarness(t)
	s.create(testService("web", "192.0.2.1"), "b")
	stop := s.start("")
	s.waitRouter("192.0.2.1")
	before := s.waitStatus("in sync", inSync)
	stop()
	s.start("")
	// The only change to report is when the new session was established.
	s.waitStatus("of the new session", func(st v1alpha1.NodeAnnouncementStatus) bool {
		return inSync(st) && !st.BGP[0].Since.Equal(&before.BGP[0].Since)
	})
	if got := s.router.Routes(); len(got) != 1 {
		t.Errorf("router has %v, want the one route", got)
	}
}

func TestAgentQuietAtRest(t *testing.T) {
	s := newHarness(t)
	s.create(testService("web", "192.0.2.1"), "b")
	s.start("")
	s.waitStatus("in sync", func(st v1alpha1.NodeAnnouncementStatus) bool { return inSync(st) && st.BGP[0].Announced == 1 })
	time.Sleep(3 * time.Second) // what is still on its way
	_, before := s.api.stored()
	// Kubelets post the status of their nodes all the time.
	for range 3 {
		s.updateNode(func(n *corev1.Node) { n.Status.Phase = corev1.NodeRunning })
		time.Sleep(500 * time.Millisecond)
	}
	if _, after := s.api.stored(); after != before {
		t.Errorf("writes at rest: %q, then %q", before, after)
	}
}

func TestAgentKubeProxy(t *testing.T) {
	s := newHarness(t)
	s.create(testService("web", "192.0.2.1"), "b")
	var code = make(chan int, 1)
	code <- http.StatusServiceUnavailable
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c := <-code
		code <- c
		w.WriteHeader(c)
	}))
	t.Cleanup(proxy.Close)
	set := func(c int) { <-code; code <- c }
	s.start(proxy.URL)
	st := s.waitStatus("withheld", func(st v1alpha1.NodeAnnouncementStatus) bool {
		c := meta.FindStatusCondition(st.Conditions, v1alpha1.ConditionInSync)
		return c != nil && c.Reason == ReasonWithheld
	})
	if m := st.Conditions[0].Message; !strings.Contains(m, "503") || !strings.Contains(m, "--kube-proxy-health") {
		t.Errorf("message %q does not name the answer and the flag", m)
	}
	set(http.StatusOK)
	s.waitRouter("192.0.2.1")
	set(http.StatusServiceUnavailable)
	s.waitRouter()
}
