// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxChanges is how many changes the change log keeps: enough for any test,
// little enough for a benchmark that makes millions.
const maxChanges = 20000

// change is one entry of the change log.
type change struct {
	id         int64
	at         time.Time
	user       string
	request    string
	action     string // create, update or delete
	objectType string
	objectID   int64
	text       string
}

// commit ends a transaction: from now on it can not be undone, and the change
// log has it.
func (x *tx) commit() {
	for _, u := range x.undo {
		now := x.s.tables[u.t.m].rows[u.id]
		c := change{
			at: x.s.lastChange, user: x.user, request: x.by, action: "update",
			objectType: u.t.m.ctype, objectID: u.id,
		}
		switch {
		case u.prev == nil && now != nil:
			c.action, c.text = "create", u.t.m.display(x.s, now)
		case now == nil && u.prev != nil:
			c.action, c.text = "delete", u.t.m.display(x.s, u.prev)
		case now != nil:
			c.text = u.t.m.display(x.s, now)
		}
		x.s.note(c)
	}
	x.undo = nil
}

// note appends to the change log.
func (s *Server) note(c change) {
	c.id = 1
	if n := len(s.changes); n > 0 {
		c.id = s.changes[n-1].id + 1
	}
	if len(s.changes) >= 2*maxChanges {
		s.changes = append([]change(nil), s.changes[len(s.changes)-maxChanges:]...)
	}
	s.changes = append(s.changes, c)
}

// changesView lists the change log, newest first.
// changeFilters are the filters of object changes that are served.
var changeFilters = []string{"changed_object_type", "changed_object_id", "user_name", "request_id", "action"}

func (s *Server) changesView(q *request) *response {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !q.who.super {
		return forbidden()
	}
	v := q.URL.Query()
	for key := range v {
		if !notFilters[key] && !slices.Contains(changeFilters, key) {
			return notImplemented("the filter %s of object changes", key)
		}
	}
	limit := resultsLimit(v)
	offset, _ := strconv.Atoi(v.Get("offset"))
	count, out := 0, []doc{}
	for _, v0 := range slices.Backward(s.changes) {
		c := &v0
		if !c.matches(v.Get) {
			continue
		}
		if count >= offset && len(out) < limit {
			out = append(out, c.doc(q))
		}
		count++
	}
	var next any
	if offset+limit < count {
		next = q.link(map[string]int64{"limit": int64(limit), "offset": int64(offset + limit)})
	}
	return &response{status: http.StatusOK, body: doc{{"count", count}, {"next", next}, {"previous", nil}, {"results", out}}}
}

// matches reports whether an entry is one that the filters of a list want.
func (c *change) matches(want func(string) string) bool {
	for key, have := range map[string]string{
		"changed_object_type": c.objectType, "changed_object_id": strconv.FormatInt(c.objectID, 10),
		"user_name": c.user, "request_id": c.request, "action": c.action,
	} {
		if w := want(key); w != "" && w != have {
			return false
		}
	}
	return true
}

// doc is an entry in an answer.
func (c *change) doc(q *request) doc {
	label := strings.ToUpper(c.action[:1]) + strings.TrimSuffix(c.action[1:], "e") + "ed"
	return doc{
		{"id", c.id},
		{"url", q.base() + "/api/core/object-changes/" + strconv.FormatInt(c.id, 10) + "/"},
		{"display", c.objectType + " " + c.text + " " + strings.ToLower(label)},
		{"time", timeText(c.at)}, {"user_name", c.user}, {"request_id", c.request},
		{"action", doc{{"value", c.action}, {"label", label}}},
		{"changed_object_type", c.objectType}, {"changed_object_id", c.objectID}, {"object_repr", c.text},
	}
}
