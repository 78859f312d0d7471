// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
)

// patience is longer than the controller's longest wait for a retry.
const patience = 75 * time.Second

// chapter is a step in the life of a Service, as its user takes it.
type chapter struct {
	name string
	do   func(w *harness, name string) error
}

func (w *harness) update(name string, change func(*corev1.Service)) error {
	services := w.kube.CoreV1().Services(namespace)
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		svc, err := services.Get(w.t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		change(svc)
		_, err = services.Update(w.t.Context(), svc, metav1.UpdateOptions{})
		return err
	})
}

func (w *harness) create(name string, edit ...func(*corev1.Service)) error {
	class, nodePorts := "bm-ccm.io/crash", false
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: &class, AllocateLoadBalancerNodePorts: &nodePorts,
			Ports: []corev1.ServicePort{{Port: 80}},
		},
	}
	for _, f := range edit {
		f(svc)
	}
	_, err := w.kube.CoreV1().Services(namespace).Create(w.t.Context(), svc, metav1.CreateOptions{})
	return err
}

func (w *harness) delete(name string) error {
	return w.kube.CoreV1().Services(namespace).Delete(w.t.Context(), name, metav1.DeleteOptions{})
}

func families(policy corev1.IPFamilyPolicy) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.IPFamilyPolicy = &policy
		if policy == corev1.IPFamilyPolicySingleStack && len(s.Spec.IPFamilies) > 1 {
			s.Spec.IPFamilies, s.Spec.ClusterIPs = s.Spec.IPFamilies[:1], s.Spec.ClusterIPs[:1]
		}
	}
}

func asking(addrs string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		if s.Annotations == nil {
			s.Annotations = map[string]string{}
		}
		s.Annotations[v1alpha1.AnnotationAddresses] = addrs
	}
}

// ofType changes the type; the class goes and comes with it, as the API wants.
func ofType(typ corev1.ServiceType) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.Type, s.Spec.LoadBalancerClass, s.Spec.AllocateLoadBalancerNodePorts = typ, nil, nil
		if typ == corev1.ServiceTypeLoadBalancer {
			class, nodePorts := "bm-ccm.io/crash", false
			s.Spec.LoadBalancerClass, s.Spec.AllocateLoadBalancerNodePorts = &class, &nodePorts
		}
	}
}

func updating(change func(*corev1.Service)) func(*harness, string) error {
	return func(w *harness, name string) error { return w.update(name, change) }
}

// wavering asks for two families and, when that was seen, for one again.
func wavering(w *harness, name string) error {
	if err := w.update(name, families(corev1.IPFamilyPolicyRequireDualStack)); err != nil {
		return err
	}
	for range 100 {
		svc, err := w.kube.CoreV1().Services(namespace).Get(w.t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if served(svc) == nil || !w.controller.running() {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	return w.update(name, families(corev1.IPFamilyPolicySingleStack))
}

// lives are what is done to a Service; the controller dies at each write of it.
var lives = map[string][]chapter{
	"one family": {
		{"create", func(w *harness, name string) error { return w.create(name) }},
		{"ask for an address", updating(asking("198.51.100.77"))},
		{"want another family for a moment", wavering},
		{"delete", (*harness).delete},
	},
	"two families": {
		{"create", func(w *harness, name string) error {
			return w.create(name, families(corev1.IPFamilyPolicyRequireDualStack))
		}},
		{"give up a family", updating(families(corev1.IPFamilyPolicySingleStack))},
		{"change the type", updating(ofType(corev1.ServiceTypeClusterIP))},
		{"change it back, with an address", updating(func(s *corev1.Service) {
			ofType(corev1.ServiceTypeLoadBalancer)(s)
			asking("198.51.100.99")(s)
		})},
		{"delete", (*harness).delete},
	},
}

// TestEveryStep kills the controller at every write of a Service's life, before
// it and after it: no address is in a status without its record (G1), and none
// moves or is given twice (G2, G5).
func TestEveryStep(t *testing.T) {
	w := newHarness(t)
	seen := w.watch()
	for name, chapters := range lives {
		for _, when := range []moment{before, after} {
			ok := t.Run(name+"/"+string(when), func(t *testing.T) {
				w := w.with(t)
				step := 0
				for w.live(fmt.Sprintf("life-%d", step), chapters, step, when, seen) {
					if step++; step > 60 {
						t.Fatal("this life never ends")
					}
				}
				if step < 3 {
					t.Errorf("only %d writes were seen: the proxies do not stand in the way", step)
				}
				t.Logf("killed at each of %d writes", step)
			})
			if !ok {
				return // what it left would be in the way of the next
			}
		}
	}
}

// with lets helpers report to a subtest.
func (w *harness) with(t *testing.T) *harness {
	sub := *w
	sub.t = t
	return &sub
}

// live lets a Service live its life and kills the controller at one write. It
// returns false if the life had fewer writes.
func (w *harness) live(name string, chapters []chapter, step int, when moment, seen *witness) bool {
	w.t.Helper()
	w.blade.arm(step, when)
	w.start()
	for _, c := range chapters {
		if err := c.do(w, name); err != nil {
			w.t.Fatalf("%s: %v", c.name, err)
		}
		w.converge()
	}
	struck, writes := w.blade.disarm()
	if wrongs := seen.take(); len(wrongs) > 0 {
		w.t.Errorf("killed %s\nwrites: %q\n%q", struck, writes, wrongs)
	}
	if w.t.Failed() {
		w.t.FailNow()
	}
	return struck != ""
}

// converge starts the controller again whenever it is dead, until all is as it
// should be.
func (w *harness) converge() {
	w.t.Helper()
	w.convergeWithin(patience)
}

func (w *harness) convergeWithin(patience time.Duration) {
	w.t.Helper()
	begin := time.Now()
	said := begin
	for {
		if !w.controller.running() {
			w.start()
		}
		ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
		err := w.settled(ctx)
		cancel()
		switch {
		case err == nil:
			return
		case time.Since(begin) > patience:
			struck, writes := w.blade.disarm()
			w.t.Fatalf("not within %v: %v\nkilled %s\nwrites: %q", patience, err, struck, writes)
		case apierrors.IsUnauthorized(err):
			w.t.Fatal(err)
		}
		if time.Since(said) > 10*time.Second {
			said = time.Now()
			w.t.Logf("after %v: %v", said.Sub(begin).Round(time.Second), err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
