// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

import (
	"encoding/json"
	"fmt"
)

// WriteBehindBack stores an address as a writer does that takes no lock and
// loses the race: the web UI, a script, a CSV import. What is checked is that
// its fields can be read; duplicates of hosts and of unique custom fields go
// in. data is what the API takes; with an "id" that address is changed. It
// returns the id.
func (s *Server) WriteBehindBack(data map[string]any) (int64, error) {
	b, err := json.Marshal(data)
	if err != nil {
		return 0, fmt.Errorf("writing an address: %w", err)
	}
	in, err := decodeJSON(b)
	if err != nil {
		return 0, fmt.Errorf("writing an address: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o, old := s.blank(ipAddress), (*object)(nil)
	if id, ok := integer(data["id"]); ok {
		if old = s.tables[ipAddress].rows[id]; old == nil {
			return 0, fmt.Errorf("writing an address: no address has id %d", id)
		}
		o = old.clone()
	}
	errs := fieldErrors{}
	fields := in.(map[string]any)
	for i := range ipAddress.fields {
		f := &ipAddress.fields[i]
		if v, given := fields[f.name]; given && f.kind != computedField {
			s.decodeField(f, o, v, errs)
		}
	}
	s.decodeTags(o, old, fields, errs)
	s.decodeCustomFields(ipAddress, o, old == nil, fields, errs)
	if !o.prefix("address").IsValid() {
		errs["address"] = "This field is required."
	}
	if len(errs) > 0 {
		return 0, fmt.Errorf("writing an address: %w", errs.asError())
	}
	x := &tx{s: s, user: "ui"}
	if old == nil {
		x.create(s.tables[ipAddress], o)
	} else {
		x.update(s.tables[ipAddress], o)
	}
	x.commit()
	return o.id, nil
}

// Address is an address record, for assertions of tests.
type Address struct {
	ID           int64
	Address      string // with mask
	VRF          string // name; empty is the global table
	Status, Role string
	DNSName      string
	Description  string
	CustomFields map[string]any
	Tags         []string // slugs
}

// Addresses returns all address records, in the order of their ids.
func (s *Server) Addresses() []Address {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.tables[ipAddress]
	out := make([]Address, 0, len(t.ids))
	for _, id := range t.ids {
		o := t.rows[id]
		a := Address{
			ID: id, Address: o.prefix("address").String(), Status: o.str("status"), Role: o.str("role"),
			DNSName: o.str("dns_name"), Description: o.str("description"), CustomFields: o.clone().cf,
		}
		if v := s.tables[vrf].rows[o.num("vrf")]; v != nil {
			a.VRF = v.str("name")
		}
		for _, tid := range o.tags {
			a.Tags = append(a.Tags, s.tables[tag].rows[tid].str("slug"))
		}
		out = append(out, a)
	}
	return out
}
