// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package assign

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

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
