// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package service

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// Ask is what a user asks for on a Service, beyond its class.
type Ask struct {
	// Pool is the only pool that the Service may use; empty means any of the class.
	Pool string
	// Addrs are the asked-for addresses, one per family at most.
	Addrs map[ipam.Family]netip.Addr
	// SharingKey names the group of Services that share an address; empty for none.
	SharingKey string
	// Retain says that the address is kept for the Service's name when the
	// Service is deleted.
	Retain bool
	// Hostname is the DNS name to record, in lower case as NetBox stores it;
	// empty for none.
	Hostname string
}

// ParseAsk reads the annotations of a Service and its spec.loadBalancerIP,
// over which the annotation bm-ccm.io/addresses wins. An error is a
// *ipam.ConfigError whose sentence names the field.
func ParseAsk(annotations map[string]string, loadBalancerIP string) (Ask, error) {
	ask := Ask{Pool: strings.TrimSpace(annotations[v1alpha1.AnnotationPool])}
	var err error
	if ask.SharingKey, err = parseSharingKey(annotations); err != nil {
		return Ask{}, err
	}
	if ask.Retain, err = parseRetain(annotations[v1alpha1.AnnotationRetain]); err != nil {
		return Ask{}, err
	}
	if ask.Hostname, err = parseHostname(annotations[v1alpha1.AnnotationHostname]); err != nil {
		return Ask{}, err
	}
	field, text := "annotation "+v1alpha1.AnnotationAddresses, annotations[v1alpha1.AnnotationAddresses]
	if strings.TrimSpace(text) == "" {
		field, text = "spec.loadBalancerIP", loadBalancerIP
	}
	if strings.TrimSpace(text) == "" {
		return ask, nil
	}
	if ask.Addrs, err = parseAddrs(text); err != nil {
		return Ask{}, &ipam.ConfigError{Problem: fmt.Sprintf("%s: %v", field, err)}
	}
	return ask, nil
}

// maxSharingKey and notInSharingKey keep keys readable where they end up, in the
// claim key.
const maxSharingKey = 63

func notInSharingKey(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-' && r != '_'
}

// SharingKey returns the sharing key among the annotations of a Service; "" for
// none or an invalid one.
func SharingKey(annotations map[string]string) string {
	key, err := parseSharingKey(annotations)
	if err != nil {
		return ""
	}
	return key
}

func parseSharingKey(annotations map[string]string) (string, error) {
	key := annotations[v1alpha1.AnnotationSharingKey]
	if len(key) > maxSharingKey || strings.ContainsFunc(key, notInSharingKey) {
		return "", &ipam.ConfigError{Problem: fmt.Sprintf(
			"annotation %s: %q is not a sharing key: write 1 to 63 letters, digits, dots, dashes or underscores",
			v1alpha1.AnnotationSharingKey, key)}
	}
	return key, nil
}

func parseRetain(text string) (bool, error) {
	switch text {
	case "true":
		return true, nil
	case "false", "":
		return false, nil
	}
	return false, &ipam.ConfigError{Problem: fmt.Sprintf(`annotation %s: %q is neither "true" nor "false": write one of them`, v1alpha1.AnnotationRetain, text)}
}

// hostnameForm is what NetBox takes as dns_name.
var hostnameForm = regexp.MustCompile(`^([0-9A-Za-z_-]+|\*)(\.[0-9A-Za-z_-]+)*\.?$`)

// maxHostname is NetBox's limit, in characters.
const maxHostname = 255

func parseHostname(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	if len(text) > maxHostname || !hostnameForm.MatchString(text) {
		return "", &ipam.ConfigError{Problem: fmt.Sprintf(
			"annotation %s: %q is not a DNS name that NetBox takes: write one like www.example.org, of %d characters at most",
			v1alpha1.AnnotationHostname, text, maxHostname)}
	}
	return strings.ToLower(text), nil
}

func parseAddrs(text string) (map[ipam.Family]netip.Addr, error) {
	addrs := map[ipam.Family]netip.Addr{}
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
		f := ipam.FamilyOf(a)
		if other, ok := addrs[f]; ok {
			return nil, fmt.Errorf("%s and %s are both %s: ask for one address per IP family", other, a, f)
		}
		addrs[f] = a
	}
	return addrs, nil
}
