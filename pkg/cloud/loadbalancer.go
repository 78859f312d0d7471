// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/labels"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/api"
	"k8s.io/klog/v2"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/assign"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/service"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// retryPeriod is how long a Service waits for its next try. Upstream's own
// back-off begins at 5 s and doubles up to 5 min, which is too long for what
// heals by itself. Waiting Services are woken when classes or pools change, an
// address is freed or NetBox answers again, so this is only for what somebody
// puts right in NetBox. Each try of each Service costs upstream three lines of
// log.
const retryPeriod = time.Minute

// catalog knows the objects that administrators write.
type catalog interface {
	// classOf returns the class of a Service, as assign.ClassOf does.
	classOf(svc *corev1.Service) (*v1alpha1.LoadBalancerClass, error)
	pool(name string) (ipam.Pool, bool)
	namespaceLabels(name string) (labels.Set, error)
}

// claimStore is what the balancer needs of a store of claims.
type claimStore interface {
	ipam.Claims
	resolver
	// List is that of ipam.Records.
	List(ctx context.Context) ([]ipam.Claim, error)
}

// deps are the parts that a balancer works with. All must be set.
type deps struct {
	cluster    string
	catalog    catalog
	claims     claimStore
	groups     *groups
	outcomes   *outcomes
	conditions *conditions
	// waiting are the Services that wait for an address.
	waiting *waitingList
	// netboxUnavailable is set when NetBox did not answer. When it does again,
	// what waits is tried again.
	netboxUnavailable *atomic.Bool
	// freed is called after an address has been given back.
	freed func()
	// failed is called after a Service could not be given what it wants.
	failed func()
	// requeue has the service controller try a Service again.
	requeue func(key string) bool
	// warn writes a Warning Event about a Service.
	warn func(svc *corev1.Service, reason, message string)
}

// balancer implements cloudprovider.LoadBalancer: it gathers the facts about a
// Service, has package assign decide, and carries out what that says. The
// Services it is given are projections. It is immutable; what changes is in its
// parts.
type balancer struct{ deps }

var _ cloudprovider.LoadBalancer = (*balancer)(nil)

func newBalancer(d deps) *balancer { return &balancer{d} }

// GetLoadBalancerName implements cloudprovider.LoadBalancer.
func (b *balancer) GetLoadBalancerName(_ context.Context, _ string, svc *corev1.Service) string {
	return b.cluster + "/" + svc.Namespace + "/" + svc.Name
}

// GetLoadBalancer implements cloudprovider.LoadBalancer. It answers from the
// records of claims: upstream removes the finalizer without releasing anything
// when it says that there is none.
//
// A hidden Service has none, whatever is recorded: the default class may have
// gone while its first address was being written, which the informer does not
// show yet. What is really left is freed by package drift, which asks the API
// server first.
func (b *balancer) GetLoadBalancer(ctx context.Context, _ string, svc *corev1.Service) (*corev1.LoadBalancerStatus, bool, error) {
	if service.IsHidden(svc) {
		b.waiting.remove(svc)
		return nil, false, nil
	}
	claims, err := b.claimsOf(ctx, svc)
	if err != nil {
		b.requeueLater(svc, err)
		return nil, false, err
	}
	if len(claims) == 0 {
		b.waiting.remove(svc) // upstream lets it go without asking once more
	}
	addrs := make([]netip.Addr, len(claims))
	for i, c := range claims {
		addrs[i] = c.Addr
	}
	return service.StatusOf(addrs...), len(claims) > 0, nil
}

// claimsOf are the claims of a Service and those that it shares.
func (b *balancer) claimsOf(ctx context.Context, svc *corev1.Service) ([]ipam.Claim, error) {
	claims, err := b.claims.Find(ctx, svc.Namespace, svc.Name)
	if err != nil {
		return nil, fmt.Errorf("looking for the addresses of this Service: %w", err)
	}
	for _, g := range b.groups.of(svc) {
		shared, err := b.claims.Find(ctx, g.Namespace, g.ClaimName())
		if err != nil {
			return nil, fmt.Errorf("looking for the addresses that this Service shares: %w", err)
		}
		claims = append(claims, shared...)
	}
	return claims, nil
}

