// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
)

// Ask is what a user asks for on a Service, beyond its class.
type Ask struct {
	// Pool is the only pool that the Service may use; empty means any of the class.
	Pool string
	// Addrs are the asked-for addresses, one per family at most.
	Addrs map[Family]netip.Addr
}

// ParseAsk reads the annotations of a Service and its spec.loadBalancerIP,
// over which the annotation bm-ccm.io/addresses wins. An error is a
// *ConfigError whose sentence names the field.
func ParseAsk(annotations map[string]string, loadBalancerIP string) (Ask, error) {
	ask := Ask{Pool: strings.TrimSpace(annotations[v1alpha1.AnnotationPool])}
	field, text := "annotation "+v1alpha1.AnnotationAddresses, annotations[v1alpha1.AnnotationAddresses]
	if strings.TrimSpace(text) == "" {
		field, text = "spec.loadBalancerIP", loadBalancerIP
	}
	if strings.TrimSpace(text) == "" {
		return ask, nil
	}
	addrs, err := parseAddrs(text)
	if err != nil {
		return Ask{}, &ConfigError{Problem: fmt.Sprintf("%s: %v", field, err)}
	}
	ask.Addrs = addrs
	return ask, nil
}

func parseAddrs(text string) (map[Family]netip.Addr, error) {
	addrs := map[Family]netip.Addr{}
	for s := range strings.SplitSeq(text, ",") {
		s = strings.TrimSpace(s)
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return nil, fmt.Errorf("%q is not an IP address: write one per IP family, separated by a comma", s)
		}
		a = a.Unmap()
		if a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() {
			return nil, fmt.Errorf("%s cannot be the address of a load balancer: ask for a unicast address of a pool", a)
		}
		f := FamilyOf(a)
		if other, ok := addrs[f]; ok {
			return nil, fmt.Errorf("%s and %s are both %s: ask for one address per IP family", other, a, f)
		}
		addrs[f] = a
	}
	return addrs, nil
}
