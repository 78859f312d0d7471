// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package announce

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
)

// taintAutoscaler is what the cluster autoscaler puts on a node that it is
// about to remove. kube-proxy fails its health check for the same taint
// (KEP-3836).
const taintAutoscaler = "ToBeDeletedByClusterAutoscaler"

// Snapshot is all that a decision depends on. The objects are only read.
type Snapshot struct {
	Services []*corev1.Service
	// Endpoints returns the EndpointSlices of a Service.
	Endpoints func(service types.NamespacedName) []*discoveryv1.EndpointSlice
	Nodes     []*corev1.Node
	Classes   []*v1alpha1.LoadBalancerClass
	Peers     []*v1alpha1.BGPPeer
	// ProxyUnhealthy says why kube-proxy on this node is taken to be unable to
	// forward; it is empty when all is well.
	ProxyUnhealthy string
}

// Announcement is an address that this node announces, as a host route.
type Announcement struct {
	Addr netip.Addr
	// Service is the one that has the address; the first by name if several
	// share it.
	Service types.NamespacedName
	// Class is the LoadBalancerClass of that Service.
	Class string
	// Peers names the BGPPeers to announce it to; nil means all of them.
	Peers []string
	// Communities are attached to the route (RFC 1997).
	Communities []uint32
}

// Decision is what a node should do.
type Decision struct {
	// Announcements are ordered by address; no address is in it twice.
	Announcements []Announcement
	// Peers are the routers that this node talks to, ordered by name.
	Peers []*v1alpha1.BGPPeer
	// Addresses are the node's own InternalIPs.
	Addresses []netip.Addr
	// Withheld says why this node announces less than it could; empty if it
	// does not.
	Withheld string
	// Problems are mistakes in objects that keep them from being used.
	Problems []string
}

// Decide says what the node of this name announces.
//
// An address is announced if its Service is of type LoadBalancer, is not being
// deleted, is of a LoadBalancerClass with bgp set, and has an endpoint to send
// traffic to. Without endpoints the router then answers "unreachable" at once
// rather than each node in turn. With externalTrafficPolicy Local only nodes
// with such an endpoint announce; with Cluster every eligible node does.
//
// A node is not eligible while it is being deleted, has the label
// node.kubernetes.io/exclude-from-external-load-balancers or the taint of the
// cluster autoscaler, is outside the nodeSelector of the class, or its
// kube-proxy is unhealthy. Its Ready condition does not matter: the control
// plane may be the one that is cut off.
//
// A Service with sessionAffinity ClientIP is announced by one node, because
// routers spread the connections of a client over all nodes that announce.
func Decide(node string, s *Snapshot) Decision {
	d := decider{node: node, snapshot: s}
	return d.decide()
}

type decider struct {
	node     string
	snapshot *Snapshot
	own      *corev1.Node
	classes  map[string]*class
	fallback *class // serves Services that name no class
	out      Decision
}

// class is a LoadBalancerClass with its lists in the form that is needed.
type class struct {
	name        string
	nodes       labels.Selector
	peers       []string
	communities []uint32
	eligible    []*corev1.Node // computed when first needed
	known       bool
}

func (d *decider) decide() Decision {
	d.findNode()
	if d.own == nil {
		d.out.Withheld = fmt.Sprintf("there is no Node %q", d.node)
		return d.out
	}
	d.choosePeers()
	d.out.Withheld = ineligibleReason(d.own)
	if d.out.Withheld != "" {
		return d.out
	}
	d.out.Withheld = d.snapshot.ProxyUnhealthy
	d.readClasses()
	found := map[netip.Addr]Announcement{}
	for _, svc := range d.snapshot.Services {
		d.service(svc, found)
	}
	d.out.Announcements = slices.SortedFunc(maps.Values(found), func(a, b Announcement) int {
		return a.Addr.Compare(b.Addr)
	})
	return d.out
}

// findNode looks for our own Node. Without it nothing is known of labels and
// taints, so nothing is announced; the agent's pod may be faster than the cache.
func (d *decider) findNode() {
	for _, n := range d.snapshot.Nodes {
		if n.Name == d.node {
			d.own = n
			d.out.Addresses = internalAddresses(n)
			return
		}
	}
}

