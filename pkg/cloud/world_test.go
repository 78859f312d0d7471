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
	"k8s.io/client-go/tools/record"
	servicehelper "k8s.io/cloud-provider/service/helpers"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/inline"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/netboxtest"
)

// world is a namespace of Services, an informer that may lag behind it, and a
// balancer that is called as upstream's service controller does.
type world struct {
	t     *testing.T
	shelf shelf
	// netbox makes the allocator for NetBox after a start; nil for none.
	netbox func() ipam.Allocator

	mu sync.Mutex
	// live is what the API server has, seen is what the informer shows.
	live, seen map[string]*corev1.Service
	created    int
	b          *balancer
	events     []string
}

func newWorld(t *testing.T, s shelf, nb func() ipam.Allocator) *world {
	w := &world{t: t, shelf: s, netbox: nb, live: map[string]*corev1.Service{}, seen: map[string]*corev1.Service{}}
	w.start()
	return w
}

// start begins with the memory of a new process.
func (w *world) start() {
	w.t.Helper()
	for _, name := range w.names() {
		w.deliver(name)
	}
	var pools []ipam.Pool
	for _, p := range w.shelf.pools {
		pools = append(pools, ipam.Pool{Name: p.Name, Spec: p.Spec})
	}
	restored, err := inlineClaims("lab", w.services(""), pools)
	if err != nil {
		w.t.Fatal(err)
	}
	list := inline.New("lab")
	list.Restore(restored)
	w.b = &balancer{
		cluster: "lab", catalogue: w.shelf, freed: func() {}, failed: func() {}, replay: func(string) bool { return true },
		warn:      func(svc *corev1.Service, reason, message string) { w.tell(svc.Name, message) },
		groups:    groups{services: w.services},
		conflicts: conflicts{client: fake.NewClientset(), recorder: &record.FakeRecorder{}, audited: true},
	}
	w.b.groups.learn(restored, w.netbox == nil)
	if w.netbox == nil {
		w.b.allocator = ipam.Combine(nil, list)
	} else {
		w.b.allocator = ipam.Combine(w.netbox(), list)
	}
}

func (w *world) tell(name, message string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, name+": "+message)
}

// services implements the namespace index of the informer.
func (w *world) services(string) []*corev1.Service {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Values(w.seen))
}

// names are those of all Services that exist or seem to.
func (w *world) names() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := maps.Clone(w.live)
	maps.Copy(all, w.seen)
	return slices.Sorted(maps.Keys(all))
}

// create adds a Service with a TCP port and a sharing key ("" for none).
func (w *world) create(name, key string, port int32, edit ...func(*corev1.Service)) {
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
	for _, e := range append([]func(*corev1.Service){shares(key)}, edit...) {
		e(svc)
	}
	w.live[name] = svc
	w.deliver(name)
}

func shares(key string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		delete(s.Annotations, v1alpha1.AnnotationSharingKey)
		if key != "" {
			s.Annotations[v1alpha1.AnnotationSharingKey] = key
		}
	}
}

func annotated(annotation, value string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Annotations[annotation] = value }
}

// edit changes a Service; the informer shows it.
func (w *world) edit(name string, f func(*corev1.Service)) {
	svc := w.live[name].DeepCopy()
	f(svc)
	w.live[name] = svc
	w.deliver(name)
}

// deliver lets the informer catch up with a Service.
func (w *world) deliver(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	svc, ok := w.live[name]
	if !ok {
		delete(w.seen, name)
		return
	}
	shown := svc.DeepCopy()
	classView{}.project(shown)
	w.seen[name] = shown
}

// delete asks for a Service's deletion, as a user does.
func (w *world) delete(name string) {
	w.edit(name, func(s *corev1.Service) { s.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} })
}

