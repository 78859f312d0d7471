// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

const (
	// ledgerPeriod is how often claims and Services are compared. Upstream
	// never looks at a Service again by itself.
	ledgerPeriod = 5 * time.Minute
	// orphanGrace is how long a claim must have had no Service before it is
	// freed: long enough for a restore of etcd, or of a deleted namespace by
	// GitOps, to bring the Service back to its address.
	orphanGrace = 10 * time.Minute
)

// ledger compares the records of claims with the live Services: it frees what
// belongs to no Service any more (another controller removed the shared
// finalizer, or the Service changed hands while we were down), and has a status
// written again that somebody wiped.
type ledger struct {
	allocator ipam.Allocator
	client    kubernetes.Interface
	services  serviceInformer
	now       func() time.Time
	// orphanSince tells since when a claim has been without a Service.
	orphanSince map[ipam.Key]time.Time
}

func newLedger(allocator ipam.Allocator, client kubernetes.Interface, services serviceInformer) *ledger {
	return &ledger{allocator: allocator, client: client, services: services, now: time.Now, orphanSince: map[ipam.Key]time.Time{}}
}

// run compares now and every ledgerPeriod, until ctx ends.
func (l *ledger) run(ctx context.Context) {
	ticker := time.NewTicker(ledgerPeriod)
	defer ticker.Stop()
	for {
		if err := l.compare(ctx); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Cannot compare claims with Services, trying again later", "period", ledgerPeriod)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// onServiceChange has a status that somebody wiped written again at once.
func (l *ledger) onServiceChange() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{UpdateFunc: func(old, cur any) {
		before, after := old.(*corev1.Service), cur.(*corev1.Service)
		if isServed(before) && isServed(after) && len(after.Status.LoadBalancer.Ingress) < len(before.Status.LoadBalancer.Ingress) {
			l.services.replay(serviceKey(after))
		}
	}}
}

// compare does one round.
func (l *ledger) compare(ctx context.Context) error {
	claims, err := l.allocator.List(ctx)
	if err != nil {
		return fmt.Errorf("listing the claims of this cluster: %w", err)
	}
	live := map[string]*corev1.Service{}
	for _, svc := range l.services.list() {
		if svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
			live[serviceKey(svc)] = svc
		}
	}
	for _, key := range l.orphans(claims, live) {
		if err := l.free(ctx, key); err != nil {
			klog.FromContext(ctx).Error(err, "Cannot free an orphaned claim, trying again later", "claim", key)
		}
	}
	for _, key := range drifted(claims, live) {
		l.services.replay(key)
	}
	return nil
}

// orphans returns the claims that have been without a Service for long enough.
func (l *ledger) orphans(claims []ipam.Claim, live map[string]*corev1.Service) []ipam.Key {
	since := make(map[ipam.Key]time.Time)
	var due []ipam.Key
	for _, c := range claims {
		if _, ok := live[holderKey(c.Key)]; ok {
			continue
		}
		first, seen := l.orphanSince[c.Key]
		if !seen {
			first = l.now()
		}
		since[c.Key] = first
		if l.now().Sub(first) >= orphanGrace {
			due = append(due, c.Key)
		}
	}
	l.orphanSince = since
	return due
}

// free releases an orphaned claim, after the API server itself has said that
// there is no Service for it: the cache may be behind.
func (l *ledger) free(ctx context.Context, key ipam.Key) error {
	svc, err := l.client.CoreV1().Services(key.Namespace).Get(ctx, key.Service, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return fmt.Errorf("asking for Service %s/%s: %w", key.Namespace, key.Service, err)
	case svc.Spec.Type == corev1.ServiceTypeLoadBalancer && l.servedInCache(svc):
		return nil // it is back, or was never gone
	}
	if err := l.allocator.Release(ctx, key); err != nil {
		return fmt.Errorf("releasing: %w", err)
	}
	klog.FromContext(ctx).Info("Freed a claim whose Service is gone", "claim", key)
	return nil
}

// servedInCache tells whether a load balancer Service is ours by the class view;
// one that the cache does not know yet is taken to be.
func (l *ledger) servedInCache(svc *corev1.Service) bool {
	obj, ok, err := l.services.GetStore().GetByKey(serviceKey(svc))
	return err != nil || !ok || obj.(*corev1.Service).Spec.Type == corev1.ServiceTypeLoadBalancer
}

// drifted returns the served Services whose status lacks an address that is
// recorded as theirs, or holds one that is not.
func drifted(claims []ipam.Claim, live map[string]*corev1.Service) []string {
	recorded := map[string]map[netip.Addr]bool{}
	for _, c := range claims {
		key := holderKey(c.Key)
		if recorded[key] == nil {
			recorded[key] = map[netip.Addr]bool{}
		}
		recorded[key][c.Addr] = true
	}
	var out []string
	for key, svc := range live {
		if isServed(svc) && !sameAddrs(svc, recorded[key]) {
			out = append(out, key)
		}
	}
	return out
}

func sameAddrs(svc *corev1.Service, want map[netip.Addr]bool) bool {
	if len(svc.Status.LoadBalancer.Ingress) != len(want) {
		return false
	}
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(in.IP); err != nil || !want[a] {
			return false
		}
	}
	return true
}
