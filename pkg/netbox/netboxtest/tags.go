// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

import (
	"slices"
)

// decodeTags reads tags (which replaces the set) and, from 4.6 on, add_tags
// and remove_tags.
func (s *Server) decodeTags(o, old *object, in map[string]any, errs fieldErrors) {
	sets := map[string][]int64{}
	for _, key := range []string{"tags", "add_tags", "remove_tags"} {
		v, given := in[key]
		if !given || key != "tags" && !s.version.incrementalTags() {
			continue
		}
		ids, msg := s.decodeRefs(tag, v)
		if msg != "" {
			errs[key] = []string{msg}
			return
		}
		sets[key] = ids.([]int64)
	}
	if len(sets["tags"]) > 0 && len(sets["add_tags"])+len(sets["remove_tags"]) > 0 {
		errs["tags"] = `Cannot specify "tags" together with "add_tags" or "remove_tags".`
		return
	}
	if old == nil && len(sets["remove_tags"]) > 0 {
		errs["remove_tags"] = `Cannot use "remove_tags" when creating a new object.`
		return
	}
	if ids, given := sets["tags"]; given {
		o.tags = nil
		o.tags = union(o.tags, ids)
	}
	o.tags = union(o.tags, sets["add_tags"])
	o.tags = slices.DeleteFunc(o.tags, func(id int64) bool { return slices.Contains(sets["remove_tags"], id) })
}

// union is a set of ids, ascending.
func union(a, b []int64) []int64 {
	for _, id := range b {
		if !slices.Contains(a, id) {
			a = append(a, id)
		}
	}
	slices.Sort(a)
	return a
}
