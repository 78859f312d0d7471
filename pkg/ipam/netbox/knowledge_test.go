// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

func TestKnowledge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, away := 0, false
		var wrong *problem
		k := newKnowledge(func(context.Context) (int, *problem, error) {
			time.Sleep(time.Second)
			if away {
				return 0, nil, &ipam.UnavailableError{Doing: "asking", Err: errors.New("away")}
			}
			asked++
			return asked, wrong, nil
		})
		want := func(maxAge time.Duration, value int, ok bool) {
			t.Helper()
			if got, _, err := k.now(t.Context(), maxAge); (err == nil) != ok || ok && got != value {
				t.Errorf("after %d answers: got %d, %v; want %d", asked, got, err, value)
			}
		}
		away = true
		want(time.Minute, 0, false) // nothing is known yet
		away = false
		var wg sync.WaitGroup
		for range 9 { // one of them asks for all
			wg.Go(func() { want(time.Minute, 1, true) })
		}
		wg.Wait()
		time.Sleep(50 * time.Second)
		want(time.Minute, 1, true)
		want(0, 2, true)
		time.Sleep(time.Minute)
		want(time.Minute, 3, true)
		k.expire()
		want(time.Minute, 4, true)

		away = true
		time.Sleep(time.Minute)
		want(time.Minute, 4, true) // what was known
		before := time.Now()
		want(time.Minute, 4, true) // without waiting for NetBox again
		if waited := time.Since(before); waited > 0 {
			t.Errorf("waited %s", waited)
		}
		want(0, 0, false)
		time.Sleep(absentTTL)
		away, wrong = false, &problem{sentence: "nothing there"}
		want(time.Minute, 5, true)
		time.Sleep(absentTTL) // a problem is not remembered for long
		want(time.Minute, 6, true)
	})
}

func TestKnowledgeEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKnowledge(func(context.Context) (int, *problem, error) { time.Sleep(time.Hour); return 1, nil, nil })
		go k.now(context.Background(), time.Minute) //nolint:errcheck // the slow one
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := k.now(ctx, time.Minute); !errors.As(err, new(*ipam.UnavailableError)) {
			t.Errorf("got %v", err)
		}
		time.Sleep(2 * time.Hour)
	})
}

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

func TestStockPick(t *testing.T) {
	rec := func(id int64, addr, status, claim string) stockRecord {
		r := stockRecord{}
		if err := r.UnmarshalJSON([]byte(`{"id":1,"address":"` + addr + `","last_updated":"2026-01-01T00:00:00Z"}`)); err != nil {
			t.Fatal(err)
		}
		r.id, r.status, r.claim = id, status, claim
		return r
	}
	given := rec(4, "192.0.2.3/24", "reserved", "")
	given.foreign = true
	records := []stockRecord{
		rec(1, "192.0.2.0/24", "reserved", ""), rec(2, "192.0.2.1/24", "active", "lab/a/b/ipv4"), rec(3, "192.0.2.2/24", "reserved", "lab/a/kept/ipv4"), given,
		rec(5, "192.0.2.4/24", "reserved", ""), rec(6, "192.0.2.4/24", "active", "lab/other/vrf/ipv4"), rec(7, "192.0.2.9/24", "reserved", ""),
		rec(8, "2001:db8::/64", "reserved", ""),
	}
	s := &stock{inHand: map[int64]bool{}, list: newKnowledge[[]stockRecord](nil)}
	s.list.amend(func(list *[]stockRecord) { *list = records })
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

func TestFullSentence(t *testing.T) {
	var sources []source
	for _, text := range []string{"192.0.2.0/30", "192.0.2.4/30", "192.0.2.8/30", "192.0.2.12/30", "192.0.2.16/30", "192.0.2.20/30"} {
		p := netboxPrefix(t, text)
		sources = append(sources, p)
	}
	p := ipam.Pool{Name: "p", Spec: v1alpha1.AddressPoolSpec{NetBox: &v1alpha1.NetBoxSource{}}}
	want := `pool "p": 0 of 12 addresses free in 192.0.2.0/30, 192.0.2.4/30, 192.0.2.8/30, 192.0.2.12/30 and 2 more`
	if got := fullSentence(p, sources); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := fullSentence(p, nil); !strings.Contains(got, "no addresses of this IP family") {
		t.Error(got)
	}
}