// internalAddresses passes over what is no address: a Node's addresses are written
// by kubelet and cloud providers, and no schema checks them. One with a zone is of
// no use either: the zone is a name on this node, and in a next hop gobgp would
// refuse the whole policy for it.
func internalAddresses(n *corev1.Node) []netip.Addr {
	var out []netip.Addr
	for _, a := range n.Status.Addresses {
		if a.Type != corev1.NodeInternalIP {
			continue
		}
		if ip, err := netip.ParseAddr(a.Address); err == nil && ip.Zone() == "" {
			out = append(out, ip.Unmap())
		}
	}
	return out
}

// ineligibleReason says why a node announces nothing at all; empty if it may. It
// reads the Node only, because every agent asks it of every node, to agree on
// who announces a Service with session affinity.
func ineligibleReason(n *corev1.Node) string {
	if n.DeletionTimestamp != nil {
		return "the Node is being deleted"
	}
	// The label excludes by being there, whatever its value, as upstream's
	// service controller reads it.
	if _, ok := n.Labels[corev1.LabelNodeExcludeBalancers]; ok {
		return "the Node has the label " + corev1.LabelNodeExcludeBalancers
	}
	for _, t := range n.Spec.Taints {
		if t.Key == taintAutoscaler {
			return "the Node has the taint " + taintAutoscaler
		}
	}
	return ""
}

// choosePeers picks the BGPPeers for this node, also if it announces nothing: the
// sessions stay up, so that announcing again takes no time.
func (d *decider) choosePeers() {
	for _, p := range d.snapshot.Peers {
		sel, err := selector(p.Spec.NodeSelector)
		if err != nil {
			d.problem("BGPPeer %q is not used: spec.nodeSelector: %v", p.Name, err)
			continue
		}
		if p.DeletionTimestamp == nil && sel.Matches(labels.Set(d.own.Labels)) {
			d.out.Peers = append(d.out.Peers, p)
		}
	}
	slices.SortFunc(d.out.Peers, func(a, b *v1alpha1.BGPPeer) int { return cmp.Compare(a.Name, b.Name) })
}

func (d *decider) problem(format string, args ...any) {
	d.out.Problems = append(d.out.Problems, fmt.Sprintf(format, args...))
}

// selector reads a missing selector as one that takes everything.
func selector(s *metav1.LabelSelector) (labels.Selector, error) {
	if s == nil {
		return labels.Everything(), nil
	}
	return metav1.LabelSelectorAsSelector(s)
}

// readClasses reads the classes that are announced. The controller shows in their
// conditions what is wrong with them; here they count as far as they can be read.
func (d *decider) readClasses() {
	d.classes = make(map[string]*class, len(d.snapshot.Classes))
	var defaults []string
	for _, c := range d.snapshot.Classes {
		if c.Spec.Default {
			defaults = append(defaults, c.Name)
		}
		if c.Spec.BGP == nil {
			continue
		}
		if r := d.readClass(c); r != nil {
			d.classes[c.Name] = r
		}
	}
	// Two defaults: neither is used, whichever of them announces. The controller
	// goes by the same rule, so that no address is assigned by one and announced
	// by the other.
	if len(defaults) == 1 {
		d.fallback = d.classes[defaults[0]]
	}
}

// readClass returns nil for a class whose nodeSelector cannot be read: announcing
// from all nodes could draw traffic into a network that it must stay out of. A bad
// community is left out instead, because the route works without it.
func (d *decider) readClass(c *v1alpha1.LoadBalancerClass) *class {
	sel, err := selector(c.Spec.NodeSelector)
	if err != nil {
		d.problem("LoadBalancerClass %q is not announced: spec.nodeSelector: %v", c.Name, err)
		return nil
	}
	r := &class{name: c.Name, nodes: sel}
	if len(c.Spec.BGP.Peers) > 0 {
		r.peers = sortedUnion(c.Spec.BGP.Peers, nil)
	}
	for _, text := range c.Spec.BGP.Communities {
		community, err := parseCommunity(text)
		if err != nil {
			d.problem("LoadBalancerClass %q: spec.bgp.communities: %v", c.Name, err)
			continue
		}
		r.communities = sortedUnion(r.communities, []uint32{community})
	}
	return r
}

// parseCommunity reads "asn:value" (RFC 1997), each of 16 bits. The schema lets
// nothing else in; an object may be older than the schema.
func parseCommunity(text string) (uint32, error) {
	high, low, ok := strings.Cut(text, ":")
	h, errHigh := strconv.ParseUint(high, 10, 16)
	l, errLow := strconv.ParseUint(low, 10, 16)
	if !ok || errHigh != nil || errLow != nil {
		return 0, fmt.Errorf("%q is not two numbers from 0 to 65535 with a colon between them", text)
	}
	return uint32(h)<<16 | uint32(l), nil
}

