// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

const (
	// ledgerPeriod is how often claims and Services are compared. Upstream
	// never looks at a Service again by itself.
	ledgerPeriod = 5 * time.Minute
	// ledgerPause is the least time between two comparisons, where one is asked
	// for before its time.
	ledgerPause = 5 * time.Second
	// orphanGrace is how long a claim must have had no Service before it is
	// freed: long enough for a restore of etcd, or of a deleted namespace by
	// GitOps, to bring the Service back to its address.
	orphanGrace = 10 * time.Minute
)

// ledger compares the records of claims with the live Services: it frees what
// belongs to no Service any more (another controller removed the shared
// finalizer, or the Service changed hands while we were down), has a status
// written again that somebody wiped, and says where the record contradicts
// itself. That it never sets right by itself.
type ledger struct {
	allocator ipam.Allocator
	client    kubernetes.Interface
	objects   objectLister
	services  serviceInformer
	groups    *groups
	conflicts *conflicts
	// tellPools takes what is wrong with the addresses of each pool.
	tellPools func(map[string][]string)
	now       func() time.Time
	signal    chan struct{}
	// orphanSince tells since when a claim has been without a Service.
	orphanSince map[ipam.Key]time.Time
	// logged are the texts of what concerns no Service, so that each is logged once.
	logged map[string]bool
}

// objectLister is what the ledger needs to know of classes and pools.
type objectLister interface {
	poolObjects() []*v1alpha1.AddressPool
	defaultClass() *v1alpha1.LoadBalancerClass
}

func newLedger(p *Provider, services serviceInformer, status *statusWriter) *ledger {
	return &ledger{
		allocator: p.balancer.allocator, client: p.client, objects: p.objects, services: services,
		groups: &p.balancer.groups, conflicts: &p.balancer.conflicts, tellPools: status.setConflicts,
		now: time.Now, signal: make(chan struct{}, 1), orphanSince: map[ipam.Key]time.Time{}, logged: map[string]bool{},
	}
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
		case <-l.signal:
			select {
			case <-ctx.Done():
				return
			case <-time.After(ledgerPause): // others may follow; and what was changed shall be seen
			}
		}
	}
}

// soon asks for a comparison before its time.
func (l *ledger) soon() {
	select {
	case l.signal <- struct{}{}:
	default: // one is due already
	}
}

// onServiceChange has a Service tried again that upstream sees no reason to:
// one that shares an address and now has other endpoints, and one whose status
// has lost an address. Either somebody wiped it, or it moved: then NetBox still
// has the former one, which is let go only when no status names it.
func (l *ledger) onServiceChange() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{UpdateFunc: func(old, cur any) {
		before, after := old.(*corev1.Service), cur.(*corev1.Service)
		if !isServed(before) || !isServed(after) {
			return
		}
		remain := statusAddrs(after)
		lost := slices.ContainsFunc(statusAddrs(before), func(a netip.Addr) bool { return !slices.Contains(remain, a) })
		moved := sharingKey(after) != "" && !maps.Equal(before.Spec.Selector, after.Spec.Selector)
		if lost || moved {
			l.services.replay(serviceKey(after))
		}
	}}
}

// compare does one round.
func (l *ledger) compare(ctx context.Context) error {
	pools := resolvePools(ctx, l.allocator, l.objects.poolObjects())
	report, err := l.allocator.Audit(ctx, pools)
	if err != nil {
		return fmt.Errorf("reading the record of claims: %w", err)
	}
	l.groups.learn(report.Claims, true)
	services := l.services.list()
	defaultClass := ""
	if c := l.objects.defaultClass(); c != nil {
		defaultClass = c.Name
	}
	differences := Differences(report, services, defaultClass)
	countDifferences(report, differences)
	for _, orphan := range l.due(differences) {
		if err := l.free(ctx, orphan); err != nil {
			klog.FromContext(ctx).Error(err, "Cannot free an orphaned claim, trying again later", "claim", orphan.Key)
		}
	}
	for _, d := range differences {
		switch d.Kind {
		case Unrecorded, Drifted, Moved:
			l.services.replay(d.Namespace + "/" + d.Name)
		}
	}
	l.report(ctx, report.Findings, services, pools)
	return nil
}

