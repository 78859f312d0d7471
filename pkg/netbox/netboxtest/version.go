// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

import (
	"fmt"
	"strconv"
	"strings"
)

// Versions are the NetBox releases that the double can stand for: the newest
// patch of each minor release that was measured.
var Versions = []string{"4.4.10", "4.5.9", "4.6.8", "4.7.3"}

// version is a NetBox release.
type version struct{ major, minor, patch int }

// String is the release as NetBox gives it.
func (v version) String() string { return fmt.Sprintf("%d.%d.%d", v.major, v.minor, v.patch) }

// api is the value of the API-Version header.
func (v version) api() string { return fmt.Sprintf("%d.%d", v.major, v.minor) }

// atLeast reports whether v is the given release or a newer one.
func (v version) atLeast(major, minor, patch int) bool { //nolint:unparam // NetBox 5 comes
	if v.major != major {
		return v.major > major
	}
	if v.minor != minor {
		return v.minor > minor
	}
	return v.patch >= patch
}

// parseVersion reads "4.6" or "4.6.8"; a minor release alone means its newest
// known patch, and nothing means the newest of all.
func parseVersion(s string) (version, error) {
	if s == "" {
		s = Versions[len(Versions)-1]
	}
	for _, known := range Versions {
		if strings.Count(s, ".") == 1 && strings.HasPrefix(known, s+".") {
			s = known
		}
	}
	var v version
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return v, unknownVersion(s)
	}
	for i, dst := range []*int{&v.major, &v.minor, &v.patch} {
		n, err := strconv.Atoi(parts[i])
		if err != nil || n < 0 {
			return v, unknownVersion(s)
		}
		*dst = n
	}
	if !v.atLeast(4, 4, 10) || v.atLeast(4, 8, 0) {
		return v, unknownVersion(s)
	}
	return v, nil
}

// unknownVersion refuses what the double was never compared with.
func unknownVersion(s string) error {
	return fmt.Errorf("version %q: want 4.4, 4.5, 4.6 or 4.7, or a release of them from 4.4.10 on", s)
}

// The methods below name what changed between the releases, so that no comparison
// with a number stands anywhere else. Most were read in NetBox's source, and those
// that bm-ccm depends on tried on a running one (conformance/netbox): tokens of
// version 2, owners, authentication-check (4.5), prefix_length in claims (4.5.1),
// omit= (4.5.2), unknown custom fields refused instead of dropped (4.5.8), writes
// without a slash at the end refused instead of redirected (4.5.9), ETags, cursors,
// add_tags and remove_tags, translations of primary addresses (4.6), errors of
// lists by item, and an empty claim that does no harm (4.7).

func (v version) v2Tokens() bool           { return v.atLeast(4, 5, 0) }
func (v version) owner() bool              { return v.atLeast(4, 5, 0) }
func (v version) authCheck() bool          { return v.atLeast(4, 5, 0) }
func (v version) prefixLength() bool       { return v.atLeast(4, 5, 1) }
func (v version) omit() bool               { return v.atLeast(4, 5, 2) }
func (v version) rejectsUnknownCF() bool   { return v.atLeast(4, 5, 8) }
func (v version) noSlashIs404() bool       { return v.atLeast(4, 5, 9) }
func (v version) etags() bool              { return v.atLeast(4, 6, 0) }
func (v version) cursorPaging() bool       { return v.atLeast(4, 6, 0) }
func (v version) incrementalTags() bool    { return v.atLeast(4, 6, 0) }
func (v version) primaryWithNAT() bool     { return v.atLeast(4, 6, 0) }
func (v version) bulkItemErrors() bool     { return v.atLeast(4, 7, 0) }
func (v version) emptyClaimHarmless() bool { return v.atLeast(4, 7, 0) }

// nonFieldKey is the key of errors that belong to no field and come from a
// serializer; those of models are always "__all__".
func (v version) nonFieldKey() string {
	if v.atLeast(4, 7, 0) {
		return "__all__"
	}
	return "non_field_errors"
}
