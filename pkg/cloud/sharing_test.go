// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/service"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/service/servicetest"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

func TestSharing(t *testing.T) {
	bothStores(t, func(t *testing.T, w *harness, prefix string) {
		first, second := prefix+".1", prefix+".2"
		w.create("a", "k", 80)
		w.create("b", "k", 443)
		w.create("c", "k", 80)
		w.create("d", "", 80)
		waits := w.settle()
		w.wantIPs(map[string]string{"a": first, "b": first, "c": "", "d": second})
		if len(waits) != 1 || !strings.Contains(waits["c"], `cannot share "k" with Service "a": both have port TCP/80`) {
			t.Errorf("waiting: %v", waits)
		}
		w.wantClaims("+k="+first, "d="+second)

		// S11: one that made room is replaced at once; the address stays (S12).
		w.delete("a")
		waits = w.settle()
		w.wantIPs(map[string]string{"b": first, "c": first})
		if len(waits) > 0 {
			t.Errorf("waiting: %v", waits)
		}
		w.start() // and after a restart
		if waits = w.settle(); len(waits) > 0 {
			t.Errorf("waiting after a restart: %v", waits)
		}
		w.wantIPs(map[string]string{"b": first, "c": first})

		w.delete("b")
		w.settle()
		w.wantClaims("+k="+first, "d="+second)
		w.delete("c")
		w.settle()
		w.wantClaims("d=" + second)
		if err := w.check(nil); err != nil {
			t.Error(err)
		}
	})
}

