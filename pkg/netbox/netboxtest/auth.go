// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/bm-ccm/bm-ccm/pkg/netbox/schema"
)

// DefaultToken is the superuser's token of a Server that was given none. It is
// a v1 token, which every release up to 4.7 accepts.
const DefaultToken = "0123456789abcdef0123456789abcdef01234567"

// tokenPrefix begins the tokens of version 2, "nbt_<key>.<secret>".
const tokenPrefix = "nbt_"

// Token is an API token, with the user that it belongs to.
type Token struct {
	// User is the name of the user, who is made if there is none. Tokens of one
	// user share superuser status and permissions. It defaults to "admin".
	User string `json:"user,omitempty"`
	// Key is the whole token as clients send it: "nbt_<key>.<secret>" (4.5 and
	// newer), or anything else for version 1.
	Key string `json:"key"`
	// Superuser may do everything.
	Superuser bool `json:"superuser,omitempty"`
	// ReadOnly tokens may not write, whatever the user may.
	ReadOnly bool `json:"readOnly,omitempty"`
	// Disabled tokens are refused.
	Disabled bool `json:"disabled,omitempty"`
	// Expires is when it ends; zero is never.
	Expires time.Time `json:"expires,omitzero"`
	// AllowedIPs are the networks that it may be used from; none is all.
	AllowedIPs []string `json:"allowedIPs,omitempty"`
	// Permissions of the user, beyond those that other tokens gave.
	Permissions []Permission `json:"permissions,omitempty"`
}

// Permission lets a user do something with some objects.
type Permission struct {
	Name string `json:"name,omitempty"`
	// ObjectTypes are types like "ipam.ipaddress".
	ObjectTypes []string `json:"objectTypes"`
	// Actions are view, add, change and delete.
	Actions []string `json:"actions"`
	// Constraints is a Django filter, or a list of them of which one must
	// match: {"custom_field_data__k8s_cluster": "c1"}. Nil is all objects.
	Constraints any `json:"constraints,omitempty"`
}

// FencedPermissions are the permissions of a cluster's token: it may see
// everything that bm-ccm reads, and write only addresses whose custom field
// k8s_cluster has this value.
func FencedPermissions(cluster string) []Permission {
	var viewed []string
	for _, v := range schema.Views() {
		viewed = append(viewed, v.ObjectType)
	}
	return []Permission{
		{Name: cluster + " view", Actions: []string{"view"}, ObjectTypes: viewed},
		{
			Name: cluster + " addresses", Actions: []string{"add", "change", "delete"},
			ObjectTypes: []string{schema.ObjectType}, Constraints: map[string]any{schema.ClusterConstraint: cluster},
		},
	}
}

// identity is who a token stands for.
type identity struct {
	user     int64
	username string
	super    bool
	grants   []grant
	token    *object
}

// grant is one permission of a user.
type grant struct {
	types, actions []string
	constraints    any
}

// authTable finds identities by the whole token.
type authTable map[string]*identity

// authChanged rebuilds the table of identities.
func (s *Server) authChanged() {
	s.auth = authTable{}
	for _, t := range s.tables[token].rows {
		u := s.tables[user].rows[t.num("user")]
		if u == nil || !u.yes("is_active") {
			continue
		}
		s.auth[t.str("token")] = &identity{
			user: u.id, username: u.str("username"), super: u.yes("is_superuser"), token: t, grants: s.grantsOf(u.id),
		}
	}
}

// grantsOf collects a user's permissions. Groups are not kept, so there are no others.
func (s *Server) grantsOf(userID int64) []grant {
	var gs []grant
	for _, id := range s.tables[permission].ids {
		p := s.tables[permission].rows[id]
		if p.yes("enabled") && slices.Contains(p.ints("users"), userID) {
			gs = append(gs, grant{p.strs("object_types"), p.strs("actions"), p.vals["constraints"]})
		}
	}
	return gs
}

