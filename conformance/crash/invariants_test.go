// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	servicehelper "k8s.io/cloud-provider/service/helpers"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/service"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/schema"
)

// settled returns nil once nothing is left to do: every Service has what it
// wants, NetBox records exactly what the Services have, and nothing remains of
// Services that are gone.
func (w *harness) settled(ctx context.Context) error {
	list, err := w.kube.CoreV1().Services(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	records, err := w.records(ctx)
	if err != nil {
		return err
	}
	var errs []error
	want := map[string]record{} // by claim
	for i := range list.Items {
		svc := &list.Items[i]
		if svc.Name == "kubernetes" {
			continue
		}
		if err := served(svc); err != nil {
			errs = append(errs, fmt.Errorf("service %s: %w", svc.Name, err))
		}
		for _, addr := range addresses(svc) {
			key := ipam.Key{Cluster: cluster, Namespace: namespace, Service: svc.Name, Family: ipam.FamilyOf(addr)}.String()
			want[key] = record{Address: addr.String(), Fields: map[string]string{schema.FieldServiceUID: string(svc.UID), schema.FieldCluster: cluster}}
		}
	}
	return errors.Join(append(errs, compare(want, records)...)...)
}

// compare tells what NetBox has too much, too little or in another way.
func compare(want map[string]record, have []record) []error {
	var errs []error
	for _, r := range have {
		w, ok := want[r.Fields[schema.FieldClaim]]
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("leaked, or double: %s", r))
			continue
		case r.addr().String() != w.Address, r.Fields[schema.FieldServiceUID] != w.Fields[schema.FieldServiceUID], r.Fields[schema.FieldCluster] != cluster:
			errs = append(errs, fmt.Errorf("%s, but the Service has %s (UID %s)", r, w.Address, w.Fields[schema.FieldServiceUID]))
		}
		delete(want, r.Fields[schema.FieldClaim])
	}
	for key, w := range want {
		errs = append(errs, fmt.Errorf("%s of claim %s is not in NetBox", w.Address, key))
	}
	return errs
}

// served returns what a Service still waits for.
func served(svc *corev1.Service) error {
	have := addresses(svc)
	switch {
	case svc.DeletionTimestamp != nil:
		return errors.New("deleted, and still there")
	case svc.Spec.Type != corev1.ServiceTypeLoadBalancer && (len(have) > 0 || servicehelper.HasLBFinalizer(svc)):
		return fmt.Errorf("no load balancer any more, and has %v, finalizers %q", have, svc.Finalizers)
	case svc.Spec.Type != corev1.ServiceTypeLoadBalancer:
		return nil
	case !servicehelper.HasLBFinalizer(svc):
		return errors.New("no finalizer")
	case len(have) != len(svc.Spec.IPFamilies):
		return fmt.Errorf("families %v, and has %v", svc.Spec.IPFamilies, have)
	}
	for family, asked := range asked(svc) {
		if wants(svc, family) && !slices.Contains(have, asked) {
			return fmt.Errorf("asks for %s, and has %v", asked, have)
		}
	}
	return nil
}

// addresses are those of a Service's status.
func addresses(svc *corev1.Service) []netip.Addr {
	var out []netip.Addr
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(in.IP); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// asked are the addresses that a Service's annotation asks for.
func asked(svc *corev1.Service) map[ipam.Family]netip.Addr {
	ask, err := service.ParseAsk(map[string]string{v1alpha1.AnnotationAddresses: svc.Annotations[v1alpha1.AnnotationAddresses]}, "")
	if err != nil {
		return nil
	}
	return ask.Addrs
}

func wants(svc *corev1.Service, f ipam.Family) bool {
	name := corev1.IPv4Protocol
	if f == ipam.IPv6 {
		name = corev1.IPv6Protocol
	}
	return slices.Contains(svc.Spec.IPFamilies, name)
}

// witness watches every change of every Service and remembers what must not
// happen even for a moment.
type witness struct {
	mu       sync.Mutex
	services map[types.UID]*life
	wrongs   []string
}

// life is what was seen of a Service.
type life struct {
	name string
	has  map[ipam.Family]netip.Addr
	// asked are all addresses that its user ever asked for.
	asked map[netip.Addr]bool
	// givenUp are addresses of a family that its user gave up. One may go late: the
	// user wants the family again, and the status that lacks it is on its way.
	givenUp map[netip.Addr]bool
	// leaving: it is being deleted, is no load balancer any more, or has been
	// asked to move, so that its address may be another's already.
	leaving bool
}

// watch starts a witness. It sees what the API server says, not what the
// controller's proxy lets through.
func (w *harness) watch() *witness {
	w.t.Helper()
	wit := &witness{services: map[types.UID]*life{}}
	factory := informers.NewSharedInformerFactory(w.kube, 0)
	_, err := factory.Core().V1().Services().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { wit.see(o.(*corev1.Service)) },
		UpdateFunc: func(_, o any) { wit.see(o.(*corev1.Service)) },
		DeleteFunc: wit.forget,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	factory.Start(w.t.Context().Done())
	factory.WaitForCacheSync(w.t.Context().Done())
	return wit
}

func (n *witness) forget(o any) {
	if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = gone.Obj
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.services, o.(*corev1.Service).UID)
}

func (n *witness) see(svc *corev1.Service) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.services[svc.UID]
	if l == nil {
		l = &life{name: svc.Name, asked: map[netip.Addr]bool{}, givenUp: map[netip.Addr]bool{}}
		n.services[svc.UID] = l
	}
	for _, a := range asked(svc) {
		l.asked[a] = true
	}
	now := map[ipam.Family]netip.Addr{}
	for _, a := range addresses(svc) {
		now[ipam.FamilyOf(a)] = a
	}
	l.leaving = svc.DeletionTimestamp != nil || svc.Spec.Type != corev1.ServiceTypeLoadBalancer
	for family, addr := range l.has {
		if now[family] == addr {
			l.givenUp[addr] = l.givenUp[addr] || !wants(svc, family)
			continue
		}
		if !l.leaving && wants(svc, family) && !l.asked[now[family]] && !l.givenUp[addr] {
			n.wrong("%s moved from %s to %v, and nobody asked for that", svc.Name, addr, now[family])
		}
		delete(l.givenUp, addr)
	}
	for family, a := range asked(svc) {
		l.leaving = l.leaving || now[family].IsValid() && now[family] != a
	}
	for family := range now {
		l.leaving = l.leaving || !wants(svc, family)
	}
	l.has = now
	n.shared(svc.UID, l)
}

// shared notes who else has an address of a Service.
func (n *witness) shared(uid types.UID, l *life) {
	if l.leaving {
		return
	}
	for other, o := range n.services {
		if other == uid || o.leaving {
			continue
		}
		for family, addr := range l.has {
			if o.has[family] == addr {
				n.wrong("%s and %s both have %s", l.name, o.name, addr)
			}
		}
	}
}

func (n *witness) wrong(format string, args ...any) {
	n.wrongs = append(n.wrongs, fmt.Sprintf(format, args...))
}

// take returns what was wrong since the last call.
func (n *witness) take() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := n.wrongs
	n.wrongs = nil
	return out
}