// due returns the orphans that have been without a Service for long enough.
func (l *ledger) due(differences []Difference) []Difference {
	since := make(map[ipam.Key]time.Time)
	var due []Difference
	for _, d := range differences {
		if d.Kind != Orphan {
			continue
		}
		first, seen := l.orphanSince[d.Key]
		if !seen {
			first = l.now()
		}
		since[d.Key] = first
		if l.now().Sub(first) >= orphanGrace {
			due = append(due, d)
		}
	}
	l.orphanSince = since
	return due
}

// free releases an orphaned claim, after the API server itself has said that
// there is no Service for it: the cache may be behind.
func (l *ledger) free(ctx context.Context, orphan Difference) error {
	key, shared := orphan.Key.Group()
	id := groupID{orphan.Namespace, key}
	if shared {
		defer l.groups.lock(id)()
	}
	list, err := l.client.CoreV1().Services(orphan.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("asking for the Services of namespace %s: %w", orphan.Namespace, err)
	}
	for i := range list.Items {
		svc := &list.Items[i]
		if svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
			continue
		}
		// Who has the address keeps it, whoever serves that Service.
		if slices.Contains(statusAddrs(svc), orphan.Addr) || claimant(svc) == holderKey(orphan.Key) && l.servedInCache(svc) {
			return nil // it is back, or was never gone
		}
	}
	if err := l.allocator.Release(ctx, orphan.Key); err != nil {
		return fmt.Errorf("releasing: %w", err)
	}
	if shared {
		l.groups.emptied(id, orphan.Key.Family)
	}
	orphansFreed.Inc()
	klog.FromContext(ctx).Info("Freed a claim whose Service is gone", "claim", orphan.Key, "address", orphan.Addr)
	return nil
}

// servedInCache tells whether a load balancer Service is ours by the class view;
// one that the cache does not know yet is taken to be.
func (l *ledger) servedInCache(svc *corev1.Service) bool {
	obj, ok, err := l.services.GetStore().GetByKey(serviceKey(svc))
	return err != nil || !ok || obj.(*corev1.Service).Spec.Type == corev1.ServiceTypeLoadBalancer
}

// report says what is wrong with the record where it is looked for: on the
// Services and on the pools that it concerns.
func (l *ledger) report(ctx context.Context, findings []ipam.Finding, services []*corev1.Service, pools []ipam.Pool) {
	byService, byPool := map[types.UID]conflict{}, map[string][]string{}
	logged := map[string]bool{}
	for _, f := range findings {
		concerned := concernedServices(f, services)
		for _, svc := range concerned {
			byService[svc.UID] = byService[svc.UID].with(f)
		}
		for _, name := range concernedPools(f, pools) {
			byPool[name] = append(byPool[name], f.Text)
		}
		logged[f.Text] = true
		if len(concerned) == 0 && !l.logged[f.Text] {
			klog.FromContext(ctx).Info("The record of claims contradicts itself", "kind", f.Kind, "problem", f.Text)
		}
	}
	l.logged = logged
	l.conflicts.compared(ctx, services, byService)
	l.tellPools(byPool)
}

// with adds a finding to a conflict. The first one gives the reason.
func (c conflict) with(f ipam.Finding) conflict {
	if c.message == "" {
		return conflict{reason: reasonOf(f.Kind), message: f.Text}
	}
	return conflict{reason: c.reason, message: c.message + "; " + f.Text}
}

// reasonOf turns the label of a metric into the reason of a condition:
// "duplicate-claim" becomes "DuplicateClaim".
func reasonOf(kind ipam.FindingKind) string {
	var b strings.Builder
	for word := range strings.SplitSeq(string(kind), "-") {
		if word != "" {
			b.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}
	return b.String()
}

// concernedServices returns the Services whose claim or address a finding is about.
func concernedServices(f ipam.Finding, services []*corev1.Service) []*corev1.Service {
	var out []*corev1.Service
	for _, svc := range services {
		claims := f.Key != ipam.Key{} && claimant(svc) == holderKey(f.Key)
		has := f.Addr.IsValid() && slices.Contains(statusAddrs(svc), f.Addr)
		if isServed(svc) && (claims || has) {
			out = append(out, svc)
		}
	}
	return out
}

// concernedPools returns the pools whose addresses a finding is about: those
// that hold the address, or all in NetBox where it is about the cluster.
func concernedPools(f ipam.Finding, pools []ipam.Pool) []string {
	var out []string
	for _, p := range pools {
		if p.NetBox() && (f.Kind == ipam.SameClusterName || f.Addr.IsValid() && p.Contains(f.Addr)) {
			out = append(out, p.Name)
		}
	}
	return out
}
