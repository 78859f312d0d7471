// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/labels"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/api"
	servicehelper "k8s.io/cloud-provider/service/helpers"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// retryPeriod is how long a Service waits for its next try. Upstream's own
// back-off begins at 5 s and doubles up to 5 min, which is too long for what
// heals by itself. Waiting Services are woken when classes or pools change, an
// address is freed or NetBox answers again, so this is only for what somebody
// puts right in NetBox. Each try of each Service costs upstream three lines of
// log.
const retryPeriod = time.Minute

// catalogue is what the balancer needs to know of classes and pools.
type catalogue interface {
	// classOf returns the class of a Service; errNoDefault where it names none
	// and there is none for such Services.
	classOf(svc *corev1.Service) (*v1alpha1.LoadBalancerClass, error)
	poolsByName() map[string]*v1alpha1.AddressPool
	namespaceLabels(name string) (labels.Set, error)
}

// balancer implements cloudprovider.LoadBalancer over an ipam.Allocator. The
// Services it is given are projections.
type balancer struct {
	cluster   string
	catalogue catalogue
	allocator ipam.Allocator
	outcomes  outcomes
	// freed is called after an address has been given back.
	freed func()
	// failed is called after a Service could not be given what it wants.
	failed func()
	// replay hands a Service to the service controller again.
	replay func(key string) bool
	// warn writes a Warning Event about a Service.
	warn func(svc *corev1.Service, reason, message string)
	// waiting is told which Services wait for an address, and why not (any more).
	waiting waitingList
	// missed is set when NetBox did not answer. Where it does again, what waits
	// is tried again.
	missed    atomic.Bool
	groups    groups
	conflicts conflicts
}

var _ cloudprovider.LoadBalancer = (*balancer)(nil)

// GetLoadBalancerName implements cloudprovider.LoadBalancer.
func (b *balancer) GetLoadBalancerName(_ context.Context, _ string, svc *corev1.Service) string {
	return b.cluster + "/" + svc.Namespace + "/" + svc.Name
}

// GetLoadBalancer implements cloudprovider.LoadBalancer. It answers from the
// record of claims: upstream removes the finalizer without releasing anything
// when it says that there is none.
func (b *balancer) GetLoadBalancer(ctx context.Context, _ string, svc *corev1.Service) (*corev1.LoadBalancerStatus, bool, error) {
	claims, err := b.claimsOf(ctx, svc)
	if err != nil {
		b.waits(svc, err)
		return nil, false, err
	}
	if len(claims) == 0 {
		b.waiting.remove(svc) // upstream lets it go without another word
	}
	return statusOf(claims), len(claims) > 0, nil
}

// claimsOf are the claims of a Service and those that it shares.
func (b *balancer) claimsOf(ctx context.Context, svc *corev1.Service) ([]ipam.Claim, error) {
	claims, err := b.allocator.Find(ctx, svc.Namespace, svc.Name)
	if err != nil {
		return nil, fmt.Errorf("looking for the addresses of this Service: %w", err)
	}
	for _, id := range b.groupsOf(svc) {
		shared, err := b.allocator.Find(ctx, id.namespace, id.service())
		if err != nil {
			return nil, fmt.Errorf("looking for the addresses that this Service shares: %w", err)
		}
		claims = append(claims, shared...)
	}
	return claims, nil
}

// waits has a Service tried again when something changes for it, NetBox is back,
// say. Upstream's back-off, up to five minutes, is all that there is otherwise
// for a Service that could not be let go.
func (b *balancer) waits(svc *corev1.Service, err error) {
	b.waiting.add(svc)
	if unavailable(err) {
		b.missed.Store(true)
	}
	b.failed()
}

