// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package assign

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/service"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// ErrNoDefault is for a Service without a class where there is none for such.
var ErrNoDefault error = &ipam.ConfigError{Problem: "the Service names no class, and not exactly one LoadBalancerClass has spec.default: true: set spec.loadBalancerClass, or mark one class as default"}

// DefaultClass returns the class for Services that name none: the only one with
// spec.default, or nil. Of several, none is the default: whichever one took
// would be a guess, and another one after the next restart.
func DefaultClass(classes []*v1alpha1.LoadBalancerClass) *v1alpha1.LoadBalancerClass {
	var found *v1alpha1.LoadBalancerClass
	for _, c := range classes {
		switch {
		case !c.Spec.Default:
		case found != nil:
			return nil
		default:
			found = c
		}
	}
	return found
}

// ClassOf returns the LoadBalancerClass of a projected Service. Its error is a
// sentence for the user, ErrNoDefault where the Service names no class and
// there is none for such.
func ClassOf(svc *corev1.Service, classes []*v1alpha1.LoadBalancerClass) (*v1alpha1.LoadBalancerClass, error) {
	requested := service.RequestedClass(svc)
	if requested == "" {
		if c := DefaultClass(classes); c != nil {
			return c, nil
		}
		return nil, ErrNoDefault
	}
	name, _ := v1alpha1.ClassName(requested)
	names := make([]string, 0, len(classes))
	for _, c := range classes {
		if c.Name == name {
			return c, nil
		}
		names = append(names, v1alpha1.ClassPrefix+c.Name)
	}
	slices.Sort(names)
	known := strings.Join(names, ", ")
	if known == "" {
		known = "there is none yet"
	}
	return nil, &ipam.ConfigError{Problem: fmt.Sprintf("spec.loadBalancerClass is %q, but there is no LoadBalancerClass %q: create it, or recreate the Service with one that exists (%s)",
		requested, name, known)}
}

// Candidates returns the pools that a Service may take an address of a family
// from, in the order to try them: that of the class. nsLabels are the labels
// of the Service's namespace.
//
// A pool with autoAssign: false takes part only if the Service names it or
// asks for an address of it. A pool that is missing or invalid, or whose
// addresses are not known (Pool.Problem), is passed over while another one
// serves.
//
// Errors: *ipam.ConfigError when what the Service or the class says cannot be;
// *ipam.UnavailableError when no pool serves and that may be because the addresses
// of one could not be asked for; *ipam.NotInPoolsError when the asked-for address is
// in no pool of the Service; *ipam.NoPoolError when none has addresses of this
// family.
func Candidates(ask service.Ask, class *v1alpha1.LoadBalancerClass, pools map[string]ipam.Pool, nsLabels map[string]string, family ipam.Family) ([]ipam.Pool, error) {
	ok, err := selects(class.Spec.NamespaceSelector, nsLabels)
	if err != nil {
		return nil, &ipam.ConfigError{Problem: fmt.Sprintf("LoadBalancerClass %q: spec.namespaceSelector: %v", class.Name, err)}
	}
	if !ok {
		return nil, &ipam.ConfigError{Problem: fmt.Sprintf(
			"LoadBalancerClass %q is not for this namespace (spec.namespaceSelector): use another class, or label the namespace", class.Name)}
	}
	if ask.Pool != "" && !slices.Contains(class.Spec.Pools, ask.Pool) {
		return nil, &ipam.ConfigError{Problem: fmt.Sprintf(
			"annotation %s names pool %q, which LoadBalancerClass %q does not list: name one of %s",
			v1alpha1.AnnotationPool, ask.Pool, class.Name, strings.Join(class.Spec.Pools, ", "))}
	}
	c := poolChoice{ask: ask, nsLabels: nsLabels, family: family}
	for _, name := range class.Spec.Pools {
		if ask.Pool != "" && ask.Pool != name {
			continue
		}
		if p, ok := pools[name]; ok {
			c.consider(p)
		} else {
			c.reject("there is no AddressPool %q", name)
		}
	}
	return c.result(class.Name)
}

// poolChoice collects what became of each pool of a class.
type poolChoice struct {
	ask      service.Ask
	nsLabels map[string]string
	family   ipam.Family

	chosen []ipam.Pool
	// allowed are the names of the pools that the Service may use, also where
	// the asked-for address is not in them.
	allowed []string
	// reasons says for each other pool why it cannot be used.
	reasons []string
	// unavailable is why the addresses of a pool are not known; nil if all are.
	unavailable *ipam.UnavailableError
}

func (c *poolChoice) consider(p ipam.Pool) {
	name := p.Name
	var gone *ipam.UnavailableError
	if errors.As(p.Problem, &gone) {
		c.unavailable = gone
	}
	if _, err := p.Ranges(); err != nil {
		c.reject("%v", err)
		return
	}
	ok, err := selects(p.Spec.NamespaceSelector, c.nsLabels)
	switch addr := c.addr(); {
	case err != nil:
		c.reject("pool %q: spec.namespaceSelector: %v", name, err)
	case !ok:
		c.reject("pool %q is not for this namespace (spec.namespaceSelector)", name)
	case !p.Has(c.family):
		c.reject("pool %q has no %s addresses", name, c.family)
	case addr.IsValid() && !p.Contains(addr):
		c.allowed = append(c.allowed, name)
	case !addr.IsValid() && !autoAssign(p) && c.ask.Pool != name:
		c.reject("pool %q is only for Services that ask for it (spec.autoAssign: false)", name)
	default:
		c.allowed = append(c.allowed, name)
		c.chosen = append(c.chosen, p)
	}
}

func (c *poolChoice) addr() netip.Addr { return c.ask.Addrs[c.family] }

func (c *poolChoice) reject(format string, args ...any) {
	c.reasons = append(c.reasons, fmt.Sprintf(format, args...))
}

func (c *poolChoice) result(class string) ([]ipam.Pool, error) {
	switch {
	case len(c.chosen) > 0:
		return c.chosen, nil
	case c.unavailable != nil:
		return nil, c.unavailable
	case len(c.allowed) > 0:
		return nil, &ipam.NotInPoolsError{Addr: c.addr(), Pools: c.allowed}
	default:
		return nil, &ipam.NoPoolError{Class: class, Family: c.family, Reasons: c.reasons}
	}
}

func autoAssign(p ipam.Pool) bool { return p.Spec.AutoAssign == nil || *p.Spec.AutoAssign }

func selects(sel *metav1.LabelSelector, set map[string]string) (bool, error) {
	if sel == nil {
		return true, nil
	}
	s, err := metav1.LabelSelectorAsSelector(sel)
	if err != nil {
		return false, fmt.Errorf("not a valid label selector: %w", err)
	}
	return s.Matches(labels.Set(set)), nil
}
