// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"errors"
	"fmt"
	"maps"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	servicehelper "k8s.io/cloud-provider/service/helpers"

	"github.com/bm-ccm/bm-ccm/pkg/cloud/assign"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/classview"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/drift"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/service"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/service/servicetest"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/inline"
	ipamnetbox "github.com/bm-ccm/bm-ccm/pkg/ipam/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/netboxtest"
)

// harness is a namespace of Services, an informer that may lag behind it, and a
// balancer that is called as upstream's service controller does.
type harness struct {
	t       *testing.T
	catalog fakeCatalog
	// netbox makes the allocator for NetBox after a start; nil for none.
	netbox func() ipam.Store

	mu sync.Mutex
	// live is what the API server has, seen is what the informer shows.
	live, seen map[string]*corev1.Service
	created    int
	b          *balancer
	store      ipam.Store
	events     []string
}

func newHarness(t *testing.T, c fakeCatalog, nb func() ipam.Store) *harness {
	w := &harness{t: t, catalog: c, netbox: nb, live: map[string]*corev1.Service{}, seen: map[string]*corev1.Service{}}
	w.start()
	return w
}

// start begins with the memory of a new process.
func (w *harness) start() {
	w.t.Helper()
	for _, name := range w.names() {
		w.deliver(name)
	}
	restored := assign.Restored("lab", w.services(""), slices.Collect(maps.Values(w.catalog.pools)))
	list := inline.New("lab")
	list.Restore(restored)
	var netbox ipam.Store
	if w.netbox != nil {
		netbox = w.netbox()
	}
	w.store = ipam.Combine(netbox, list)
	d := testDeps(w.catalog, w.store)
	d.warn = func(svc *corev1.Service, reason, message string) { w.tell(svc.Name, message) }
	d.groups = newGroups(w.services, service.RequestedClass)
	d.conditions.compared = true
	if w.netbox == nil {
		d.groups.Learn(restored)
	} else {
		d.groups.LearnSome(restored)
	}
	w.b = newBalancer(d)
}

func (w *harness) tell(name, message string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, name+": "+message)
}

// services implements the namespace index of the informer.
func (w *harness) services(string) []*corev1.Service {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Values(w.seen))
}

// names are those of all Services that exist or seem to.
func (w *harness) names() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := maps.Clone(w.live)
	maps.Copy(all, w.seen)
	return slices.Sorted(maps.Keys(all))
}

// create adds a Service with a TCP port and a sharing key ("" for none).
func (w *harness) create(name, key string, port int32, edit ...func(*corev1.Service)) {
	w.created++
	class := "bm-ccm.io/public"
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: name, UID: types.UID(fmt.Sprintf("uid-%s-%d", name, w.created)),
			CreationTimestamp: metav1.NewTime(time.Unix(int64(w.created), 0)), Annotations: map[string]string{},
		},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: &class, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports: []corev1.ServicePort{{Protocol: corev1.ProtocolTCP, Port: port}},
		},
	}
	for _, e := range append([]func(*corev1.Service){servicetest.Sharing(key)}, edit...) {
		e(svc)
	}
	w.live[name] = svc
	w.deliver(name)
}

// edit changes a Service; the informer shows it.
func (w *harness) edit(name string, f func(*corev1.Service)) {
	svc := w.live[name].DeepCopy()
	f(svc)
	w.live[name] = svc
	w.deliver(name)
}

// deliver lets the informer catch up with a Service.
func (w *harness) deliver(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	svc, ok := w.live[name]
	if !ok {
		delete(w.seen, name)
		return
	}
	shown := svc.DeepCopy()
	classview.Stash(shown)
	w.seen[name] = shown
}

// delete asks for a Service's deletion, as a user does.
func (w *harness) delete(name string) {
	w.edit(name, func(s *corev1.Service) { s.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} })
}

