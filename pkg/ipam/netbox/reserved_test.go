// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"testing"
	"time"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

func TestETagOf(t *testing.T) {
	for in, want := range map[string]string{
		"2026-11-21T07:15:47.255309Z":      `W/"2026-11-21T07:15:47.255309+00:00"`,
		"2026-11-21T07:15:47.250000Z":      `W/"2026-11-21T07:15:47.250000+00:00"`,
		"2026-11-21T07:15:47Z":             `W/"2026-11-21T07:15:47+00:00"`,
		"2026-11-21T09:15:47.000001+02:00": `W/"2026-11-21T07:15:47.000001+00:00"`,
	} {
		at, err := time.Parse(time.RFC3339Nano, in)
		if err != nil {
			t.Fatal(err)
		}
		if got := etagOf(at); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

func TestPickReserved(t *testing.T) {
	rec := func(id int64, addr, status, claim string) reservedRecord {
		r := reservedRecord{}
		if err := r.UnmarshalJSON([]byte(`{"id":1,"address":"` + addr + `","last_updated":"2026-01-01T00:00:00Z"}`)); err != nil {
			t.Fatal(err)
		}
		r.id, r.status, r.claim = id, status, claim
		return r
	}
	given := rec(4, "192.0.2.3/24", "reserved", "")
	given.foreign = true
	records := []reservedRecord{
		rec(1, "192.0.2.0/24", "reserved", ""), rec(2, "192.0.2.1/24", "active", "lab/a/b/ipv4"), rec(3, "192.0.2.2/24", "reserved", "lab/a/kept/ipv4"), given,
		rec(5, "192.0.2.4/24", "reserved", ""), rec(6, "192.0.2.4/24", "active", "lab/other/vrf/ipv4"), rec(7, "192.0.2.9/24", "reserved", ""),
		rec(8, "2001:db8::/64", "reserved", ""),
	}
	s := &reservedPool{inFlight: map[int64]bool{}, list: newTTLCache[[]reservedRecord](nil)}
	s.list.update(func(list *[]reservedRecord) { *list = records })
	pick := func(f ipam.Family, avoid bool) int64 { r, _ := s.pick(f, avoid); return r.id }
	got := []int64{pick(ipam.IPv4, true), pick(ipam.IPv4, false), pick(ipam.IPv4, false), pick(ipam.IPv6, true), pick(ipam.IPv6, true)}
	for i, want := range []int64{7, 1, 0, 8, 0} {
		if got[i] != want {
			t.Errorf("pick %d: got record %d, want %d", i, got[i], want)
		}
	}
	if s.take(7) || !s.take(99) {
		t.Error("a record is in two hands, or in none")
	}
	want := map[ipam.Family]ipam.Usage{ipam.IPv4: {Capacity: 5, Used: 4, Free: 1}, ipam.IPv6: {Capacity: 1, Free: 1}}
	for f, u := range usageOf(records, true) {
		if u != want[f] {
			t.Errorf("%s: %+v, want %+v", f, u, want[f])
		}
	}
}