// EnsureLoadBalancer implements cloudprovider.LoadBalancer.
func (b *balancer) EnsureLoadBalancer(ctx context.Context, _ string, svc *corev1.Service, _ []*corev1.Node) (*corev1.LoadBalancerStatus, error) {
	out := b.ensure(ctx, svc)
	switch {
	case out.Status == nil:
		b.requeueLater(svc, out.Waiting)
		return nil, retryable(out.Waiting)
	case out.Waiting != nil:
		// Upstream does not write a status together with an error.
		b.requeueLater(svc, out.Waiting)
		b.warn(svc, reasonFailed, out.Waiting.Error())
	case out.Unasked != nil:
		b.requeueLater(svc, out.Unasked)
	default:
		b.waiting.remove(svc)
	}
	if service.HasFinalizer(svc) && apiequality.Semantic.DeepEqual(*out.Status, svc.Status.LoadBalancer) {
		out.Event = "" // nothing is written, so there is nothing to say
	}
	if out.Event != "" {
		klog.FromContext(ctx).Info("Address assigned", "service", klog.KObj(svc), "result", out.Event)
	}
	b.outcomes.set(svc.UID, out.Event)
	return out.Status, nil
}

// requeueLater has a Service tried again when something changes for it, NetBox is
// back, say. Upstream's back-off, up to five minutes, is all that there is
// otherwise for a Service that could not be released.
func (b *balancer) requeueLater(svc *corev1.Service, err error) {
	b.waiting.add(svc)
	if assign.IsUnavailable(err) {
		b.netboxUnavailable.Store(true)
	}
	b.failed()
}

// retryable says when upstream shall try again.
func retryable(err error) error {
	var gone *ipam.UnavailableError
	switch {
	case errors.As(err, &gone):
		return api.NewRetryError(err.Error(), max(retryPeriod, gone.RetryAfter))
	case errors.Is(err, context.Canceled):
		return err
	}
	return api.NewRetryError(err.Error(), retryPeriod)
}

// ensure decides what a Service gets, and has it recorded.
func (b *balancer) ensure(ctx context.Context, svc *corev1.Service) assign.Outcome {
	out, err := b.ensureOnce(ctx, svc)
	if b.isRecordedForGroup(ctx, svc, err) {
		out, err = b.ensureOnce(ctx, svc)
	}
	if err != nil {
		return assign.Failed(svc, err)
	}
	return out
}

// isRecordedForGroup reports whether an error came from not knowing (just after
// a start) that a Service had its address from a group.
func (b *balancer) isRecordedForGroup(ctx context.Context, svc *corev1.Service, err error) bool {
	var taken *ipam.ConflictError
	if !errors.As(err, &taken) || !slices.Contains(service.Addrs(svc), taken.Addr) || len(b.groups.sharedBy(svc)) > 0 {
		return false
	}
	return b.learnGroups(ctx) == nil && len(b.groups.sharedBy(svc)) > 0
}

// ensureOnce gathers the facts about a Service, and carries out what they lead to.
func (b *balancer) ensureOnce(ctx context.Context, svc *corev1.Service) (assign.Outcome, error) {
	facts, unlock, err := b.gather(ctx, svc)
	if err != nil {
		return assign.Outcome{}, err
	}
	defer unlock()
	plan := assign.Decide(facts)
	if out, ok := plan.Settled(); ok {
		return out, nil
	}
	var claimed assign.Claimed
	for _, wanted := range plan.Claims {
		c, err := b.claim(ctx, wanted)
		if err := claimed.Add(wanted, service.Addr(svc, wanted.Key.Family), c, err); err != nil {
			return assign.Outcome{}, err
		}
	}
	// Looked at after the claims, which have this process know all of them. Without
	// an answer nothing could be released either.
	claimed.Own, _ = b.ownClaims(ctx, svc)
	out := plan.Conclude(claimed)
	if err := b.release(ctx, svc, out.Release, b.claims.Release); err != nil {
		return assign.Outcome{}, err
	}
	if facts.Group != nil {
		if err := b.join(ctx, svc, *facts.Group, claimed.Claims, out.Release.Shrink); err != nil {
			return assign.Outcome{}, err
		}
	}
	b.conditions.claimed(ctx, svc, out.Moved)
	b.warnOfRetain(svc, out.NotRetained)
	return out, nil
}