// EnsureLoadBalancer implements cloudprovider.LoadBalancer.
func (b *balancer) EnsureLoadBalancer(ctx context.Context, _ string, svc *corev1.Service, _ []*corev1.Node) (*corev1.LoadBalancerStatus, error) {
	out, err := b.ensure(ctx, svc)
	if err == nil {
		err = out.waits
	}
	switch {
	case err != nil && out.status == nil:
		b.waits(svc, err)
		return nil, retryable(err)
	case err != nil:
		// Upstream does not write a status together with an error.
		b.waits(svc, err)
		b.warn(svc, reasonFailed, err.Error())
	case out.unasked != nil:
		b.waits(svc, out.unasked)
	default:
		b.waiting.remove(svc)
	}
	if servicehelper.HasLBFinalizer(svc) && apiequality.Semantic.DeepEqual(*out.status, svc.Status.LoadBalancer) {
		out.text = "" // nothing is written, so there is nothing to tell
	}
	b.outcomes.set(svc.UID, out.text)
	return out.status, nil
}

// outcome is what a Service gets.
type outcome struct {
	status *corev1.LoadBalancerStatus
	// text is a sentence for its Event.
	text string
	// waits says why the Service waits although its status has changed.
	waits error
	// unasked says why NetBox could not be asked about a Service that has what it
	// wants. Something may be left to do, a former address to let go, say.
	unasked error
}

// ensure decides what a Service gets, and has it recorded.
func (b *balancer) ensure(ctx context.Context, svc *corev1.Service) (outcome, error) {
	class, err := b.catalogue.classOf(svc)
	if errors.Is(err, errNoDefault) && len(svc.Status.LoadBalancer.Ingress) > 0 {
		return kept(svc), nil // until it is deleted, see classView
	}
	if err != nil {
		return outcome{}, err
	}
	ask, err := ipam.ParseAsk(svc.Annotations, svc.Spec.LoadBalancerIP)
	if err != nil {
		return outcome{}, err
	}
	out, err := b.ensureIn(ctx, svc, class, ask)
	if b.recordedForGroup(ctx, svc, err) {
		out, err = b.ensureIn(ctx, svc, class, ask)
	}
	if unavailable(err) && satisfied(svc, ask) {
		out := kept(svc) // what is assigned stays while NetBox is away
		out.unasked = err
		return out, nil
	}
	return out, err
}

// kept leaves a Service as it is.
func kept(svc *corev1.Service) outcome { return outcome{status: svc.Status.LoadBalancer.DeepCopy()} }

// ensureIn does so for a Service of a class.
func (b *balancer) ensureIn(ctx context.Context, svc *corev1.Service, class *v1alpha1.LoadBalancerClass, ask ipam.Ask) (outcome, error) {
	place, err := b.place(ctx, svc, ask)
	if err != nil {
		return outcome{}, err
	}
	defer place.unlock()
	if place.refusal != nil {
		return b.refuse(svc, place)
	}
	requests, err := b.requests(ctx, svc, class, ask, place)
	if err != nil {
		return outcome{}, err
	}
	var claims []ipam.Claim
	var moved []string
	for _, r := range requests {
		c, err := b.claim(ctx, svc, r)
		var exhausted *ipam.ExhaustedError
		var displaced *ipam.MovedError
		switch {
		case r.optional && errors.As(err, &exhausted):
			continue
		case errors.As(err, &displaced) && displaced.Held == held(svc, r.Key.Family):
			moved = append(moved, displaced.Error())
			c = ipam.Claim{Key: r.Key, Addr: displaced.Held}
		case err != nil:
			return outcome{}, err
		}
		claims = append(claims, c)
	}
	if err := b.letGo(ctx, svc, place, claims); err != nil {
		return outcome{}, err
	}
	b.conflicts.claimed(ctx, svc, strings.Join(moved, "; "))
	b.warnOfRetain(svc, ask, requests, claims)
	return outcome{status: statusOf(claims), text: sentence(class, claims)}, nil
}

