// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package assign

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/bm-ccm/bm-ccm/pkg/cloud/service"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// Group is what is known of the Services that share an address. Who is in a
// group follows from the live Services alone, so that a crash forgets nothing.
type Group struct {
	service.Group
	// Addrs are the shared addresses, as far as they are known.
	Addrs map[ipam.Family]netip.Addr
	// Self is the Service that is being decided about.
	Self Member
	// Others are the other live Services that want to be in the group or are.
	Others []Member
}

// Member is a Service that wants to be in a group or is.
type Member struct {
	Service *corev1.Service
	// Class is the name of its LoadBalancerClass, whether it exists or not.
	Class string
	// Admitted says that it was given the shared address by this process. Its
	// status may not show that yet.
	Admitted bool
	// Changed says that it is known not to be what it was when it was admitted.
	Changed bool
}

// HeldBy returns the addresses of a group that a Service has by its status.
func HeldBy(svc *corev1.Service, shared map[ipam.Family]netip.Addr) map[ipam.Family]netip.Addr {
	held := map[ipam.Family]netip.Addr{}
	for _, a := range service.Addrs(svc) {
		if f := ipam.FamilyOf(a); shared[f] == a {
			held[f] = a
		}
	}
	return held
}

// refusals judges all of a group, and returns why each of the refused ones may
// not share, by name. Who is on the way out is in the way until it has let go of
// the address.
func (g Group) refusals() map[string]*SharingError {
	sharers := make([]Sharer, 0, len(g.Others)+1)
	for _, m := range append([]Member{g.Self}, g.Others...) {
		held := HeldBy(m.Service, g.Addrs)
		if m.Admitted {
			maps.Copy(held, g.Addrs)
		}
		s := SharerOf(m.Service, m.Class, held)
		s.Changed = m.Admitted && m.Changed
		sharers = append(sharers, s)
	}
	return Admit(g.SharingKey, sharers)
}

// terms are what a group wants of its claim.
type terms struct {
	// refusal is why the Service that is being decided about may not share; nil
	// if it may.
	refusal *SharingError
	// asked are the addresses that somebody of the group asks for.
	asked map[ipam.Family]netip.Addr
	// hostname is that of the oldest Service that gives one.
	hostname string
}

// terms judges whether the Service may share, and on what terms. What refused
// ones ask for does not count.
func (g Group) terms() terms {
	refused := g.refusals()
	t := terms{refusal: refused[g.Self.Service.Name], asked: map[ipam.Family]netip.Addr{}}
	byAge := func(a, b Member) int {
		return cmp.Or(a.Service.CreationTimestamp.Compare(b.Service.CreationTimestamp.Time), cmp.Compare(a.Service.Name, b.Service.Name))
	}
	for _, m := range slices.SortedFunc(slices.Values(append([]Member{g.Self}, g.Others...)), byAge) {
		ask, err := service.ParseAsk(m.Service.Annotations, m.Service.Spec.LoadBalancerIP)
		if err != nil || ask.SharingKey != g.SharingKey || refused[m.Service.Name] != nil {
			continue
		}
		maps.Copy(t.asked, ask.Addrs)
		t.hostname = cmp.Or(t.hostname, ask.Hostname)
	}
	return t
}

// Needs reports whether another Service than Self wants an address of a family
// from the group, or has it. If none does, the address is released.
func (g Group) Needs(f ipam.Family) bool {
	return slices.ContainsFunc(g.Others, func(m Member) bool {
		wanted, ok := service.GroupOf(m.Service)
		wants := ok && wanted == g.Group && slices.Contains(service.Families(m.Service), f)
		return wants || g.Addrs[f].IsValid() && service.Addr(m.Service, f) == g.Addrs[f]
	})
}

// SharerOf is what the rules of sharing look at in a Service; held are the
// shared addresses that it has already.
func SharerOf(svc *corev1.Service, class string, held map[ipam.Family]netip.Addr) Sharer {
	s := Sharer{
		Name: svc.Name, Created: svc.CreationTimestamp.Time, Class: class,
		Local:    svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
		Selector: svc.Spec.Selector, Held: held,
	}
	if ask, err := service.ParseAsk(svc.Annotations, svc.Spec.LoadBalancerIP); err == nil {
		s.Asked = ask.Addrs
	}
	for _, p := range svc.Spec.Ports {
		protocol := cmp.Or(p.Protocol, corev1.ProtocolTCP)
		s.Ports = append(s.Ports, SharedPort{Protocol: string(protocol), Port: p.Port})
	}
	return s
}

// Fingerprint is equal for two versions of a Service that the rules of sharing
// treat alike. A change of it is what Member.Changed is about: who changes its
// ports to those of another one is the one to yield.
func Fingerprint(svc *corev1.Service) string {
	s := SharerOf(svc, service.RequestedClass(svc), nil)
	return fmt.Sprint(s.Class, s.Ports, s.Local, s.Selector, s.Asked)
}