// gather collects the facts about a Service. The groups among them are the
// caller's own until unlock is called.
func (b *balancer) gather(ctx context.Context, svc *corev1.Service) (f assign.Facts, unlock func(), err error) {
	f, unlock = assign.Facts{Cluster: b.cluster, Service: svc}, func() {}
	if f.Class, f.ClassProblem = b.catalog.classOf(svc); f.Class == nil {
		return f, unlock, nil // nothing else matters then
	}
	if f.NamespaceLabels, err = b.catalog.namespaceLabels(svc.Namespace); err != nil {
		return f, unlock, err
	}
	if unlock, err = b.gatherGroups(ctx, &f); err != nil {
		return f, unlock, err
	}
	f.Pools = make(map[string]ipam.Pool, len(f.Class.Spec.Pools))
	for _, name := range f.Class.Spec.Pools {
		if pool, ok := b.catalog.pool(name); ok {
			f.Pools[name] = resolve(ctx, b.claims, pool)
		}
	}
	if f.Group != nil && len(service.Addrs(svc)) > 0 {
		if f.Own, err = b.ownClaims(ctx, svc); err != nil {
			unlock()
			return f, nil, err
		}
	}
	return f, unlock, nil
}

// ownClaims returns the claims under a Service's own name that this process knows
// of. An error says why it knows of none.
func (b *balancer) ownClaims(ctx context.Context, svc *corev1.Service) ([]ipam.Claim, error) {
	var own []ipam.Claim
	for _, family := range []ipam.Family{ipam.IPv4, ipam.IPv6} {
		c, ok, err := b.claims.Known(ctx, service.ClaimKey(b.cluster, svc, family))
		if err != nil {
			return nil, fmt.Errorf("looking for the addresses of this Service: %w", err)
		}
		if ok {
			own = append(own, c)
		}
	}
	return own, nil
}

// gatherGroups adds the groups that a Service wants to be in, or is, and locks
// them.
func (b *balancer) gatherGroups(ctx context.Context, f *assign.Facts) (unlock func(), err error) {
	svc := f.Service
	wanted, shares := service.GroupOf(svc)
	if shares {
		if err := b.learnGroups(ctx); err != nil {
			return nil, err
		}
	}
	before := b.groups.sharedBy(svc)
	if !shares && len(before) == 0 {
		return func() {}, nil
	}
	ids := slices.Clone(before)
	if shares {
		ids = append(ids, wanted)
	}
	if unlock, err = b.groups.Lock(ctx, ids...); err != nil {
		return nil, err
	}
	for _, id := range b.groups.sharedBy(svc) {
		if slices.Contains(before, id) { // else it has not been locked
			f.Former = append(f.Former, b.groups.facts(id, svc))
		}
	}
	if shares {
		g := b.groups.facts(wanted, svc)
		f.Group = &g
	}
	return unlock, nil
}

// learnGroups reads the groups from the records of claims, once: what address a
// group has cannot be told from the Services alone.
func (b *balancer) learnGroups(ctx context.Context) error {
	if b.groups.isComplete() {
		return nil
	}
	claims, err := b.claims.List(ctx)
	if err != nil {
		return fmt.Errorf("looking up which addresses are shared: %w", err)
	}
	b.groups.Learn(claims)
	return nil
}

// claim makes one claim.
func (b *balancer) claim(ctx context.Context, wanted assign.Claim) (ipam.Claim, error) {
	c, err := b.claims.Claim(ctx, wanted.Request)
	if wanted.HeldYields && errors.As(err, new(*ipam.MovedError)) {
		wanted.Held = netip.Addr{}
		return b.claims.Claim(ctx, wanted.Request)
	}
	return c, err
}

// join remembers that a Service is in a group, and lets those try again for which
// it may have made room.
func (b *balancer) join(ctx context.Context, svc *corev1.Service, g assign.Group, claims []ipam.Claim, shrink bool) error {
	if b.groups.noteJoined(g.Group, svc, claims) {
		b.wake(g.Others)
	}
	if !shrink {
		return nil
	}
	return b.releaseUnneeded(ctx, g.Group, svc, true, b.claims.Release)
}