// sync does what upstream does with a Service; the informer does not show what
// became of it before deliver. It returns why the Service waits.
func (w *world) sync(name string) error {
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
			s.Finalizers = append(s.Finalizers, finalizer)
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

func (w *world) cleanUp(svc *corev1.Service) error {
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
func (w *world) write(svc *corev1.Service, f func(*corev1.Service)) {
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
func (w *world) settle() map[string]string {
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

// sweep frees orphans as the ledger does after the grace period.
func (w *world) sweep() {
	w.t.Helper()
	list, err := w.b.allocator.List(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, d := range Differences(ipam.Report{Claims: list}, w.services(""), "") {
		if d.Kind != Orphan {
			continue
		}
		var live []runtime.Object
		for _, svc := range w.live {
			live = append(live, svc)
		}
		client := fake.NewClientset(live...)
		l := &ledger{allocator: w.b.allocator, client: client, services: newServiceInformer(client, classView{}), groups: &w.b.groups}
		for _, svc := range w.services("") {
			if err := l.services.GetStore().Add(svc); err != nil {
				w.t.Fatal(err)
			}
		}
		if err := l.free(w.t.Context(), d); err != nil {
			w.t.Error(err)
		}
	}
}

func (w *world) ip(name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if svc := w.live[name]; svc != nil && len(svc.Status.LoadBalancer.Ingress) > 0 {
		return svc.Status.LoadBalancer.Ingress[0].IP
	}
	return ""
}

// claims returns what is recorded, "claimant=address", without what is only reserved.
func (w *world) claims() []string {
	w.t.Helper()
	list, err := w.b.allocator.List(w.t.Context())
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

func (w *world) wantClaims(want ...string) {
	w.t.Helper()
	if got := w.claims(); !slices.Equal(got, want) {
		w.t.Errorf("recorded: %v, want %v", got, want)
	}
}

func (w *world) wantIPs(want map[string]string) {
	w.t.Helper()
	for name, ip := range want {
		if got := w.ip(name); got != ip {
			w.t.Errorf("Service %s has %q, want %q", name, got, ip)
		}
	}
}

// check tells what must hold once everything has settled. Who waits for a place
// in another group may still have the address of the former one.
func (w *world) check(waits map[string]string) error {
	list, err := w.b.allocator.List(w.t.Context())
	if err != nil {
		return err
	}
	var errs []error
	services := w.services("")
	for _, d := range Differences(ipam.Report{Claims: list}, services, "") {
		errs = append(errs, errors.New(d.String()))
	}
	holders := map[netip.Addr][]*corev1.Service{}
	for _, svc := range services {
		for _, a := range statusAddrs(svc) {
			holders[a] = append(holders[a], svc)
		}
	}
	for a, svcs := range holders {
		for i, svc := range svcs {
			for _, other := range svcs[i+1:] {
				key := sharingKey(svc)
				if (key == "" || key != sharingKey(other)) && waits[svc.Name] == "" && waits[other.Name] == "" {
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
func newNetBox(t *testing.T) (server *netboxtest.Server, connect func() ipam.Allocator) {
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
	return server, func() ipam.Allocator {
		client, err := netbox.NewClient(netbox.Options{URL: hs.URL, TokenFile: token})
		if err != nil {
			t.Fatal(err)
		}
		return netbox.NewAllocator(client, "lab", "cluster-uid", netbox.Record{})
	}
}

// netboxShelf has one class over prefix 203.0.113.0/24 of NetBox.
func netboxShelf() shelf {
	return newShelf(&v1alpha1.AddressPool{ObjectMeta: metav1.ObjectMeta{Name: "nb"}, Spec: netboxPool("nb", "203.0.113.0/24").Spec})
}

// bothStores runs a test against a list of addresses and against NetBox. The
// first addresses that are given out are prefix+".1", ".2" and so on.
func bothStores(t *testing.T, test func(t *testing.T, w *world, prefix string)) {
	t.Run("list", func(t *testing.T) {
		test(t, newWorld(t, newShelf(inlinePool("v4", "192.0.2.1-192.0.2.99")), nil), "192.0.2")
	})
	t.Run("NetBox", func(t *testing.T) {
		_, connect := newNetBox(t)
		test(t, newWorld(t, netboxShelf(), connect), "203.0.113")
	})
}

// toldOf tells whether a Warning Event about a Service has a text.
func (w *world) toldOf(name, text string) bool {
	return slices.ContainsFunc(w.events, func(e string) bool { return strings.HasPrefix(e, name+": ") && strings.Contains(e, text) })
}

// state tells of each Service what a test's history needs.
func (w *world) state() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(w.live)) {
		svc := w.live[name]
		s := fmt.Sprintf("%s:%d:%s%v", name, svc.Spec.Ports[0].Port, sharingKey(svc), statusAddrs(svc))
		if svc.DeletionTimestamp != nil {
			s += ":deleted"
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}
