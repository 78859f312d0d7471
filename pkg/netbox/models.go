// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// ObjectID is what every object has. Models embed it.
type ObjectID struct {
	ID int64 `json:"id"`
}

// Key returns the id, for List and FindOne.
func (o ObjectID) Key() int64 { return o.ID }

// Choice is a value with a label: {"value": "active", "label": "Active"}. The
// label is translated and may be renamed, so nobody should look at it.
type Choice struct {
	Value string `json:"value"`
}

// NamedObject is an object with a name, as it is nested in others.
type NamedObject struct {
	ObjectID
	Name string `json:"name"`
}

// IDOf returns the id of a nested object, 0 if there is none: an address in the
// global table has no VRF.
func IDOf(o *NamedObject) int64 {
	if o == nil {
		return 0
	}
	return o.ID
}

// NameOf returns the name of a nested object, "" if there is none.
func NameOf(o *NamedObject) string {
	if o == nil {
		return ""
	}
	return o.Name
}

// PathOf is the path of an object in a collection, which ends with a slash.
func PathOf(collection string, id int64) string { return fmt.Sprintf("%s%d/", collection, id) }

// Release is a minor release of NetBox. What NetBox can do, and what it does
// otherwise, changes with these and not with patch releases.
type Release struct{ Major, Minor int }

func (r Release) String() string { return fmt.Sprintf("%d.%d", r.Major, r.Minor) }

// AtLeast reports whether a release is another one or later.
func (r Release) AtLeast(other Release) bool {
	return r.Major > other.Major || r.Major == other.Major && r.Minor >= other.Minor
}

// ParseRelease reads a version like "4.7.3" or "4.10.0-beta1"; what is none
// becomes 0.0.
func ParseRelease(version string) Release {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return Release{}
	}
	major, err1 := strconv.ParseUint(parts[0], 10, 16)
	minor, err2 := strconv.ParseUint(parts[1], 10, 16)
	if err1 != nil || err2 != nil {
		return Release{}
	}
	return Release{int(major), int(minor)}
}

// V2Tokens is the first release with tokens of version 2, which also is the
// first one that tells whose token it was asked with.
var V2Tokens = Release{4, 5}

// Version returns NetBox's version, for example "4.7.3".
func (c *Client) Version(ctx context.Context) (string, error) {
	var out struct {
		Version string `json:"netbox-version"`
	}
	err := c.Do(ctx, Request{Doing: "asking NetBox for its version", Path: "status/"}, &out)
	return out.Version, err
}