// release gives back what a Service has no longer. how is Release, or Retain.
func (b *balancer) release(ctx context.Context, svc *corev1.Service, r assign.Release, how func(context.Context, ipam.Key) error) error {
	if r.Own {
		claims, err := b.claims.Find(ctx, svc.Namespace, svc.Name)
		if err != nil {
			return fmt.Errorf("looking for the addresses of this Service: %w", err)
		}
		for _, c := range claims {
			if slices.Contains(r.Except, c.Key) {
				continue
			}
			if err := how(ctx, c.Key); err != nil {
				return fmt.Errorf("releasing %s: %w", c.Addr, err)
			}
			b.noteFreed(ctx, svc, c)
		}
	}
	for _, g := range r.Leave {
		if err := b.releaseUnneeded(ctx, g, svc, false, how); err != nil {
			return err
		}
		b.groups.noteLeft(g, svc.UID)
		b.wake(b.groups.facts(g, svc).Others)
	}
	return nil
}

// releaseUnneeded gives back the addresses of a group that no Service wants or
// has, this one included if it stays. The group is locked.
func (b *balancer) releaseUnneeded(ctx context.Context, g service.Group, svc *corev1.Service, stays bool, how func(context.Context, ipam.Key) error) error {
	claims, err := b.claims.Find(ctx, g.Namespace, g.ClaimName())
	if err != nil {
		return fmt.Errorf("looking for the addresses that this Service shares: %w", err)
	}
	b.groups.noteRecorded(g, claims)
	facts := b.groups.facts(g, svc)
	if stays {
		facts.Others = append(facts.Others, facts.Self)
	}
	for _, c := range claims {
		if facts.Needs(c.Key.Family) {
			continue
		}
		if err := how(ctx, c.Key); err != nil {
			return fmt.Errorf("releasing %s, which this Service was the last to share: %w", c.Addr, err)
		}
		b.groups.NoteReleased(g, c.Key.Family)
		b.noteFreed(ctx, svc, c)
	}
	return nil
}

// noteFreed has the Service tried that has waited longest for an address. It may
// want another family or pool; then its turn comes round again in a minute.
func (b *balancer) noteFreed(ctx context.Context, svc *corev1.Service, c ipam.Claim) {
	klog.FromContext(ctx).Info("Address released", "service", klog.KObj(svc), "claim", c.Key, "address", c.Addr)
	b.freed()
}

// wake has those members of a group tried again that wait.
func (b *balancer) wake(members []assign.Member) {
	for _, m := range members {
		if b.waiting.has(m.Service) {
			b.requeue(service.Key(m.Service))
		}
	}
}

// warnOfRetain says once that an address cannot be retained.
func (b *balancer) warnOfRetain(svc *corev1.Service, messages []string) {
	news := b.outcomes.noteRetain(svc.UID, svc.Annotations[v1alpha1.AnnotationRetain] == "true")
	if !news && len(svc.Status.LoadBalancer.Ingress) > 0 {
		return
	}
	for _, m := range messages {
		b.warn(svc, reasonNotRetained, m)
	}
}

// UpdateLoadBalancer implements cloudprovider.LoadBalancer. Which nodes carry
// the traffic is decided by the agents, from what they watch themselves.
func (b *balancer) UpdateLoadBalancer(context.Context, string, *corev1.Service, []*corev1.Node) error {
	return nil
}

// EnsureLoadBalancerDeleted implements cloudprovider.LoadBalancer: it releases,
// or retains, what a Service has.
func (b *balancer) EnsureLoadBalancerDeleted(ctx context.Context, _ string, svc *corev1.Service) error {
	if err := b.releaseAll(ctx, svc); err != nil {
		b.requeueLater(svc, err)
		return err
	}
	b.waiting.remove(svc)
	b.outcomes.forget(svc.UID)
	b.conditions.forget(svc.UID)
	return nil
}

// releaseAll gives back everything that a Service has. The annotation is read from
// the Service as it is now, so that it can be retained until the last moment.
func (b *balancer) releaseAll(ctx context.Context, svc *corev1.Service) error {
	how := b.claims.Release
	if svc.Annotations[v1alpha1.AnnotationRetain] == "true" {
		how = b.claims.Retain
	}
	groups := b.groups.of(svc)
	unlock, err := b.groups.Lock(ctx, groups...)
	if err != nil {
		return err
	}
	defer unlock()
	return b.release(ctx, svc, assign.Everything(groups), how)
}
