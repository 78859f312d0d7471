// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

// newUser describes users. The password is read and forgotten: nobody logs in here.
func newUser() *model {
	return &model{
		ctype: "users.user", name: "User", path: "users/users", plain: true, timeless: true,
		brief: words("id url display username"), search: words("username"),
		fields: []field{
			need(only1(text("username", 150))),
			{name: "password", kind: textField, max: 128, def: "", hidden: true},
			text("first_name", 150), text("last_name", 150), text("email", 254),
			flag("is_active", true), {name: "is_superuser", kind: boolField, def: false, hidden: true},
			computed("permissions", func(s *Server, a *answer, o *object) any { return a.permissionsOf(o.id) }),
		},
		order:   byText("username"),
		display: func(_ *Server, o *object) string { return o.str("username") },
		onWrite: func(s *Server) { s.authChanged() },
	}
}

// newToken describes tokens. The token itself is shown in the answer to its creation
// only.
func newToken() *model {
	return &model{
		ctype: "users.token", name: "Token", path: "users/tokens", plain: true, timeless: true,
		brief: words("id url display version key enabled write_enabled description"), search: words("description"),
		fields: []field{
			{name: "version", kind: intField, since: version.v2Tokens},
			{name: "key", kind: textField, max: 64, def: ""},
			need(cascade(ref("user", "users/users"))),
			text("description", 200),
			computed("created", func(_ *Server, _ *answer, o *object) any { return timeText(o.created) }),
			{name: "expires", kind: timeField, nullable: true},
			{name: "enabled", kind: boolField, def: true, since: version.v2Tokens}, flag("write_enabled", true),
			{name: "allowed_ips", kind: stringsField},
			{name: "token", kind: textField, max: 64, def: "", hidden: true},
		},
		display: func(_ *Server, o *object) string { return tokenText(o) },
		clean:   cleanToken,
		onWrite: func(s *Server) { s.authChanged() },
	}
}

// newPermission describes permissions.
func newPermission() *model {
	return &model{
		ctype: "users.objectpermission", name: "ObjectPermission", path: "users/permissions", plain: true, timeless: true,
		brief: words("id url display name description enabled object_types actions"), search: words("name description"),
		fields: []field{
			need(text("name", 100)), text("description", 200), flag("enabled", true),
			need(field{name: "object_types", kind: stringsField}), need(field{name: "actions", kind: stringsField}),
			{name: "constraints", kind: jsonField, nullable: true},
			computed("groups", func(*Server, *answer, *object) any { return []doc{} }),
			refs("users", "users/users"),
		},
		order:   byText("name"),
		clean:   cleanPermission,
		onWrite: func(s *Server) { s.authChanged() },
	}
}
