// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package drift

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/bm-ccm/bm-ccm/pkg/cloud/service"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/trigger"
)

const (
	// period is how often claims and Services are compared. Upstream never looks
	// at a Service again by itself.
	period = 5 * time.Minute
	// pause is the least time between two comparisons, where one is asked for
	// before its time.
	pause = 5 * time.Second
	// orphanGrace is how long a claim must have had no Service before it is
	// freed: long enough for a restore of etcd, or of a deleted namespace by
	// GitOps, to bring the Service back to its address.
	orphanGrace = 10 * time.Minute
)

// Claims is what a Reconciler needs of the store of claims.
type Claims interface {
	// Audit is that of ipam.Records.
	Audit(ctx context.Context, pools []ipam.Pool) (ipam.Report, error)
	// Release is that of ipam.Claims.
	Release(ctx context.Context, key ipam.Key) error
}

// Services is what a Reconciler needs of the informer of Services.
type Services interface {
	List() []*corev1.Service
	Get(key string) (svc *corev1.Service, ok bool)
	// Requeue has a Service tried again.
	Requeue(key string) bool
}

// Objects is what a Reconciler needs to know of classes and pools.
type Objects interface {
	// Pools returns all pools with the addresses that they have now.
	Pools(ctx context.Context) []ipam.Pool
	// DefaultClass returns the name of the class of Services that name none; ""
	// for none.
	DefaultClass() string
}

// Groups remember which address is shared.
type Groups interface {
	// Learn takes all claims of the cluster.
	Learn(claims []ipam.Claim)
	// Lock gives the caller a group to itself, until unlock is called.
	Lock(ctx context.Context, groups ...service.Group) (unlock func(), err error)
	// NoteReleased is told that a group has no address of a family any more.
	NoteReleased(g service.Group, family ipam.Family)
}

// Options are the parts that a Reconciler works with. All must be set.
type Options struct {
	// Trigger asks for a comparison before its time.
	Trigger *trigger.Trigger

	Claims   Claims
	Client   kubernetes.Interface
	Objects  Objects
	Services Services
	Groups   Groups
	// ReportServices takes what is wrong with each Service, of all that there are.
	ReportServices func(ctx context.Context, services []*corev1.Service, found map[types.UID][]ipam.Finding)
	// ReportPools takes what is wrong with the addresses of each pool.
	ReportPools func(map[string][]string)
}

// Reconciler compares the records of claims with the live Services: it frees
// what belongs to no Service any more (another controller removed the shared
// finalizer, or the Service changed hands while we were down), has a status
// written again that somebody wiped, and reports inconsistent records. Those it
// never sets right by itself.
type Reconciler struct {
	Options
	now func() time.Time
	// orphanSince has since when a claim has been without a Service.
	orphanSince map[ipam.Key]time.Time
	// logged are the texts of what concerns no Service, so that each is logged once.
	logged map[string]bool
}

// NewReconciler returns a reconciler that has not compared anything yet.
func NewReconciler(o Options) *Reconciler {
	return &Reconciler{Options: o, now: time.Now, orphanSince: map[ipam.Key]time.Time{}, logged: map[string]bool{}}
}

// Run compares now and then every few minutes, until ctx ends.
func (r *Reconciler) Run(ctx context.Context) {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		if err := r.compare(ctx); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Cannot compare claims with Services, trying again later", "period", period)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-r.Trigger.C():
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause): // others may follow; and what was changed shall be seen
			}
		}
	}
}

// Handler has a Service tried again that upstream sees no reason to: one that
// shares an address and now has other endpoints, and one whose status has lost an
// address. Either somebody wiped it, or it moved: then NetBox still has the
// former one, which is released only when no status names it.
func (r *Reconciler) Handler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{UpdateFunc: func(old, cur any) {
		before, after := old.(*corev1.Service), cur.(*corev1.Service)
		if !service.IsServed(before) || !service.IsServed(after) {
			return
		}
		remain := service.Addrs(after)
		lost := slices.ContainsFunc(service.Addrs(before), func(a netip.Addr) bool { return !slices.Contains(remain, a) })
		_, shares := service.GroupOf(after)
		if lost || shares && !maps.Equal(before.Spec.Selector, after.Spec.Selector) {
			r.Services.Requeue(service.Key(after))
		}
	}}
}