// claim claims one address. Where the one that the Service has came from
// elsewhere (it joins or leaves a group), a claim that it has already counts
// more.
func (b *balancer) claim(ctx context.Context, svc *corev1.Service, r request) (ipam.Claim, error) {
	c, err := b.allocator.Claim(ctx, r.Request)
	var moved *ipam.MovedError
	if !errors.As(err, &moved) || !r.fromElsewhere {
		return c, err
	}
	if _, shared := r.Key.Group(); shared {
		own, findErr := b.allocator.Find(ctx, svc.Namespace, svc.Name)
		if findErr != nil {
			return ipam.Claim{}, findErr
		}
		if !slices.ContainsFunc(own, func(c ipam.Claim) bool { return c.Addr == moved.Held }) {
			return ipam.Claim{}, err
		}
	}
	r.Held = netip.Addr{}
	return b.allocator.Claim(ctx, r.Request)
}

// letGo frees what a Service had before and has no longer: the address of a
// family that it gave up, its own one when it joined a group, and its part in
// groups that it left.
func (b *balancer) letGo(ctx context.Context, svc *corev1.Service, place *place, kept []ipam.Claim) error {
	lost := slices.ContainsFunc(statusAddrs(svc), func(a netip.Addr) bool {
		return !slices.ContainsFunc(kept, func(k ipam.Claim) bool { return k.Addr == a })
	})
	if lost || b.hasMore(ctx, svc, kept) {
		if err := b.releaseOwn(ctx, svc, kept); err != nil {
			return err
		}
	}
	for _, id := range place.former {
		if err := b.leave(ctx, id, svc, b.allocator.Release); err != nil {
			return err
		}
	}
	if !place.shares {
		return nil
	}
	if b.groups.joined(place.group, svc, kept) {
		b.wake(place.others)
	}
	if lost {
		if err := b.releaseUnneeded(ctx, place.group, "", b.allocator.Release); err != nil {
			return err
		}
	}
	return nil
}

// hasMore tells whether a Service has a claim besides those that it keeps, as
// far as is known without asking. Its status need not have named it: the claim
// was made, the process died, and the user gave up the family.
func (b *balancer) hasMore(ctx context.Context, svc *corev1.Service, kept []ipam.Claim) bool {
	knower, ok := b.allocator.(ipam.Knower)
	if !ok {
		return false
	}
	for _, f := range []ipam.Family{ipam.IPv4, ipam.IPv6} {
		key := ipam.Key{Cluster: b.cluster, Namespace: svc.Namespace, Service: svc.Name, Family: f}
		if slices.ContainsFunc(kept, func(k ipam.Claim) bool { return k.Key == key }) {
			continue
		}
		// Without an answer there is nothing that could be released now either.
		if c, ok, err := knower.Known(ctx, key); err == nil && ok && !c.Reserved {
			return true
		}
	}
	return false
}

// releaseOwn frees the claims of a Service itself, except those that it keeps.
func (b *balancer) releaseOwn(ctx context.Context, svc *corev1.Service, kept []ipam.Claim) error {
	claims, err := b.allocator.Find(ctx, svc.Namespace, svc.Name)
	if err != nil {
		return fmt.Errorf("looking for addresses that this Service gave up: %w", err)
	}
	for _, c := range claims {
		if slices.ContainsFunc(kept, func(k ipam.Claim) bool { return k.Key == c.Key }) {
			continue
		}
		if err := b.allocator.Release(ctx, c.Key); err != nil {
			return fmt.Errorf("releasing %s, which this Service gave up: %w", c.Addr, err)
		}
		b.freed()
	}
	return nil
}

// warnOfRetain says once that an address cannot be retained.
func (b *balancer) warnOfRetain(svc *corev1.Service, ask ipam.Ask, requests []request, claims []ipam.Claim) {
	news := b.outcomes.noteRetain(svc.UID, ask.Retain) || len(svc.Status.LoadBalancer.Ingress) == 0
	if !ask.Retain || !news {
		return
	}
	for _, c := range claims {
		for _, r := range requests {
			i := slices.IndexFunc(r.Pools, func(p ipam.Pool) bool { return p.Name == c.Pool })
			if r.Key == c.Key && i >= 0 && !r.Pools[i].NetBox() {
				b.warn(svc, "NotRetained", fmt.Sprintf("%s will not stay reserved (annotation %s): pool %q lists its addresses itself, and only a pool in NetBox can keep one without its Service",
					c.Addr, v1alpha1.AnnotationRetain, c.Pool))
			}
		}
	}
}

