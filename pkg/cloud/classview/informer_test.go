// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package classview

import (
	"sync"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/cache"

	"github.com/bm-ccm/bm-ccm/pkg/cloud/service"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/service/servicetest"
)

// upstream stands for the service controller: it notes which load balancers its
// handlers were handed.
type upstream struct {
	mu    sync.Mutex
	added []string
}

func (u *upstream) OnAdd(obj any, _ bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if svc := obj.(*corev1.Service); service.IsLoadBalancer(svc) {
		u.added = append(u.added, svc.Name)
	}
}
func (u *upstream) OnUpdate(_, cur any) { u.OnAdd(cur, false) }
func (u *upstream) OnDelete(any)        {}

func (u *upstream) take() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := u.added
	u.added = nil
	return out
}

// The default class comes and goes under a running informer: the Services that
// name no class are shown or hidden, all others are left alone, and so are those
// that had their address from it.
func TestDefaultComesAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		named := func(name string) servicetest.Edit {
			return func(s *corev1.Service) { s.Name, s.UID = name, "" }
		}
		waiting := servicetest.Live("", named("waiting"), func(s *corev1.Service) { s.Status.LoadBalancer.Ingress = nil })
		assigned := servicetest.Live("", named("assigned"))
		assigned.UID = "uid-assigned"
		client := fake.NewClientset(waiting, assigned, servicetest.Live(servicetest.Class, named("ours")), servicetest.Live("example.com/lb", named("foreign")))
		s := NewServices(client, New(false, nil))
		var u upstream
		if _, err := s.Informer().AddEventHandler(&u); err != nil {
			t.Fatal(err)
		}
		go s.Run(t.Context())
		if !cache.WaitForCacheSync(t.Context().Done(), s.Informer().HasSynced) {
			t.Fatal("not synced")
		}
		want := func(step string, shown []string, handed int) {
			t.Helper()
			synctest.Wait()
			if got := len(u.take()); got != handed {
				t.Errorf("%s: %d load balancers were handed over, want %d", step, got, handed)
			}
			for _, name := range []string{"waiting", "assigned", "ours", "foreign"} {
				expected := false
				for _, n := range shown {
					expected = expected || n == name
				}
				svc, ok := s.Get("default/" + name)
				listed, err := s.Lister().Services("default").Get(name)
				if err != nil || !ok || service.IsLoadBalancer(svc) != expected || service.IsLoadBalancer(listed) != expected {
					t.Errorf("%s: %s is shown: %v, want %v", step, name, !expected, expected)
				}
			}
			count := 0
			all, err := s.Lister().List(labels.Everything())
			for _, svc := range all {
				if service.IsLoadBalancer(svc) {
					count++
				}
			}
			if err != nil || count != len(shown) || len(s.InNamespace("default")) != 4 {
				t.Errorf("%s: %d are listed, %v", step, count, err)
			}
		}
		want("at first", []string{"ours"}, 1)
		s.SetDefault(true, nil)
		want("a default", []string{"waiting", "assigned", "ours"}, 2)
		s.SetDefault(true, nil)
		want("still a default", []string{"waiting", "assigned", "ours"}, 0)
		s.SetDefault(false, pools("192.0.2.0/28"))
		want("none any more", []string{"assigned", "ours"}, 1)
	})
}
