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

// How long a Service waits for its next try. Upstream's own back-off begins at
// 5 s and doubles up to 5 min, which is too long for what heals by itself.
const (
	// retryUnavailable follows a NetBox that did not answer. It is long enough
	// for thousands of waiting Services not to be a load of their own.
	retryUnavailable = 15 * time.Second
	// retryWaiting follows an error that somebody must put right. Changes of
	// classes and pools and freed addresses wake the waiting Services at once,
	// so this is only for what happens in NetBox.
	retryWaiting = time.Minute
)

// catalogue is what the balancer needs to know of classes and pools.
type catalogue interface {
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
	// waiting is told which Services wait for an address, and why not (any more).
	waiting waitingList
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
	claims, err := b.allocator.Find(ctx, svc.Namespace, svc.Name)
	if err != nil {
		return nil, false, fmt.Errorf("looking for the addresses of this Service: %w", err)
	}
	return statusOf(claims), len(claims) > 0, nil
}

// EnsureLoadBalancer implements cloudprovider.LoadBalancer.
func (b *balancer) EnsureLoadBalancer(ctx context.Context, _ string, svc *corev1.Service, _ []*corev1.Node) (*corev1.LoadBalancerStatus, error) {
	status, text, err := b.ensure(ctx, svc)
	if err != nil {
		b.waiting.add(svc)
		b.failed()
		return nil, retryable(err)
	}
	b.waiting.remove(svc)
	if servicehelper.HasLBFinalizer(svc) && apiequality.Semantic.DeepEqual(*status, svc.Status.LoadBalancer) {
		text = "" // nothing is written, so there is nothing to tell
	}
	b.outcomes.set(svc.UID, text)
	return status, nil
}

// ensure returns the status that the Service shall have, and a sentence for its
// Event.
func (b *balancer) ensure(ctx context.Context, svc *corev1.Service) (*corev1.LoadBalancerStatus, string, error) {
	class, err := b.catalogue.classOf(svc)
	if err != nil {
		return nil, "", err
	}
	requests, err := b.requests(svc, class)
	if err != nil {
		return nil, "", err
	}
	claims := make([]ipam.Claim, 0, len(requests))
	for _, r := range requests {
		c, err := b.allocator.Claim(ctx, r.Request)
		var exhausted *ipam.ExhaustedError
		if r.optional && errors.As(err, &exhausted) {
			continue
		}
		if unavailable(err) && satisfied(svc, requests) {
			// What is assigned stays while NetBox is away.
			return svc.Status.LoadBalancer.DeepCopy(), "", nil
		}
		if err != nil {
			return nil, "", err
		}
		claims = append(claims, c)
	}
	if err := b.releaseOtherFamilies(ctx, svc, claims); err != nil {
		return nil, "", err
	}
	return statusOf(claims), sentence(class, claims), nil
}

// releaseOtherFamilies frees what the Service had before it gave up a family.
func (b *balancer) releaseOtherFamilies(ctx context.Context, svc *corev1.Service, kept []ipam.Claim) error {
	if len(svc.Status.LoadBalancer.Ingress) <= len(kept) {
		return nil
	}
	claims, err := b.allocator.Find(ctx, svc.Namespace, svc.Name)
	if err != nil {
		return fmt.Errorf("looking for addresses of families that this Service gave up: %w", err)
	}
	for _, c := range claims {
		if slices.ContainsFunc(kept, func(k ipam.Claim) bool { return k.Key == c.Key }) {
			continue
		}
		if err := b.allocator.Release(ctx, c.Key); err != nil {
			return fmt.Errorf("releasing %s, whose family this Service gave up: %w", c.Addr, err)
		}
		b.freed()
	}
	return nil
}

// UpdateLoadBalancer implements cloudprovider.LoadBalancer. Which nodes carry
// the traffic is decided by the agents, from what they watch themselves.
func (b *balancer) UpdateLoadBalancer(context.Context, string, *corev1.Service, []*corev1.Node) error {
	return nil
}

// EnsureLoadBalancerDeleted implements cloudprovider.LoadBalancer.
func (b *balancer) EnsureLoadBalancerDeleted(ctx context.Context, _ string, svc *corev1.Service) error {
	claims, err := b.allocator.Find(ctx, svc.Namespace, svc.Name)
	if err != nil {
		return fmt.Errorf("looking for the addresses of this Service: %w", err)
	}
	for _, c := range claims {
		if err := b.allocator.Release(ctx, c.Key); err != nil {
			return fmt.Errorf("releasing %s: %w", c.Addr, err)
		}
	}
	b.waiting.remove(svc)
	b.outcomes.forget(svc.UID)
	if len(claims) > 0 {
		b.freed()
	}
	return nil
}

// request is a Request for one family of a Service.
type request struct {
	ipam.Request
	// optional: PreferDualStack is content without its second family.
	optional bool
}

// requests returns what a Service wants, one request for each family.
func (b *balancer) requests(svc *corev1.Service, class *v1alpha1.LoadBalancerClass) ([]request, error) {
	nsLabels, err := b.catalogue.namespaceLabels(svc.Namespace)
	if err != nil {
		return nil, err
	}
	ask, err := ipam.ParseAsk(svc.Annotations, svc.Spec.LoadBalancerIP)
	if err != nil {
		return nil, err
	}
	prefer := svc.Spec.IPFamilyPolicy != nil && *svc.Spec.IPFamilyPolicy == corev1.IPFamilyPolicyPreferDualStack
	pools := b.catalogue.poolsByName()
	var out []request
	for i, family := range families(svc) {
		candidates, err := ipam.Candidates(ask, class, pools, nsLabels, family)
		var none *ipam.NoPoolError
		if i > 0 && prefer && errors.As(err, &none) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, request{optional: i > 0 && prefer, Request: ipam.Request{
			Key:   ipam.Key{Cluster: b.cluster, Namespace: svc.Namespace, Service: svc.Name, Family: family},
			Owner: ipam.Owner{UID: string(svc.UID), Class: class.Name},
			Pools: candidates,
			Addr:  ask.Addrs[family],
			Held:  held(svc, family),
		}})
	}
	return out, nil
}

// held is the address of a family that a Service has; the zero Addr for none.
func held(svc *corev1.Service, family ipam.Family) netip.Addr {
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(in.IP); err == nil && ipam.FamilyOf(a) == family {
			return a.Unmap()
		}
	}
	return netip.Addr{}
}

// families returns the IP families of a Service, the primary one first.
func families(svc *corev1.Service) []ipam.Family {
	var out []ipam.Family
	for _, f := range svc.Spec.IPFamilies {
		if f == corev1.IPv6Protocol {
			out = append(out, ipam.IPv6)
		} else {
			out = append(out, ipam.IPv4)
		}
	}
	if len(out) == 0 {
		out = append(out, ipam.IPv4)
	}
	return out
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

// satisfied tells whether the Service's status already holds an address for
// each request, and the one that was asked for.
func satisfied(svc *corev1.Service, requests []request) bool {
	have := map[ipam.Family]netip.Addr{}
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(in.IP); err == nil {
			have[ipam.FamilyOf(a)] = a
		}
	}
	for _, r := range requests {
		a, ok := have[r.Key.Family]
		if !ok && !r.optional || r.Addr.IsValid() && r.Addr != a {
			return false
		}
	}
	return len(have) > 0
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
		return api.NewRetryError(err.Error(), max(retryUnavailable, gone.RetryAfter))
	case errors.Is(err, context.Canceled):
		return err
	}
	return api.NewRetryError(err.Error(), retryWaiting)
}
