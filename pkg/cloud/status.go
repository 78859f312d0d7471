// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"

	"github.com/bm-ccm/bm-ccm/pkg/api/client"
	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/assign"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/service"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/trigger"
)

// The reasons of the conditions of AddressPools and LoadBalancerClasses. Where one
// says that something is wrong, it is the reason of a Warning Event as well.
const (
	// reasonAddressesResolved: Ready, the addresses of the pool are known.
	reasonAddressesResolved = "AddressesResolved"
	// reasonReachable: NetBox answers.
	reasonReachable = "Reachable"
	// reasonNetBoxUnavailable: NetBox does not answer, or not in time. Services
	// that have an address keep it, new ones wait. The message says what was asked.
	reasonNetBoxUnavailable = "NetBoxUnavailable"
	// reasonInvalid: the object cannot work as it is written, or names something
	// that does not exist. The message names the field and the fix.
	reasonInvalid = "Invalid"
	// reasonAddressesFree: the pool is not exhausted.
	reasonAddressesFree = "AddressesFree"
	// reasonNoAddressFree: an IP family of the pool has no address left. Add
	// addresses to the pool, or another pool to the class.
	reasonNoAddressFree = "NoAddressFree"
	// reasonPoolsFound: the class can serve Services.
	reasonPoolsFound = "PoolsFound"
	// reasonFoundInNetBox: the records of some addresses of the pool are
	// inconsistent. The message says which, and what to correct in NetBox.
	reasonFoundInNetBox = "FoundInNetBox"
)

const (
	// statusPause is the least time between two rounds of status writes. Under
	// a backlog of thousands of Services it keeps the writes for pools and
	// classes below one per cent of those for Services.
	statusPause = 5 * time.Second
	// statusPeriod is how often usage is counted when nothing changes here: in
	// NetBox, others take addresses too.
	statusPeriod = time.Minute
	// unreadyPeriod is the same while a pool is not ready: Services may wait
	// for it, and are woken when it is.
	unreadyPeriod = 10 * time.Second
)

// poolStore is what a statusWriter needs of the stores of claims.
type poolStore interface {
	resolver
	// Usage is that of ipam.Pools.
	Usage(ctx context.Context, p ipam.Pool) (map[ipam.Family]ipam.Usage, error)
}

// statusWriter keeps the status of AddressPools and LoadBalancerClasses.
type statusWriter struct {
	api      *client.Client
	objects  *objects
	store    poolStore
	services func() []*corev1.Service
	recorder record.EventRecorder
	trigger  *trigger.Trigger
	// netboxUnavailable is set when NetBox did not answer somebody.
	netboxUnavailable *atomic.Bool
	// away says whether NetBox did not answer in this round; lastAgain is when it
	// was last found to do so again.
	away      bool
	lastAgain time.Time
	// recovered is called when a pool has become ready, or NetBox answers again.
	recovered func()
	// unready has the pools that were not ready when last looked at.
	unready map[string]bool
	// found has the addresses that NetBox had for a pool when last looked at.
	found map[string][]netipx.IPRange

	mu sync.Mutex
	// conflicts is what drift found wrong with each pool; nil until it has looked.
	conflicts map[string][]string
}

// setConflicts takes what is wrong with the addresses of each pool.
func (w *statusWriter) setConflicts(byPool map[string][]string) {
	w.mu.Lock()
	w.conflicts = byPool
	w.mu.Unlock()
	w.trigger.Fire()
}

// conflictsOf returns what is wrong with a pool; known is false while nobody
// has looked.
func (w *statusWriter) conflictsOf(pool string) (texts []string, known bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.conflicts[pool], w.conflicts != nil
}

// handler asks for a round when the addresses of a Service change.
func (w *statusWriter) handler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		DeleteFunc: func(any) { w.trigger.Fire() },
		UpdateFunc: func(old, cur any) {
			before, after := old.(*corev1.Service).Status.LoadBalancer, cur.(*corev1.Service).Status.LoadBalancer
			if !apiequality.Semantic.DeepEqual(before, after) {
				w.trigger.Fire()
			}
		},
	}
}

// run writes until ctx ends.
func (w *statusWriter) run(ctx context.Context) {
	for {
		w.round(ctx)
		select {
		case <-ctx.Done():
			return
		case <-time.After(statusPause):
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(w.period()):
		case <-w.trigger.C():
		}
	}
}

// period is the time to the next round if nothing changes here.
func (w *statusWriter) period() time.Duration {
	if len(w.unready) > 0 {
		return unreadyPeriod
	}
	return statusPeriod
}

// round looks at every pool and class once. An error is logged and the next round
// tries again: a status is for people, nothing here decides by it.
func (w *statusWriter) round(ctx context.Context) {
	unavailable := w.netboxUnavailable.Swap(false)
	w.away = false
	w.forgetGone()
	for _, pool := range w.objects.pools.List() {
		if err := w.writePool(ctx, pool); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Cannot write the status of an AddressPool", "pool", pool.Name)
		}
	}
	counts := w.countServices()
	for _, class := range w.objects.classes.List() {
		if err := w.writeClass(ctx, class, counts[class.Name]); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Cannot write the status of a LoadBalancerClass", "class", class.Name)
		}
	}
	if unavailable && !w.answersAgain() {
		w.netboxUnavailable.Store(true)
	}
}