// authenticate finds who asks. All that goes wrong is a 403, never a 401.
func (s *Server) authenticate(q *request) *response {
	words := strings.Fields(q.Header.Get("Authorization"))
	if len(words) == 0 || !strings.EqualFold(words[0], "Token") && !strings.EqualFold(words[0], "Bearer") {
		return denied("Authentication credentials were not provided.")
	}
	if len(words) != 2 {
		return denied(`Invalid authorization header: Must be in the form "Bearer <key>.<token>" or "Token <token>"`)
	}
	who, fail := s.identify(words[0], words[1])
	if fail != nil {
		return fail
	}
	if fail := usable(who.token, q); fail != nil {
		return fail
	}
	q.who = who
	safe := q.Method == http.MethodGet || q.Method == http.MethodHead || q.Method == http.MethodOptions
	if !safe && !who.token.yes("write_enabled") {
		return forbidden()
	}
	return nil
}

// identify finds the token. From 4.5 on its version is told by its prefix, not
// by the keyword.
func (s *Server) identify(keyword, value string) (*identity, *response) {
	if !s.version.v2Tokens() {
		if !strings.EqualFold(keyword, "Token") {
			return nil, denied("Authentication credentials were not provided.")
		}
		if who := s.auth[value]; who != nil {
			return who, nil
		}
		return nil, denied("Invalid token")
	}
	n := 1
	if strings.HasPrefix(value, tokenPrefix) {
		n = 2
		if !strings.Contains(value, ".") {
			return nil, denied("Invalid authorization header: Could not parse key from v2 token. " +
				"Did you mean to use 'Token' instead of 'Bearer'?")
		}
	}
	if who := s.auth[value]; who != nil {
		return who, nil
	}
	return nil, denied(fmt.Sprintf("Invalid v%d token", n))
}

// usable checks what can be wrong with a token that exists.
func usable(t *object, q *request) *response {
	if nets := t.strs("allowed_ips"); len(nets) > 0 {
		client := clientIP(q)
		if !slices.ContainsFunc(nets, func(n string) bool {
			p, err := netip.ParsePrefix(n)
			return err == nil && p.Contains(client)
		}) {
			return denied(fmt.Sprintf("Source IP %s is not permitted to authenticate using this token.", client))
		}
	}
	if !t.yes("enabled") {
		return denied("Token disabled")
	}
	if end, ok := t.vals["expires"].(time.Time); ok && !end.IsZero() && !time.Now().Before(end) {
		return denied("Token expired")
	}
	return nil
}

// clientIP is where a request comes from. NetBox believes the headers of a proxy
// before the connection.
func clientIP(q *request) netip.Addr {
	first, _, _ := strings.Cut(q.Header.Get("X-Forwarded-For"), ",")
	for _, text := range []string{q.Header.Get("X-Real-IP"), first} {
		if a, err := netip.ParseAddr(strings.TrimSpace(text)); err == nil {
			return a.Unmap()
		}
	}
	ap, _ := netip.ParseAddrPort(q.RemoteAddr)
	return ap.Addr().Unmap()
}

// denied is how NetBox refuses who asks, always with 403.
func denied(text string) *response { return detail(http.StatusForbidden, "%s", text) }

// forbidden is how NetBox refuses what is asked for: also to a token that may only
// read, and to a write whose result lies outside of the permission.
func forbidden() *response {
	return denied("You do not have permission to perform this action.")
}

// may says which rows a request may act on: those that the predicate accepts
// (all if it is nil), or none at all, which is a 403.
func (s *Server) may(q *request, m *model, action string) (func(*object) bool, *response) {
	if q.who.super {
		return nil, nil
	}
	var some []func(*object) bool
	found := false
	for _, g := range q.who.grants {
		if !slices.Contains(g.types, m.ctype) || !slices.Contains(g.actions, action) {
			continue
		}
		found = true
		if g.constraints == nil {
			return nil, nil
		}
		match, err := s.constraint(m, g.constraints, q.who.user)
		if err != nil {
			return nil, notImplemented("the permission constraint %v: %v", g.constraints, err)
		}
		some = append(some, match)
	}
	if !found {
		return nil, forbidden()
	}
	return func(o *object) bool {
		return slices.ContainsFunc(some, func(match func(*object) bool) bool { return match(o) })
	}, nil
}

