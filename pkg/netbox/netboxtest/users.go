// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

import (
	"strings"
)

// cleanToken completes a token: without one of its own, NetBox makes it up.
func cleanToken(s *Server, o, old *object) fieldErrors {
	if old != nil {
		return nil
	}
	if o.str("token") == "" {
		o.vals["token"] = o.str("key") // before 4.5 the key is the token
		if s.version.v2Tokens() || o.str("key") == "" {
			o.vals["token"] = s.newToken(o)
		}
	}
	t := o.str("token")
	if s.auth[t] != nil {
		return fieldError("token", "token with this token already exists.")
	}
	o.vals["key"] = tokenKey(t)
	o.vals["version"] = int64(1)
	if strings.HasPrefix(t, tokenPrefix) {
		o.vals["version"] = int64(2)
	}
	return nil
}

// newToken makes up a token: of version 2 where there is one, unless version 1
// was asked for.
func (s *Server) newToken(o *object) string {
	random := func(n int) string { return strings.ReplaceAll(newUUID()+newUUID(), "-", "")[:n] }
	if !s.version.v2Tokens() || o.num("version") == 1 {
		return random(40)
	}
	return tokenPrefix + random(12) + "." + random(40)
}

// cleanPermission checks that the constraints of a permission can be used.
func cleanPermission(s *Server, o, _ *object) fieldErrors {
	for _, ct := range o.strs("object_types") {
		m := byType[ct]
		if m == nil {
			return fieldError("object_types", "Invalid content type: %s", ct)
		}
		if c := o.vals["constraints"]; c != nil {
			if _, err := s.constraint(m, c, 0); err != nil {
				return fieldError("constraints", "Invalid filter for %s: %s", ct, err)
			}
		}
	}
	if len(o.strs("actions")) == 0 {
		return fieldError("actions", "At least one action must be selected.")
	}
	return nil
}
