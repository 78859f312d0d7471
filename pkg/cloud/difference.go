// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// DifferenceKind says how the record of claims and the Services differ. Beside
// the kinds below it is any ipam.FindingKind, which only a human can set right.
type DifferenceKind string

// The kinds of differences that the ledger acts upon.
const (
	// Orphan: a claim whose Service is gone. It is freed after a grace period.
	Orphan DifferenceKind = "orphan"
	// Unrecorded: a Service has an address that is not recorded as its own. It is
	// recorded again.
	Unrecorded DifferenceKind = "unrecorded"
	// Drifted: an address is recorded for a Service whose status lacks it. The
	// status is written again.
	Drifted DifferenceKind = "drifted"
	// Moved: the record gives a Service another address than it has. The Service
	// keeps what it has until a human decides.
	Moved DifferenceKind = "moved"
)

// Difference is one difference between the record of claims and the Services.
type Difference struct {
	Kind DifferenceKind
	// Namespace and Name are of the Service that it concerns, which may not
	// exist. Name is "+<sharing key>" where it is about a shared address. Both
	// are empty where it concerns no Service.
	Namespace, Name string
	// Addr is the address that it is about; may be invalid.
	Addr netip.Addr
	// Key is the claim that it is about; may be the zero Key.
	Key ipam.Key
	// Text is a sentence for a human.
	Text string
}

// String returns a line for a terminal or a log.
func (d Difference) String() string {
	who := "-"
	if d.Name != "" {
		who = d.Namespace + "/" + d.Name
	}
	addr := "-"
	if d.Addr.IsValid() {
		addr = d.Addr.String()
	}
	return fmt.Sprintf("%s\t%s\t%s\t%s", d.Kind, who, addr, d.Text)
}

// Differences compares an audit of the record of claims with the Services of
// the cluster, ordered by Service, address and kind. The Services are those
// that an informer with a classView shows; defaultClass is the name of the
// LoadBalancerClass of Services that name none, "" for none.
//
// It is pure: the ledger acts upon what it returns, and Audit prints it.
func Differences(report ipam.Report, services []*corev1.Service, defaultClass string) []Difference {
	c := newComparison(report.Claims, services, defaultClass)
	var out []Difference
	for _, claim := range report.Claims {
		if c.orphaned(claim) {
			out = append(out, Difference{
				Kind: Orphan, Namespace: claim.Key.Namespace, Name: claim.Key.Service, Addr: claim.Addr, Key: claim.Key,
				Text: fmt.Sprintf("%s is recorded for a Service that does not exist (any longer): it is freed %s after the controller has seen it first", claim.Addr, orphanGrace),
			})
		}
	}
	for _, svc := range services {
		if isServed(svc) {
			out = append(out, c.differencesOf(svc)...)
		}
	}
	for _, f := range report.Findings {
		out = append(out, Difference{
			Kind: DifferenceKind(f.Kind), Namespace: f.Key.Namespace, Name: f.Key.Service, Addr: f.Addr, Key: f.Key, Text: f.Text,
		})
	}
	slices.SortStableFunc(out, compareDifferences)
	return out
}

func compareDifferences(a, b Difference) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), a.Addr.Compare(b.Addr), cmp.Compare(a.Kind, b.Kind))
}

// comparison holds claims and Services by what they are looked for.
type comparison struct {
	// recorded are the addresses by the Service part of their claim, see claimant.
	recorded map[string][]ipam.Claim
	byAddr   map[netip.Addr]ipam.Claim
	// wanted has the claimant of each live Service.
	wanted map[string]bool
	// held has the addresses in the status of live Services.
	held map[netip.Addr]bool
	// refused are the Services that do not fit into a group.
	refused map[refusal]bool
}

// refusal names a group and a Service, both as in claimant.
type refusal struct{ group, service string }

// claimant is what stands for a Service in a claim key: "namespace/name", or
// "namespace/+key" where it shares an address.
func claimant(svc *corev1.Service) string {
	if key := sharingKey(svc); key != "" {
		return holderKey(ipam.GroupKey("", svc.Namespace, key, ""))
	}
	return serviceKey(svc)
}

// sharingKey is the sharing key of a Service; "" for none or an invalid one.
func sharingKey(svc *corev1.Service) string { return ipam.SharingKey(svc.Annotations) }