// sync does what upstream does with a Service; the informer does not show what
// became of it before deliver. It returns why the Service waits.
func (w *harness) sync(name string) error {
	w.mu.Lock()
	svc := w.seen[name]
	w.mu.Unlock()
	if svc == nil {
		return nil
	}
	svc = svc.DeepCopy()
	if svc.DeletionTimestamp != nil || svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return w.cleanUp(svc)
	}
	w.write(svc, func(s *corev1.Service) {
		if !servicehelper.HasLBFinalizer(s) {
			s.Finalizers = append(s.Finalizers, servicehelper.LoadBalancerCleanupFinalizer)
		}
	})
	status, err := w.b.EnsureLoadBalancer(w.t.Context(), "", svc, nil)
	if err != nil {
		return err
	}
	if !apiequality.Semantic.DeepEqual(*status, svc.Status.LoadBalancer) {
		w.write(svc, func(s *corev1.Service) { s.Status.LoadBalancer = *status })
	}
	return nil
}

func (w *harness) cleanUp(svc *corev1.Service) error {
	_, exists, err := w.b.GetLoadBalancer(w.t.Context(), "", svc)
	if err == nil && exists {
		err = w.b.EnsureLoadBalancerDeleted(w.t.Context(), "", svc)
	}
	if err != nil {
		return err
	}
	w.write(svc, func(s *corev1.Service) {
		s.Finalizers, s.Status.LoadBalancer = nil, corev1.LoadBalancerStatus{}
		if s.DeletionTimestamp != nil {
			delete(w.live, s.Name)
		}
	})
	return nil
}

// write changes a Service as a patch would: not one of the same name.
func (w *harness) write(svc *corev1.Service, f func(*corev1.Service)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if cur := w.live[svc.Name]; cur != nil && cur.UID == svc.UID {
		cur = cur.DeepCopy()
		w.live[svc.Name] = cur
		f(cur)
	}
}

// settle delivers and syncs everything until nothing changes, and returns why
// who waits does.
func (w *harness) settle() map[string]string {
	w.t.Helper()
	waits := map[string]string{}
	for range 6 {
		waits = map[string]string{}
		for _, name := range w.names() {
			w.deliver(name)
			if err := w.sync(name); err != nil {
				waits[name] = err.Error()
			}
			w.deliver(name)
		}
	}
	return waits
}