// answersAgain has those tried again whom NetBox gave no answer, if it answered
// in this round: it was away for too short a time for a pool to become unready.
// Once a minute is enough; a NetBox that answers only questions would have them
// all fail again each time.
func (w *statusWriter) answersAgain() bool {
	if w.away || time.Since(w.lastAgain) < statusPeriod {
		return false
	}
	w.lastAgain = time.Now()
	w.recovered()
	return true
}

// forgetGone drops what is known of pools that are gone.
func (w *statusWriter) forgetGone() {
	gone := func(name string) bool {
		_, exists := w.objects.pools.Get(name)
		return !exists
	}
	maps.DeleteFunc(w.unready, func(name string, _ bool) bool { return gone(name) })
	for name := range w.found {
		if gone(name) {
			delete(w.found, name)
			forgetPool(name)
		}
	}
}

// writePool counts a pool and writes what has changed.
func (w *statusWriter) writePool(ctx context.Context, pool *v1alpha1.AddressPool) error {
	named := ipam.NewPool(pool)
	// Counting looks at NetBox anew, and Resolve knows what it saw.
	usage, problem := w.store.Usage(ctx, named)
	p := resolve(ctx, w.store, named)
	if ctx.Err() != nil {
		return nil //nolint:nilerr // shutting down says nothing about the pool
	}
	w.away = w.away || assign.IsUnavailable(problem)
	w.noteReady(pool.Name, problem == nil)
	if p.Problem == nil {
		w.noteFound(p)
	}
	if usage != nil {
		countPool(pool.Name, usage)
	}
	want := pool.DeepCopy()
	want.Status = poolStatus(pool, usage, problem)
	if texts, known := w.conflictsOf(pool.Name); known {
		setConflict(&want.Status, texts, pool.Generation)
	}
	if apiequality.Semantic.DeepEqual(want.Status, pool.Status) {
		return nil
	}
	w.recordEvents(want, pool.Status.Conditions, want.Status.Conditions)
	_, err := w.api.Pools.UpdateStatus(ctx, want, metav1.UpdateOptions{})
	return ignoreRace(err)
}

// noteFound remembers what NetBox has for a pool, and tells when that has
// changed: who waits may find an address now.
func (w *statusWriter) noteFound(p ipam.Pool) {
	before, known := w.found[p.Name]
	w.found[p.Name] = p.Found
	if known && !slices.Equal(before, p.Found) {
		w.recovered()
	}
}

// conflictsShown is how many conflicts the condition of a pool lists.
const conflictsShown = 5

// setConflict brings the condition Conflict up to date. A pool that never had a
// conflict has no such condition.
func setConflict(s *v1alpha1.AddressPoolStatus, texts []string, generation int64) {
	c := condition(v1alpha1.ConditionConflict, false, reasonResolved, "NetBox's records of these addresses agree")
	if len(texts) > 0 {
		shown := slices.Clone(texts[:min(len(texts), conflictsShown)])
		if more := len(texts) - len(shown); more > 0 {
			shown = append(shown, fmt.Sprintf("and %d more", more))
		}
		c = condition(v1alpha1.ConditionConflict, true, reasonFoundInNetBox, truncate(strings.Join(shown, "; "), conflictsShown*maxConditionMessage))
	} else if meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionConflict) == nil {
		return
	}
	c.ObservedGeneration = generation
	meta.SetStatusCondition(&s.Conditions, c)
}

// noteReady remembers whether a pool is ready, and tells when it has become so.
func (w *statusWriter) noteReady(pool string, ready bool) {
	if !ready {
		w.unready[pool] = true
		return
	}
	if w.unready[pool] {
		delete(w.unready, pool)
		w.recovered()
	}
}

// poolStatus is the status of a pool after it was counted; problem is why it
// could not be.
func poolStatus(pool *v1alpha1.AddressPool, usage map[ipam.Family]ipam.Usage, problem error) v1alpha1.AddressPoolStatus {
	s := *pool.Status.DeepCopy()
	s.Source = "inline"
	if pool.Spec.NetBox != nil {
		s.Source = "netbox"
	}
	if usage != nil { // with a problem, of the rest of the pool
		s.IPv4, s.IPv6 = count(usage, ipam.IPv4), count(usage, ipam.IPv6)
	}
	for _, c := range poolConditions(pool, usage, problem) {
		c.ObservedGeneration = pool.Generation
		meta.SetStatusCondition(&s.Conditions, c)
	}
	return s
}

// count is nil for a family that the pool has no addresses of, so that `kubectl
// get` shows nothing rather than zeros.
func count(usage map[ipam.Family]ipam.Usage, f ipam.Family) *v1alpha1.AddressCount {
	u, ok := usage[f]
	if !ok {
		return nil
	}
	return &v1alpha1.AddressCount{Capacity: u.Capacity, Used: u.Used, Free: u.Free}
}

