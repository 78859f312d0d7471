// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"strings"
	"testing"
)

func TestKey(t *testing.T) {
	k := Key{Cluster: "lab.example", Namespace: "default", Service: "web", Family: IPv6}
	back, err := ParseKey(k.String())
	if err != nil || back != k {
		t.Errorf("%v became %v, %v", k, back, err)
	}
	for _, s := range []string{"", "a/b/c", "a/b/c/ipv5", "a//c/ipv4", "a/b/c/ipv4/d", "a/b/c/ipv4#next"} {
		if k, err := ParseKey(s); err == nil {
			t.Errorf("%q is taken for %v", s, k)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add("lab/default/web/ipv4")
	f.Fuzz(func(t *testing.T, s string) {
		if k, err := ParseKey(s); err == nil && k.String() != s {
			t.Errorf("%q became %q", s, k)
		}
	})
}

func TestParseRange(t *testing.T) {
	for s, want := range map[string]string{
		"192.0.2.0/30": "192.0.2.0-192.0.2.3", "192.0.2.9/30": "192.0.2.8-192.0.2.11", "192.0.2.1-192.0.2.5": "192.0.2.1-192.0.2.5",
		"2001:db8::/127": "2001:db8::-2001:db8::1", "192.0.2.1-192.0.2.1": "192.0.2.1-192.0.2.1",
		"192.0.2.1": "", "": "", "-": "", "a-b": "", "192.0.2.5-192.0.2.1": "swap", "192.0.2.1-2001:db8::1": "one IP family",
		"fe80::1%eth0-fe80::2%eth0": "zone", "::ffff:192.0.2.0/120": "IPv4-mapped",
	} {
		r, err := ParseRange(s)
		if err != nil && (strings.Contains(want, ".") && !strings.Contains(want, " ") || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", s, err, want)
		}
		if err == nil && r.String() != want {
			t.Errorf("%q: %s, want %q", s, r, want)
		}
	}
}

func FuzzParseRange(f *testing.F) {
	f.Add("192.0.2.0/28")
	f.Add("192.0.2.10-192.0.2.20")
	f.Fuzz(func(t *testing.T, s string) {
		if r, err := ParseRange(s); err == nil && !r.IsValid() {
			t.Errorf("%q became %v", s, r)
		}
	})
}