// Whoever is deleted last frees the address, also where the informer lags.
func TestSharersDeletedAtOnce(t *testing.T) {
	bothStores(t, func(t *testing.T, w *harness, _ string) {
		names := []string{"a", "b", "c", "d"}
		for i, name := range names {
			w.create(name, "k", int32(80+i))
		}
		w.settle()
		for _, name := range names {
			w.delete(name)
		}
		var wg sync.WaitGroup
		for _, name := range names {
			wg.Go(func() {
				if err := w.sync(name); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		w.wantClaims()
		w.settle()
		w.b.groups.Learn(nil) // as drift does now and then
		if n := len(w.b.groups.known); n != 0 {
			t.Errorf("%d groups are remembered for ever", n)
		}
	})
}

func TestJoiningAGroup(t *testing.T) {
	bothStores(t, func(t *testing.T, w *harness, prefix string) {
		first, second := prefix+".1", prefix+".2"
		w.create("a", "", 80)
		w.create("b", "", 443)
		w.settle()
		w.edit("a", servicetest.Sharing("k"))
		w.settle()
		w.wantIPs(map[string]string{"a": first, "b": second}) // the first one brings its address
		w.wantClaims("+k="+first, "b="+second)
		w.edit("b", servicetest.Sharing("k"))
		w.settle()
		w.wantIPs(map[string]string{"a": first, "b": first})
		w.wantClaims("+k=" + first)
	})
}

func TestLeavingAGroup(t *testing.T) {
	for _, restart := range []bool{false, true} {
		bothStores(t, func(t *testing.T, w *harness, prefix string) {
			first, second := prefix+".1", prefix+".2"
			w.create("a", "k", 80)
			w.create("b", "k", 443)
			w.settle()
			w.edit("a", servicetest.Sharing(""))
			if restart {
				w.start()
			}
			w.settle()
			w.wantIPs(map[string]string{"a": second, "b": first})
			w.wantClaims("+k="+first, "a="+second)
			w.edit("b", servicetest.Sharing(""))
			if restart {
				w.start()
			}
			w.settle()
			w.wantIPs(map[string]string{"a": second, "b": first}) // the last one takes it along
			w.wantClaims("a="+second, "b="+first)
		})
	}
}

func TestChangingGroups(t *testing.T) {
	bothStores(t, func(t *testing.T, w *harness, prefix string) {
		first, second := prefix+".1", prefix+".2"
		w.create("a", "k", 80)
		w.create("b", "k", 443)
		w.create("c", "other", 8080)
		w.settle()
		w.edit("a", servicetest.Sharing("other"))
		w.settle()
		w.wantIPs(map[string]string{"a": second, "b": first, "c": second})
		w.edit("b", servicetest.Sharing("third"))
		w.settle()
		w.wantIPs(map[string]string{"b": first})
		w.edit("b", servicetest.Sharing("other"))
		w.settle()
		w.wantIPs(map[string]string{"a": second, "b": second, "c": second})
		w.wantClaims("+other=" + second)
	})
}

// Who changes its ports to those of another one loses the address, since no
// node could tell their packets apart; the other one loses nothing.
func TestSharerTakesAnothersPort(t *testing.T) {
	bothStores(t, func(t *testing.T, w *harness, prefix string) {
		first := prefix + ".1"
		w.create("a", "k", 80)
		w.create("b", "k", 443)
		w.settle()
		w.edit("a", func(s *corev1.Service) { s.Spec.Ports = []corev1.ServicePort{{Port: 443}} })
		waits := w.settle()
		w.wantIPs(map[string]string{"a": "", "b": first})
		if !strings.Contains(waits["a"], "both have port TCP/443") || !w.warned("a", "both have port TCP/443") {
			t.Errorf("waits: %v, events: %v", waits, w.events)
		}
		w.edit("a", func(s *corev1.Service) { s.Spec.Ports = []corev1.ServicePort{{Port: 80}} })
		if waits = w.settle(); len(waits) > 0 {
			t.Errorf("waiting: %v", waits)
		}
		w.wantIPs(map[string]string{"a": first, "b": first})
	})
}

// A shared address moves when all ask for it, and not before.
func TestSharersAskForAnAddress(t *testing.T) {
	bothStores(t, func(t *testing.T, w *harness, prefix string) {
		first, ninth := prefix+".1", prefix+".9"
		w.create("a", "k", 80)
		w.create("b", "k", 443)
		w.settle()
		w.edit("a", servicetest.Annotated(v1alpha1.AnnotationAddresses, ninth))
		waits := w.settle()
		w.wantIPs(map[string]string{"a": first, "b": first})
		if !strings.Contains(waits["a"], fmt.Sprintf("it has or asks for %s, this one %s", first, ninth)) {
			t.Errorf("waits: %v", waits)
		}
		w.edit("b", servicetest.Annotated(v1alpha1.AnnotationAddresses, ninth))
		if waits = w.settle(); len(waits) > 0 {
			t.Errorf("waiting: %v", waits)
		}
		w.wantIPs(map[string]string{"a": ninth, "b": ninth})
		w.wantClaims("+k=" + ninth)
		// Who asks for nothing gets what the group has, whoever comes first.
		w.create("early", "g", 80)
		w.create("late", "g", 443, servicetest.Annotated(v1alpha1.AnnotationAddresses, prefix+".8"))
		w.settle()
		w.wantIPs(map[string]string{"early": prefix + ".8", "late": prefix + ".8"})
	})
}

// A group that loses the only Service of a family frees that family's address.
func TestSharersOfTwoFamilies(t *testing.T) {
	w := newHarness(t, newCatalog(inlinePool("v4", "192.0.2.1-192.0.2.9"), inlinePool("v6", "2001:db8::1-2001:db8::9")), nil)
	w.create("a", "k", 80)
	w.create("b", "k", 443, servicetest.DualStack(corev1.IPFamilyPolicyRequireDualStack))
	w.create("c", "k", 8080, servicetest.DualStack(corev1.IPFamilyPolicyRequireDualStack))
	w.settle()
	w.wantClaims("+k=192.0.2.1", "+k=2001:db8::1")
	w.edit("c", func(s *corev1.Service) { s.Spec.IPFamilies = s.Spec.IPFamilies[:1] })
	w.settle()
	w.wantClaims("+k=192.0.2.1", "+k=2001:db8::1")
	w.delete("b")
	w.settle()
	w.wantClaims("+k=192.0.2.1")
	w.wantIPs(map[string]string{"a": "192.0.2.1", "c": "192.0.2.1"})
}

// An annotation that is wrong elsewhere does not take a Service out of its group.
func TestSharerWithAMistakeKeepsTheAddress(t *testing.T) {
	w := newHarness(t, newCatalog(inlinePool("v4", "192.0.2.1-192.0.2.9")), nil)
	w.create("a", "k", 80)
	w.create("b", "k", 443)
	w.settle()
	w.edit("a", servicetest.Annotated(v1alpha1.AnnotationRetain, "perhaps"))
	if waits := w.settle(); !strings.Contains(waits["a"], `"perhaps" is neither`) {
		t.Errorf("waits: %v", waits)
	}
	w.delete("b")
	w.settle()
	w.wantIPs(map[string]string{"a": "192.0.2.1"})
	w.wantClaims("+k=192.0.2.1")
}

// TestSharingModel (G5) does at random what users and crashes do, with an informer
// that lags, and looks at what is left: nothing is held twice or recorded for
// nobody, and no address of a Service is free.
func TestSharingModel(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprintf("list %d", seed), func(t *testing.T) {
			modelRound(t, newHarness(t, newCatalog(inlinePool("v4", "192.0.2.1-192.0.2.99")), nil), seed)
		})
	}
	for seed := range uint64(10) {
		t.Run(fmt.Sprintf("NetBox %d", seed), func(t *testing.T) {
			_, connect := newNetBox(t)
			modelRound(t, newHarness(t, netboxCatalog(), connect), seed)
		})
	}
}

func modelRound(t *testing.T, w *harness, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	names, keys, ports := []string{"a", "b", "c", "d", "e"}, []string{"", "k", "k", "l"}, []int32{80, 443, 8080}
	var history []string
	do := func(format string, args ...any) {
		history = append(history, fmt.Sprint(w.claims(), w.state()), fmt.Sprintf(format, args...))
	}
	for step := range 150 {
		name := names[r.IntN(len(names))]
		svc, exists := w.live[name]
		switch n := r.IntN(20); {
		case !exists:
			key, port := keys[r.IntN(len(keys))], ports[r.IntN(len(ports))]
			do("create %s %q %d", name, key, port)
			w.create(name, key, port)
		case n < 2 && svc.DeletionTimestamp == nil:
			do("delete %s", name)
			w.delete(name)
		case n < 4:
			key := keys[r.IntN(len(keys))]
			do("key of %s is %q", name, key)
			w.edit(name, servicetest.Sharing(key))
		case n < 5:
			port := ports[r.IntN(len(ports))]
			do("port of %s is %d", name, port)
			w.edit(name, func(s *corev1.Service) {
				s.Spec.Ports = []corev1.ServicePort{{Protocol: corev1.ProtocolTCP, Port: port}}
			})
		case n < 6:
			do("restart")
			w.start()
		case n < 10:
			w.deliver(name)
		case n < 12:
			var wg sync.WaitGroup
			do("sync all")
			for _, name := range w.names() {
				wg.Go(func() { _ = w.sync(name) }) // who waits is looked at in the end
			}
			wg.Wait()
		default:
			do("sync %s", name)
			_ = w.sync(name)
		}
		if err := heldAndFree(w); err != nil {
			t.Fatalf("step %d: %v\n%s", step, err, strings.Join(history, "\n"))
		}
	}
	w.settle()
	w.sweep()
	waits := w.settle()
	if err := w.check(waits); err != nil {
		t.Fatalf("in the end: %v\n%s\n%s\nwaiting: %v", err, strings.Join(history, "\n"), w.state(), waits)
	}
	for name := range w.live {
		w.delete(name)
	}
	w.settle()
	w.sweep()
	if left := w.claims(); len(left) > 0 {
		t.Fatalf("left: %v\n%s", left, strings.Join(history, "\n"))
	}
}

// heldAndFree finds an address that a Service has and another one could get.
func heldAndFree(w *harness) error {
	list, err := w.store.List(w.t.Context())
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, svc := range w.live {
		for _, a := range service.Addrs(svc) {
			if !slices.ContainsFunc(list, func(c ipam.Claim) bool { return c.Addr == a }) {
				return fmt.Errorf("%s has %s, which is recorded for nobody", svc.Name, a)
			}
		}
	}
	return nil
}
