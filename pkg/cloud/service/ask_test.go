// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package service

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

func TestParseAsk(t *testing.T) {
	tests := []struct {
		annotation, ip string
		want           []string
		problem        string
	}{
		{"", "", nil, ""},
		{" ", "", nil, ""},
		{"", "192.0.2.1", []string{"192.0.2.1"}, ""},
		{"192.0.2.2, 2001:db8::1", "192.0.2.1", []string{"192.0.2.2", "2001:db8::1"}, ""},
		{"::ffff:192.0.2.2", "", []string{"192.0.2.2"}, ""},
		{"192.0.2.2,192.0.2.3", "", nil, "annotation bm-ccm.io/addresses: 192.0.2.2 and 192.0.2.3 are both ipv4"},
		{"web", "", nil, `annotation bm-ccm.io/addresses: "web" is not an IP address`},
		{"192.0.2.1,", "", nil, `annotation bm-ccm.io/addresses: "" is not an IP address`},
		{"", "fe80::1%eth0", nil, "spec.loadBalancerIP"},
		{"", "127.0.0.1", nil, "spec.loadBalancerIP: 127.0.0.1 cannot be"},
	}
	for _, tt := range tests {
		ask, err := ParseAsk(map[string]string{v1alpha1.AnnotationAddresses: tt.annotation}, tt.ip)
		if tt.problem != "" {
			if !errors.As(err, new(*ipam.ConfigError)) || !strings.Contains(err.Error(), tt.problem) {
				t.Errorf("%+v: %v", tt, err)
			}
			continue
		}
		if err != nil || len(ask.Addrs) != len(tt.want) {
			t.Errorf("%+v: %v, %v", tt, ask, err)
		}
		for _, a := range tt.want {
			addr := netip.MustParseAddr(a)
			if ask.Addrs[ipam.FamilyOf(addr)] != addr {
				t.Errorf("%+v: got %v", tt, ask.Addrs)
			}
		}
	}
}

func TestParseAskAnnotations(t *testing.T) {
	long := strings.Repeat("a", 64)
	tests := []struct {
		annotation, value string
		want              Ask
		problem           string
	}{
		{v1alpha1.AnnotationSharingKey, "web.1_A-b", Ask{SharingKey: "web.1_A-b"}, ""},
		{v1alpha1.AnnotationSharingKey, "", Ask{}, ""},
		{v1alpha1.AnnotationSharingKey, "a/b", Ask{}, `annotation bm-ccm.io/sharing-key: "a/b" is not a sharing key: write 1 to 63 letters`},
		{v1alpha1.AnnotationSharingKey, "+a", Ask{}, "write 1 to 63 letters"},
		{v1alpha1.AnnotationSharingKey, long, Ask{}, "write 1 to 63 letters"},
		{v1alpha1.AnnotationSharingKey, long[1:], Ask{SharingKey: long[1:]}, ""},
		{v1alpha1.AnnotationRetain, "true", Ask{Retain: true}, ""},
		{v1alpha1.AnnotationRetain, "false", Ask{}, ""},
		{v1alpha1.AnnotationRetain, "yes", Ask{}, `annotation bm-ccm.io/retain: "yes" is neither "true" nor "false"`},
		{v1alpha1.AnnotationHostname, "WWW.example.org.", Ask{Hostname: "www.example.org."}, ""},
		{v1alpha1.AnnotationHostname, "*.example.org", Ask{Hostname: "*.example.org"}, ""},
		{v1alpha1.AnnotationHostname, "www..org", Ask{}, `annotation bm-ccm.io/hostname: "www..org" is not a DNS name`},
		{v1alpha1.AnnotationHostname, "a b", Ask{}, "is not a DNS name"},
		{v1alpha1.AnnotationHostname, strings.Repeat("a.", 128), Ask{}, "255 characters at most"},
	}
	for _, tt := range tests {
		got, err := ParseAsk(map[string]string{tt.annotation: tt.value}, "")
		if tt.problem != "" {
			if !errors.As(err, new(*ipam.ConfigError)) || !strings.Contains(err.Error(), tt.problem) {
				t.Errorf("%s=%q: %v", tt.annotation, tt.value, err)
			}
			continue
		}
		if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
			t.Errorf("%s=%q: %v %s", tt.annotation, tt.value, err, diff)
		}
	}
}

// Whatever users write, the answer is an address of a kind that can be assigned,
// or a sentence that names the field.
func FuzzParseAsk(f *testing.F) {
	f.Add("192.0.2.1, 2001:db8::1", "", "k", "true", "www.example.org")
	f.Add("", "192.0.2.1", "", "", "*.example.org.")
	f.Fuzz(func(t *testing.T, addresses, ip, key, retain, hostname string) {
		ask, err := ParseAsk(map[string]string{
			v1alpha1.AnnotationAddresses: addresses, v1alpha1.AnnotationSharingKey: key,
			v1alpha1.AnnotationRetain: retain, v1alpha1.AnnotationHostname: hostname,
		}, ip)
		if err != nil {
			if !errors.As(err, new(*ipam.ConfigError)) || !strings.Contains(err.Error(), "annotation") && !strings.Contains(err.Error(), "spec.loadBalancerIP") {
				t.Errorf("%v names no field", err)
			}
			return
		}
		for family, a := range ask.Addrs {
			if ipam.FamilyOf(a) != family || a.Zone() != "" || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.Is4In6() {
				t.Errorf("%s is taken for an address of %s", a, family)
			}
		}
		if SharingKey(map[string]string{v1alpha1.AnnotationSharingKey: key}) != ask.SharingKey {
			t.Error("two readers of the sharing key differ")
		}
	})
}
