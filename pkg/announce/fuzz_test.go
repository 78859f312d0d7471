// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package announce

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
)

// schemaCommunity is the form that the schema of LoadBalancerClass asks for; it
// also bounds the numbers.
var schemaCommunity = regexp.MustCompile(`^[0-9]{1,5}:[0-9]{1,5}$`)

// Whatever the schema lets in is read, as the numbers that stand there, and what
// is read is two numbers of 16 bits.
func FuzzParseCommunity(f *testing.F) {
	for _, seed := range []string{"64500:120", "0:0", "65535:65535", "65536:1", "1", "1:2:3", ":", "+1:2", "00064500:1", "1:-1", "１:2", " 1:2"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseCommunity(text)
		var high, low uint32
		if schemaCommunity.MatchString(text) {
			if _, scanErr := fmt.Sscanf(text, "%d:%d", &high, &low); scanErr != nil {
				t.Fatal(scanErr)
			}
			if valid := high <= 0xffff && low <= 0xffff; valid != (err == nil) {
				t.Fatalf("%q: valid is %t, error %v", text, valid, err)
			}
			if err == nil && got != high<<16|low {
				t.Errorf("%q is %#x", text, got)
			}
		}
		if err != nil {
			return
		}
		again, err := parseCommunity(fmt.Sprintf("%d:%d", got>>16, got&0xffff))
		if err != nil || again != got {
			t.Errorf("%q is %#x, and written out %#x, %v", text, got, again, err)
		}
		if strings.Trim(text, "0123456789:") != "" || strings.Count(text, ":") != 1 {
			t.Errorf("%q is taken for a community", text)
		}
	})
}

// usable reports whether a route or a session can have an address: IPv4 is not
// hidden in IPv6, and no zone of one node goes to others.
func usable(a netip.Addr) bool { return a.IsValid() && a.Zone() == "" && !a.Is4In6() }

func addAddresses(f *testing.F) {
	for _, seed := range []string{"192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "fe80::1%eth0", "::ffff:192.0.2.1%eth0", "300.1.1.1", "192.0.2.1/32", "", "example.org", "::"} {
		f.Add(seed)
	}
}

// Addresses of Services and Nodes are written by others, and no schema checks
// them.
func FuzzAddresses(f *testing.F) {
	addAddresses(f)
	f.Fuzz(func(t *testing.T, text string) {
		svc := &corev1.Service{Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{
			Ingress: []corev1.LoadBalancerIngress{{IP: text}},
		}}}
		node := &corev1.Node{Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: text}}}}
		for what, got := range map[string][]netip.Addr{"Service": loadBalancerAddresses(svc), "Node": internalAddresses(node)} {
			if len(got) > 1 || len(got) == 1 && !usable(got[0]) {
				t.Errorf("%s with the address %q: %v", what, text, got)
			}
		}
	})
}

// A BGPPeer is used, or a problem names it and the field: it is never lost.
func FuzzPeerAddress(f *testing.F) {
	addAddresses(f)
	f.Fuzz(func(t *testing.T, text string) {
		d := &Decision{Peers: []*v1alpha1.BGPPeer{{
			ObjectMeta: metav1.ObjectMeta{Name: "tor"},
			Spec:       v1alpha1.BGPPeerSpec{Address: text, Port: 179, PeerASN: 1, LocalASN: 2, HoldTimeSeconds: 90},
		}}}
		got := peersOf(d)
		switch {
		case len(got) == 1 && len(d.Problems) == 0:
			if !usable(got[0].Address) {
				t.Errorf("%q becomes %s", text, got[0].Address)
			}
		case len(got) == 0 && len(d.Problems) == 1:
			if p := d.Problems[0]; !strings.Contains(p, `BGPPeer "tor"`) || !strings.Contains(p, "spec.address") {
				t.Errorf("%q: problem %q", text, p)
			}
		default:
			t.Errorf("%q: %d peers, problems %q", text, len(got), d.Problems)
		}
	})
}

// Decide reads strings of five kinds of object. Whatever is in them, it returns,
// and announces nothing but what a Service of an announced class has.
func FuzzDecide(f *testing.F) {
	f.Add("bm-ccm.io/public", "public", "192.0.2.1", "64500:1", "a", "kubernetes.io/hostname", "In", "a")
	f.Add("bm-ccm.io/", "", "::1", "", "", "", "", "")
	f.Add("example.com/public", "public", "192.0.2.1", "x", "a", "-", "Exists", "")
	f.Fuzz(func(t *testing.T, class, name, ip, community, node, key, operator, value string) {
		w := newTestSnapshot()
		w.Services[0].Spec.LoadBalancerClass = &class
		w.Services[0].Status.LoadBalancer.Ingress[0].IP = ip
		w.Classes[0].Name = name
		w.Classes[0].Spec.BGP.Communities = []string{community}
		w.Classes[0].Spec.NodeSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: key, Operator: metav1.LabelSelectorOperator(operator), Values: []string{value}},
		}}
		d := Decide(node, &w.Snapshot)
		if len(d.Announcements) == 0 {
			return
		}
		a := d.Announcements[0]
		if len(d.Announcements) > 1 || class != v1alpha1.ClassPrefix+name || a.Class != name || !usable(a.Addr) {
			t.Errorf("class %q of Service with %q, LoadBalancerClass %q: %+v", class, ip, name, d.Announcements)
		}
	})
}