// service adds what this node announces of a Service to found.
func (d *decider) service(svc *corev1.Service, found map[netip.Addr]Announcement) {
	c := d.classOf(svc)
	if c == nil || svc.DeletionTimestamp != nil || len(svc.Status.LoadBalancer.Ingress) == 0 {
		return
	}
	if !c.nodes.Matches(labels.Set(d.own.Labels)) {
		return
	}
	name := types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}
	// Each family for itself: a dual-stack Service can have endpoints of one only.
	slices := d.snapshot.Endpoints(name)
	for _, addr := range loadBalancerAddresses(svc) {
		if d.shouldAnnounce(svc, c, usableEndpoints(slices, familyOf(addr))) {
			merge(found, Announcement{Addr: addr, Service: name, Class: c.name, Peers: c.peers, Communities: c.communities})
		}
	}
}

// classOf returns the class that a Service is of; nil if it is not ours, or is
// not announced.
func (d *decider) classOf(svc *corev1.Service) *class {
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return nil
	}
	if svc.Spec.LoadBalancerClass == nil {
		return d.fallback
	}
	name, ours := v1alpha1.ClassName(*svc.Spec.LoadBalancerClass)
	if !ours {
		return nil
	}
	return d.classes[name]
}

// shouldAnnounce reports whether this node announces an address of a Service
// whose endpoints are where e says.
func (d *decider) shouldAnnounce(svc *corev1.Service, c *class, e endpointNodes) bool {
	local := svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	if !e.any || local && !e.nodes[d.node] {
		return false
	}
	if svc.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		// An unhealthy kube-proxy does not count here: the other nodes do not
		// know of it, so none would step in.
		return d.owner(svc, c, e, local) == d.node
	}
	return d.snapshot.ProxyUnhealthy == ""
}

// owner picks the one node that announces a Service: the highest by rendezvous
// hash of those that are eligible and Ready, or of the eligible ones if none is
// Ready. A node that comes or goes moves only its own Services.
func (d *decider) owner(svc *corev1.Service, c *class, e endpointNodes, local bool) string {
	var best, bestReady candidate
	key := svc.Namespace + "/" + svc.Name
	for _, n := range d.eligible(c) {
		if local && !e.nodes[n.Name] {
			continue
		}
		x := candidate{weigh(key, n.Name), n.Name}
		best = best.better(x)
		if nodeReady(n) {
			bestReady = bestReady.better(x)
		}
	}
	return cmp.Or(bestReady.node, best.node)
}

// eligible returns the nodes that may announce a class, by what all agents know.
// Most classes never ask, so it is computed when first needed.
func (d *decider) eligible(c *class) []*corev1.Node {
	if c.known {
		return c.eligible
	}
	for _, n := range d.snapshot.Nodes {
		if ineligibleReason(n) == "" && c.nodes.Matches(labels.Set(n.Labels)) {
			c.eligible = append(c.eligible, n)
		}
	}
	c.known = true
	return c.eligible
}

// nodeReady is about the choice of an owner only: see Decide.
func nodeReady(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// merge adds an announcement. Services that share an address are announced
// wherever one of them is, to the peers and with the communities of all.
func merge(found map[netip.Addr]Announcement, a Announcement) {
	have, ok := found[a.Addr]
	if !ok {
		found[a.Addr] = a
		return
	}
	if before(a.Service, have.Service) {
		have, a = a, have
	}
	if have.Peers != nil && a.Peers != nil {
		have.Peers = sortedUnion(have.Peers, a.Peers)
	} else {
		have.Peers = nil
	}
	have.Communities = sortedUnion(have.Communities, a.Communities)
	found[have.Addr] = have
}

// before orders Services, so that the one that stands for a shared address does not
// depend on the order in which a cache lists them.
func before(a, b types.NamespacedName) bool {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name)) < 0
}

// sortedUnion returns the elements of both lists in order, each once. It never
// changes a: lists of a class are shared by all its announcements.
func sortedUnion[T cmp.Ordered](a, b []T) []T {
	if len(b) == 0 && slices.IsSorted(a) {
		return a
	}
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}
