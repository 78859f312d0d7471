// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

// object is one row. It is never changed once it is in a table: a change puts
// a changed copy there, so that undoing is putting the old one back.
type object struct {
	id int64
	// vals holds, by field name: string, bool, int64, float64, netip.Prefix,
	// []int64 (references), []string, time.Time, decoded JSON, or nil. A
	// reference that points nowhere is int64(0).
	vals map[string]any
	// cf holds the custom fields that have a value.
	cf   map[string]any
	tags []int64
	// createdBy is the id of the request that made it.
	createdBy        string
	created, updated time.Time
}

// clone returns a copy that may be changed.
func (o *object) clone() *object {
	c := *o
	c.vals, c.cf, c.tags = maps.Clone(o.vals), maps.Clone(o.cf), slices.Clone(o.tags)
	return &c
}

func (o *object) str(name string) string          { v, _ := o.vals[name].(string); return v }
func (o *object) num(name string) int64           { v, _ := o.vals[name].(int64); return v }
func (o *object) yes(name string) bool            { v, _ := o.vals[name].(bool); return v }
func (o *object) prefix(name string) netip.Prefix { v, _ := o.vals[name].(netip.Prefix); return v }
func (o *object) ints(name string) []int64        { v, _ := o.vals[name].([]int64); return v }
func (o *object) strs(name string) []string       { v, _ := o.vals[name].([]string); return v }

// cfValue is one value of one custom field, as the key of an index.
type cfValue struct{ name, value string }

// table holds the rows of one model.
type table struct {
	m    *model
	last int64
	rows map[int64]*object
	// ids are the keys of rows, ascending.
	ids []int64
	// byCF finds the rows that hold a custom field value of type text.
	byCF map[cfValue]map[int64]struct{}
}

// newTable returns a table without rows.
func newTable(m *model) *table {
	return &table{m: m, rows: map[int64]*object{}, byCF: map[cfValue]map[int64]struct{}{}}
}

// set makes o (or, if nil, nothing) the row id, and keeps the indexes.
func (s *Server) set(t *table, id int64, o *object) {
	if old := t.rows[id]; old != nil {
		s.unindex(t, old)
		delete(t.rows, id)
		if o == nil {
			if i, ok := slices.BinarySearch(t.ids, id); ok {
				t.ids = slices.Delete(t.ids, i, i+1)
			}
		}
	} else if o != nil {
		i, _ := slices.BinarySearch(t.ids, id)
		t.ids = slices.Insert(t.ids, i, id)
	}
	if o != nil {
		t.rows[id] = o
		s.index(t, o)
	}
	t.m.touched(s)
}

// index keeps what finds a row: its custom fields and, of an address, its host. Without
// it a test with 10 000 addresses would take minutes.
func (s *Server) index(t *table, o *object) {
	for name, v := range o.cf {
		text, ok := v.(string)
		if !ok {
			continue
		}
		k := cfValue{name, text}
		if t.byCF[k] == nil {
			t.byCF[k] = map[int64]struct{}{}
		}
		t.byCF[k][o.id] = struct{}{}
	}
	if t.m == ipAddress {
		s.space.add(o.num("vrf"), o.prefix("address").Addr(), o.id)
		if in := o.num("nat_inside"); in != 0 {
			s.natOutside[in] = append(s.natOutside[in], o.id)
		}
	}
}

// unindex undoes index.
func (s *Server) unindex(t *table, o *object) {
	for name, v := range o.cf {
		text, ok := v.(string)
		if !ok {
			continue
		}
		k := cfValue{name, text}
		delete(t.byCF[k], o.id)
		if len(t.byCF[k]) == 0 {
			delete(t.byCF, k)
		}
	}
	if t.m == ipAddress {
		s.space.remove(o.num("vrf"), o.prefix("address").Addr(), o.id)
		if in := o.num("nat_inside"); in != 0 {
			s.natOutside[in] = slices.DeleteFunc(s.natOutside[in], func(id int64) bool { return id == o.id })
		}
	}
}

// tx is a transaction: what it did can be undone. Ids are not given back, as
// in a database.
type tx struct {
	s    *Server
	by   string
	user string
	undo []undo
}

// undo is a row as it was before a change; nil if there was none.
type undo struct {
	t    *table
	id   int64
	prev *object
}

// put stores a row.
func (x *tx) put(t *table, o *object) {
	x.undo = append(x.undo, undo{t, o.id, t.rows[o.id]})
	x.s.set(t, o.id, o)
}

// create gives o its id and times and stores it.
func (x *tx) create(t *table, o *object) {
	t.last++
	o.id = t.last
	o.created, o.updated, o.createdBy = x.s.now(), x.s.now(), x.by
	o.updated = o.created
	x.put(t, o)
}

// update stores a changed row.
func (x *tx) update(t *table, o *object) {
	o.updated = x.s.now()
	x.put(t, o)
}

// remove deletes a row.
func (x *tx) remove(t *table, id int64) {
	x.undo = append(x.undo, undo{t, id, t.rows[id]})
	x.s.set(t, id, nil)
}

// rollback puts back what the transaction has changed, last change first.
func (x *tx) rollback() {
	for _, u := range slices.Backward(x.undo) {
		x.s.set(u.t, u.id, u.prev)
	}
	x.undo = nil
}

// now is the time of the next change: in microseconds, as PostgreSQL keeps it,
// and never the same twice, so that every change has an ETag of its own.
func (s *Server) now() time.Time {
	t := time.Now().UTC().Truncate(time.Microsecond)
	if !t.After(s.lastChange) {
		t = s.lastChange.Add(time.Microsecond)
	}
	s.lastChange = t
	return t
}