func newComparison(claims []ipam.Claim, services []*corev1.Service, defaultClass string) *comparison {
	c := &comparison{
		recorded: map[string][]ipam.Claim{}, byAddr: map[netip.Addr]ipam.Claim{},
		wanted: map[string]bool{}, held: map[netip.Addr]bool{}, refused: map[refusal]bool{},
	}
	for _, claim := range claims {
		key := holderKey(claim.Key)
		c.recorded[key] = append(c.recorded[key], claim)
		c.byAddr[claim.Addr] = claim
	}
	groups := map[string][]ipam.Sharer{}
	for _, svc := range services {
		if svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
			continue
		}
		who := claimant(svc)
		c.wanted[who] = true
		for _, a := range statusAddrs(svc) {
			c.held[a] = true
		}
		for group, shared := range c.sharedBy(svc) {
			groups[group] = append(groups[group], sharerOf(svc, classNameOf(svc, defaultClass), shared))
		}
	}
	for group, sharers := range groups {
		for name := range ipam.Admit("", sharers) {
			c.refuse(group, name)
		}
	}
	return c
}

// refuse notes that a Service may not be in a group.
func (c *comparison) refuse(group, service string) {
	namespace, _, _ := cache.SplitMetaNamespaceKey(group) // claimant joined it
	c.refused[refusal{group, holderKey(ipam.Key{Namespace: namespace, Service: service})}] = true
}

// sharedBy returns the groups that a Service wants to be in or is, with the
// addresses that it has of theirs.
func (c *comparison) sharedBy(svc *corev1.Service) map[string]map[ipam.Family]netip.Addr {
	out := map[string]map[ipam.Family]netip.Addr{}
	if sharingKey(svc) != "" {
		out[claimant(svc)] = map[ipam.Family]netip.Addr{}
	}
	for _, a := range statusAddrs(svc) {
		claim, ok := c.byAddr[a]
		if _, shared := claim.Key.Group(); !ok || !shared || claim.Key.Namespace != svc.Namespace {
			continue
		}
		group := holderKey(claim.Key)
		if out[group] == nil {
			out[group] = map[ipam.Family]netip.Addr{}
		}
		out[group][claim.Key.Family] = a
	}
	return out
}

// orphaned tells whether a claim belongs to no Service. An address that a
// Service has is none, whatever the claim says: it would be given out twice.
func (c *comparison) orphaned(claim ipam.Claim) bool {
	return !claim.Reserved && !c.wanted[holderKey(claim.Key)] && !c.held[claim.Addr]
}

// differencesOf compares a Service with what is recorded for it.
func (c *comparison) differencesOf(svc *corev1.Service) []Difference {
	if c.refused[refusal{claimant(svc), serviceKey(svc)}] {
		return nil // it waits, and says why
	}
	var out []Difference
	for _, f := range []ipam.Family{ipam.IPv4, ipam.IPv6} {
		if d := c.familyDifference(svc, f); d.Kind != "" {
			d.Namespace, d.Name = svc.Namespace, svc.Name
			out = append(out, d)
		}
	}
	return out
}

func (c *comparison) familyDifference(svc *corev1.Service, f ipam.Family) Difference {
	has := held(svc, f)
	var recorded ipam.Claim
	for _, claim := range c.recorded[claimant(svc)] {
		if claim.Key.Family != f {
			continue
		}
		if claim.Addr == has {
			return Difference{}
		}
		recorded = claim
	}
	switch {
	case !has.IsValid() && !recorded.Addr.IsValid():
		return Difference{}
	case !has.IsValid():
		return Difference{Kind: Drifted, Addr: recorded.Addr, Key: recorded.Key,
			Text: fmt.Sprintf("%s is recorded for this Service, but its status lacks it: the status is written again", recorded.Addr)}
	case recorded.Addr.IsValid():
		return Difference{Kind: Moved, Addr: has, Key: recorded.Key,
			Text: fmt.Sprintf("this Service has %s, but %s is recorded for it: it keeps what it has", has, recorded.Addr)}
	}
	d := Difference{Kind: Unrecorded, Addr: has, Text: fmt.Sprintf("this Service has %s, which is recorded for nobody: it is recorded again", has)}
	if other, ok := c.byAddr[has]; ok {
		d.Key, d.Text = other.Key, fmt.Sprintf("this Service has %s, which is recorded for %s", has, holderKey(other.Key))
	}
	return d
}