// poolConditions are those that follow from counting. NetBoxReachable is not for
// pools without NetBox, Exhausted not for those that could not be counted.
func poolConditions(pool *v1alpha1.AddressPool, usage map[ipam.Family]ipam.Usage, problem error) []metav1.Condition {
	ready := condition(v1alpha1.ConditionReady, true, reasonAddressesResolved, "the pool's addresses are known")
	reachable := condition(v1alpha1.ConditionNetBoxReachable, true, reasonReachable, "NetBox answers")
	switch {
	case assign.IsUnavailable(problem):
		ready = condition(v1alpha1.ConditionReady, false, reasonNetBoxUnavailable, problem.Error())
		reachable = condition(v1alpha1.ConditionNetBoxReachable, false, reasonNetBoxUnavailable, problem.Error())
	case problem != nil:
		ready = condition(v1alpha1.ConditionReady, false, reasonInvalid, problem.Error())
	}
	out := []metav1.Condition{ready}
	if pool.Spec.NetBox != nil {
		out = append(out, reachable)
	}
	if usage != nil {
		out = append(out, exhausted(pool.Name, usage))
	}
	return out
}

// exhausted reports whether a family of the pool has no address left.
func exhausted(pool string, usage map[ipam.Family]ipam.Usage) metav1.Condition {
	var full []string
	for family, u := range usage {
		if u.Free == 0 {
			full = append(full, string(family))
		}
	}
	if len(full) == 0 {
		return condition(v1alpha1.ConditionExhausted, false, reasonAddressesFree, "addresses are free")
	}
	slices.Sort(full)
	return condition(v1alpha1.ConditionExhausted, true, reasonNoAddressFree,
		fmt.Sprintf("no %s address is free: add addresses to pool %q, or another pool to the class", strings.Join(full, " and no "), pool))
}

func condition(kind string, holds bool, reason, message string) metav1.Condition {
	status := metav1.ConditionFalse
	if holds {
		status = metav1.ConditionTrue
	}
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message}
}

// countServices counts the Services that have an address, by class.
func (w *statusWriter) countServices() map[string]int32 {
	counts := map[string]int32{}
	for _, svc := range w.services() {
		if !service.IsServed(svc) || len(svc.Status.LoadBalancer.Ingress) == 0 {
			continue
		}
		if class, err := w.objects.classOf(svc); err == nil {
			counts[class.Name]++
		}
	}
	return counts
}

// writeClass writes what has changed of a class.
func (w *statusWriter) writeClass(ctx context.Context, class *v1alpha1.LoadBalancerClass, services int32) error {
	want := class.DeepCopy()
	want.Status.Services = services
	ready := condition(v1alpha1.ConditionReady, true, reasonPoolsFound, "the class can serve Services")
	if problem := w.classProblem(class); problem != "" {
		ready = condition(v1alpha1.ConditionReady, false, reasonInvalid, problem)
	}
	ready.ObservedGeneration = class.Generation
	meta.SetStatusCondition(&want.Status.Conditions, ready)
	if apiequality.Semantic.DeepEqual(want.Status, class.Status) {
		return nil
	}
	w.recordEvents(want, class.Status.Conditions, want.Status.Conditions)
	_, err := w.api.Classes.UpdateStatus(ctx, want, metav1.UpdateOptions{})
	return ignoreRace(err)
}

// classProblem says what keeps a class from serving Services; "" for nothing.
func (w *statusWriter) classProblem(class *v1alpha1.LoadBalancerClass) string {
	if class.Spec.Default && assign.DefaultClass(w.objects.classes.List()) == nil {
		return "spec.default is true on more than one LoadBalancerClass, so none is the default: leave it on one"
	}
	for i, name := range class.Spec.Pools {
		if _, ok := w.objects.pools.Get(name); !ok {
			return fmt.Sprintf("spec.pools[%d] is %q, but there is no such AddressPool: create it or take it off the list", i, name)
		}
	}
	return ""
}

// recordEvents writes an Event for each condition that has turned bad or good again.
func (w *statusWriter) recordEvents(obj runtime.Object, before, after []metav1.Condition) {
	for _, c := range after {
		old := meta.FindStatusCondition(before, c.Type)
		good := c.Status == metav1.ConditionTrue
		if c.Type == v1alpha1.ConditionExhausted || c.Type == v1alpha1.ConditionConflict {
			good = !good
		}
		switch {
		case !good && (old == nil || old.Status != c.Status || old.Message != c.Message):
			w.recorder.Event(obj, corev1.EventTypeWarning, c.Reason, c.Message)
		case good && old != nil && old.Status != c.Status:
			w.recorder.Event(obj, corev1.EventTypeNormal, c.Reason, c.Message)
		}
	}
}

// ignoreRace takes away the errors of an object that has changed or gone since
// it was read: the informer brings it back, and with it the next round.
func ignoreRace(err error) error {
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) || errors.Is(err, context.Canceled) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("writing status: %w", err)
	}
	return nil
}