// AddToken adds a token, its user and its permissions, or changes the token
// with this key.
func (s *Server) AddToken(t Token) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := &tx{s: s, user: "seed"}
	if err := s.addToken(x, t); err != nil {
		x.rollback()
		return fmt.Errorf("token of user %q: %w", t.User, err)
	}
	return nil
}

// addToken stores a token with what it needs; the caller holds the lock.
func (s *Server) addToken(x *tx, t Token) error {
	if t.Key == "" {
		return errors.New("a token without a key")
	}
	if strings.HasPrefix(t.Key, tokenPrefix) && !s.version.v2Tokens() {
		return fmt.Errorf("NetBox %s has no tokens of version 2 (%s...)", s.version, tokenPrefix)
	}
	u, err := s.ensureUser(x, cmp.Or(t.User, "admin"), t.Superuser)
	if err != nil {
		return err
	}
	data := map[string]any{
		"user": u, "token": t.Key, "key": tokenKey(t.Key), "write_enabled": !t.ReadOnly, "enabled": !t.Disabled,
		"allowed_ips": anyList(t.AllowedIPs), "expires": nil,
	}
	if !t.Expires.IsZero() {
		data["expires"] = t.Expires.UTC().Format(time.RFC3339)
	}
	var old *object
	if who := s.auth[t.Key]; who != nil {
		old = who.token
	}
	if _, err := s.store(x, token, old, data); err != nil {
		return err
	}
	for i, p := range t.Permissions {
		name := cmp.Or(p.Name, fmt.Sprintf("%s %d", cmp.Or(t.User, "admin"), i+1))
		if _, err := s.store(x, permission, nil, map[string]any{
			"name": name, "object_types": anyList(p.ObjectTypes), "actions": anyList(p.Actions),
			"constraints": p.Constraints, "users": []any{u},
		}); err != nil {
			return fmt.Errorf("permission %q: %w", name, err)
		}
	}
	return nil
}

// ensureUser finds or makes a user. Superusers stay such.
func (s *Server) ensureUser(x *tx, name string, super bool) (int64, error) {
	for _, o := range s.tables[user].rows {
		if o.str("username") == name {
			c := o.clone()
			c.vals["is_superuser"] = super || o.yes("is_superuser")
			x.update(s.tables[user], c)
			return o.id, nil
		}
	}
	o, err := s.store(x, user, nil, map[string]any{"username": name, "is_superuser": super})
	if err != nil {
		return 0, err
	}
	return o.id, nil
}

// RevokeToken deletes a token: requests with it are answered 403 from now on.
func (s *Server) RevokeToken(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if who := s.auth[key]; who != nil {
		(&tx{s: s}).remove(s.tables[token], who.token.id)
	}
}

// RevokePermissions takes all permissions from a user, who then sees nothing
// and may do nothing.
func (s *Server) RevokePermissions(username string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := &tx{s: s}
	for _, u := range s.tables[user].rows {
		if u.str("username") != username {
			continue
		}
		plain := u.clone()
		plain.vals["is_superuser"] = false
		x.update(s.tables[user], plain)
		for _, p := range s.tables[permission].rows {
			c := p.clone()
			c.vals["users"] = slices.DeleteFunc(c.ints("users"), func(id int64) bool { return id == u.id })
			x.update(s.tables[permission], c)
		}
	}
}

// tokenKey is the public part of a token.
func tokenKey(key string) string {
	if rest, ok := strings.CutPrefix(key, tokenPrefix); ok {
		id, _, _ := strings.Cut(rest, ".")
		return id
	}
	return key
}

// tokenText is what NetBox shows of a token once it exists: the public key of
// version 2, the end of version 1.
func tokenText(o *object) string {
	if strings.HasPrefix(o.str("token"), tokenPrefix) {
		return tokenPrefix + o.str("key")
	}
	k := o.str("token")
	return "..." + k[max(0, len(k)-6):]
}

// anyList is a list as it would come out of JSON.
func anyList(l []string) []any {
	out := make([]any, 0, len(l))
	for _, v := range l {
		out = append(out, v)
	}
	return out
}