// UpdateLoadBalancer implements cloudprovider.LoadBalancer. Which nodes carry
// the traffic is decided by the agents, from what they watch themselves.
func (b *balancer) UpdateLoadBalancer(context.Context, string, *corev1.Service, []*corev1.Node) error {
	return nil
}

// EnsureLoadBalancerDeleted implements cloudprovider.LoadBalancer.
func (b *balancer) EnsureLoadBalancerDeleted(ctx context.Context, _ string, svc *corev1.Service) error {
	if err := b.freeAll(ctx, svc); err != nil {
		b.waits(svc, err)
		return err
	}
	return nil
}

// freeAll frees, or retains, what a Service has.
func (b *balancer) freeAll(ctx context.Context, svc *corev1.Service) error {
	free := b.allocator.Release
	if svc.Annotations[v1alpha1.AnnotationRetain] == "true" {
		free = b.allocator.Retain
	}
	ids := b.groupsOf(svc)
	defer b.groups.lock(ids...)()
	claims, err := b.allocator.Find(ctx, svc.Namespace, svc.Name)
	if err != nil {
		return fmt.Errorf("looking for the addresses of this Service: %w", err)
	}
	for _, c := range claims {
		if err := free(ctx, c.Key); err != nil {
			return fmt.Errorf("releasing %s: %w", c.Addr, err)
		}
	}
	for _, id := range ids {
		if err := b.leave(ctx, id, svc, free); err != nil {
			return err
		}
	}
	b.waiting.remove(svc)
	b.outcomes.forget(svc.UID)
	b.conflicts.forget(svc.UID)
	if len(claims) > 0 {
		b.freed()
	}
	return nil
}

// statusOf is the status of a Service with these claims. IPMode is always set:
// the API server would default it, and upstream compare and write it for ever.
func statusOf(claims []ipam.Claim) *corev1.LoadBalancerStatus {
	status := &corev1.LoadBalancerStatus{}
	for _, c := range claims {
		vip := corev1.LoadBalancerIPModeVIP
		status.Ingress = append(status.Ingress, corev1.LoadBalancerIngress{IP: c.Addr.String(), IPMode: &vip})
	}
	return status
}

// satisfied tells whether the Service's status already holds an address of each
// family that it needs, and the one that was asked for, and none that it gave up.
func satisfied(svc *corev1.Service, ask ipam.Ask) bool {
	wanted := families(svc)
	for _, a := range statusAddrs(svc) {
		if !slices.Contains(wanted, ipam.FamilyOf(a)) {
			return false
		}
	}
	for i, f := range wanted {
		has, asked := held(svc, f), ask.Addrs[f]
		needed := i == 0 || !prefersDualStack(svc)
		if needed && !has.IsValid() || asked.IsValid() && asked != has {
			return false
		}
	}
	return len(svc.Status.LoadBalancer.Ingress) > 0
}

func unavailable(err error) bool {
	var e *ipam.UnavailableError
	return errors.As(err, &e)
}

// sentence tells which addresses a Service has and where they come from.
func sentence(class *v1alpha1.LoadBalancerClass, claims []ipam.Claim) string {
	parts := make([]string, 0, len(claims))
	for _, c := range claims {
		part := c.Addr.String()
		if c.Pool != "" {
			part += fmt.Sprintf(" from pool %q", c.Pool)
		}
		parts = append(parts, part)
	}
	return fmt.Sprintf("Assigned %s (class %q)", strings.Join(parts, " and "), class.Name)
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
