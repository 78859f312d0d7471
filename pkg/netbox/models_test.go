// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import "testing"

func TestParseRelease(t *testing.T) {
	for version, want := range map[string]Release{
		"4.7.3": {4, 7}, "4.10.0-beta1": {4, 10}, "5.0": {5, 0}, "4": {}, "": {}, "next": {}, "4.x.1": {}, "-4.7": {}, "4.-7": {}, "99999999.1": {},
	} {
		if got := ParseRelease(version); got != want {
			t.Errorf("%q: got %s, want %s", version, got, want)
		}
	}
	if !(Release{4, 10}).AtLeast(Release{4, 7}) || !(Release{5, 0}).AtLeast(Release{4, 7}) || (Release{4, 6}).AtLeast(Release{4, 7}) {
		t.Error("releases are ordered wrongly")
	}
}

func FuzzParseRelease(f *testing.F) {
	f.Add("4.7.3")
	f.Add("4.10.0-beta1")
	f.Fuzz(func(t *testing.T, version string) {
		r := ParseRelease(version)
		if r.Major < 0 || r.Minor < 0 {
			t.Errorf("%q became %s", version, r)
		}
		if r != (Release{}) && ParseRelease(r.String()) != r {
			t.Errorf("%q became %s, which becomes %s", version, r, ParseRelease(r.String()))
		}
	})
}

// TestPathKind: what is counted by path is few.
func TestPathKind(t *testing.T) {
	for path, want := range map[string]string{
		"status/":                         "status",
		"ipam/ip-addresses/":              "ipam/ip-addresses",
		"ipam/ip-addresses/17/":           "ipam/ip-addresses/{id}",
		"ipam/prefixes/17/available-ips/": "ipam/prefixes/{id}/available-ips",
	} {
		if got := pathKind(path); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
}