// compare does one round.
func (r *Reconciler) compare(ctx context.Context) error {
	pools := r.Objects.Pools(ctx)
	report, err := r.Claims.Audit(ctx, pools)
	if err != nil {
		return fmt.Errorf("reading the records of claims: %w", err)
	}
	r.Groups.Learn(report.Claims)
	services := r.Services.List()
	findings := Find(report, services, r.Objects.DefaultClass())
	count(report, findings)
	for _, orphan := range r.dueOrphans(findings) {
		if err := r.Free(ctx, orphan); err != nil {
			klog.FromContext(ctx).Error(err, "Cannot free an orphaned claim, trying again later", "claim", orphan.Key)
		}
	}
	for _, f := range findings {
		if f.Kind == ipam.Unrecorded || f.Kind == ipam.Drifted || f.Kind == ipam.Moved {
			r.Services.Requeue(cache.ObjectName{Namespace: f.Namespace, Name: f.Name}.String())
		}
	}
	r.report(ctx, report.Findings, services, pools)
	return nil
}

// dueOrphans returns the orphans that have been without a Service for long
// enough. The time of those that are none any more is forgotten.
func (r *Reconciler) dueOrphans(findings []ipam.Finding) []ipam.Finding {
	since := make(map[ipam.Key]time.Time)
	var due []ipam.Finding
	for _, f := range findings {
		if f.Kind != ipam.Orphan {
			continue
		}
		first, seen := r.orphanSince[f.Key]
		if !seen {
			first = r.now()
		}
		since[f.Key] = first
		if r.now().Sub(first) >= orphanGrace {
			due = append(due, f)
		}
	}
	r.orphanSince = since
	return due
}

// Free releases an orphaned claim, after the API server itself has said that
// there is no Service for it: the cache may be behind, and so may the class view.
func (r *Reconciler) Free(ctx context.Context, orphan ipam.Finding) error {
	group, shared := service.GroupOfClaim(orphan.Key)
	if shared {
		unlock, err := r.Groups.Lock(ctx, group)
		if err != nil {
			return err
		}
		defer unlock()
	}
	list, err := r.Client.CoreV1().Services(orphan.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("asking for the Services of namespace %s: %w", orphan.Namespace, err)
	}
	for i := range list.Items {
		svc := &list.Items[i]
		if !service.IsLoadBalancer(svc) {
			continue
		}
		// Whatever Service has the address keeps it, whoever serves that Service.
		if slices.Contains(service.Addrs(svc), orphan.Addr) || service.Claimant(svc) == service.ClaimantOf(orphan.Key) && r.isShown(svc) {
			return nil // it is back, or was never gone
		}
	}
	if err := r.Claims.Release(ctx, orphan.Key); err != nil {
		return fmt.Errorf("releasing claim %s: %w", orphan.Key, err)
	}
	if shared {
		r.Groups.NoteReleased(group, orphan.Key.Family)
	}
	orphansFreed.Inc()
	klog.FromContext(ctx).Info("Freed a claim whose Service is gone", "claim", orphan.Key, "address", orphan.Addr)
	return nil
}

// isShown reports whether a load balancer Service is ours by the class view; one
// that the cache does not know yet is taken to be.
func (r *Reconciler) isShown(svc *corev1.Service) bool {
	shown, ok := r.Services.Get(service.Key(svc))
	return !ok || service.IsLoadBalancer(shown)
}

// report says what is wrong with the records where it is looked for: on the
// Services and on the pools that it concerns.
func (r *Reconciler) report(ctx context.Context, findings []ipam.Finding, services []*corev1.Service, pools []ipam.Pool) {
	byService, byPool := map[types.UID][]ipam.Finding{}, map[string][]string{}
	logged := map[string]bool{}
	for _, f := range findings {
		concerned := concernedServices(f, services)
		for _, svc := range concerned {
			byService[svc.UID] = append(byService[svc.UID], f)
		}
		for _, name := range concernedPools(f, pools) {
			byPool[name] = append(byPool[name], f.Text)
		}
		logged[f.Text] = true
		if len(concerned) == 0 && !r.logged[f.Text] {
			klog.FromContext(ctx).Info("Inconsistent IPAM records", "kind", f.Kind, "problem", f.Text)
		}
	}
	r.logged = logged
	r.ReportServices(ctx, services, byService)
	r.ReportPools(byPool)
}