// sweep frees orphans as drift does after the grace period, once the API server
// has said that their Services are gone.
func (w *harness) sweep() {
	w.t.Helper()
	list, err := w.store.List(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range drift.Find(ipam.Report{Claims: list}, w.services(""), "") {
		if f.Kind != ipam.Orphan {
			continue
		}
		var live []runtime.Object
		for _, svc := range w.live {
			live = append(live, svc)
		}
		r := drift.NewReconciler(drift.Options{Claims: w.store, Client: fake.NewClientset(live...), Services: shown(w.services("")), Groups: w.b.groups})
		if err := r.Free(w.t.Context(), f); err != nil {
			w.t.Error(err)
		}
	}
}

// shown is an informer that shows some Services.
type shown []*corev1.Service

func (s shown) List() []*corev1.Service { return s }
func (s shown) Requeue(string) bool     { return true }
func (s shown) Get(key string) (*corev1.Service, bool) {
	i := slices.IndexFunc(s, func(svc *corev1.Service) bool { return service.Key(svc) == key })
	if i < 0 {
		return nil, false
	}
	return s[i], true
}

func (w *harness) ip(name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if svc := w.live[name]; svc != nil && len(svc.Status.LoadBalancer.Ingress) > 0 {
		return svc.Status.LoadBalancer.Ingress[0].IP
	}
	return ""
}

// claims returns what is recorded, "claimant=address", without what is only reserved.
func (w *harness) claims() []string {
	w.t.Helper()
	list, err := w.store.List(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, c := range list {
		if !c.Reserved {
			out = append(out, c.Key.Service+"="+c.Addr.String())
		}
	}
	slices.Sort(out)
	return out
}

func (w *harness) wantClaims(want ...string) {
	w.t.Helper()
	if got := w.claims(); !slices.Equal(got, want) {
		w.t.Errorf("recorded: %v, want %v", got, want)
	}
}

func (w *harness) wantIPs(want map[string]string) {
	w.t.Helper()
	for name, ip := range want {
		if got := w.ip(name); got != ip {
			w.t.Errorf("Service %s has %q, want %q", name, got, ip)
		}
	}
}

// check tells what must hold once everything has settled. Who waits for a place
// in another group may still have the address of the former one.
func (w *harness) check(waits map[string]string) error {
	list, err := w.store.List(w.t.Context())
	if err != nil {
		return err
	}
	var errs []error
	services := w.services("")
	for _, d := range drift.Find(ipam.Report{Claims: list}, services, "") {
		errs = append(errs, errors.New(d.String()))
	}
	holders := map[netip.Addr][]*corev1.Service{}
	for _, svc := range services {
		for _, a := range service.Addrs(svc) {
			holders[a] = append(holders[a], svc)
		}
	}
	for a, svcs := range holders {
		for i, svc := range svcs {
			for _, other := range svcs[i+1:] {
				key := service.SharingKey(svc.Annotations)
				if (key == "" || key != service.SharingKey(other.Annotations)) && waits[svc.Name] == "" && waits[other.Name] == "" {
					errs = append(errs, fmt.Errorf("%s and %s both have %s without a common key", svc.Name, other.Name, a))
				}
				if svc.Spec.Ports[0].Port == other.Spec.Ports[0].Port {
					errs = append(errs, fmt.Errorf("%s and %s have %s with the same port", svc.Name, other.Name, a))
				}
			}
		}
	}
	return errors.Join(errs...)
}

// newNetBox is a NetBox in memory with prefix 203.0.113.0/24. connect returns
// an allocator of a new process.
func newNetBox(t *testing.T) (server *netboxtest.Server, connect func() ipam.Store) {
	t.Helper()
	server = netboxtest.New(netboxtest.Options{Seed: &netboxtest.Seed{
		ClaimFields: true, Prefixes: []netboxtest.SeedPrefix{{Prefix: "203.0.113.0/24"}},
	}})
	hs := httptest.NewServer(server)
	t.Cleanup(hs.Close)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(netboxtest.DefaultToken), 0o600); err != nil {
		t.Fatal(err)
	}
	return server, func() ipam.Store {
		client, err := netbox.NewClient(netbox.Options{URL: hs.URL, TokenFile: token})
		if err != nil {
			t.Fatal(err)
		}
		return ipamnetbox.NewAllocator(client, "lab", "cluster-uid", ipamnetbox.Record{})
	}
}

// netboxCatalog has one class over prefix 203.0.113.0/24 of NetBox.
func netboxCatalog() fakeCatalog { return newCatalog(netboxPool("nb", "203.0.113.0/24")) }

// bothStores runs a test against a list of addresses and against NetBox. The
// first addresses that are given out are prefix+".1", ".2" and so on.
func bothStores(t *testing.T, test func(t *testing.T, w *harness, prefix string)) {
	t.Run("list", func(t *testing.T) {
		test(t, newHarness(t, newCatalog(inlinePool("v4", "192.0.2.1-192.0.2.99")), nil), "192.0.2")
	})
	t.Run("NetBox", func(t *testing.T) {
		_, connect := newNetBox(t)
		test(t, newHarness(t, netboxCatalog(), connect), "203.0.113")
	})
}

// warned reports whether a Warning Event about a Service has a text.
func (w *harness) warned(name, text string) bool {
	return slices.ContainsFunc(w.events, func(e string) bool { return strings.HasPrefix(e, name+": ") && strings.Contains(e, text) })
}

// state tells of each Service what a test's history needs.
func (w *harness) state() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(w.live)) {
		svc := w.live[name]
		s := fmt.Sprintf("%s:%d:%s%v", name, svc.Spec.Ports[0].Port, service.SharingKey(svc.Annotations), service.Addrs(svc))
		if svc.DeletionTimestamp != nil {
			s += ":deleted"
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}
