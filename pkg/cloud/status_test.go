// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go4.org/netipx"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/component-base/metrics/testutil"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/service/servicetest"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// Who waits is woken when NetBox has other addresses for a pool than before.
func TestFoundAddressesWake(t *testing.T) {
	woken := 0
	w := &statusWriter{recovered: func() { woken++ }, found: map[string][]netipx.IPRange{}}
	pool := func(found ...string) ipam.Pool {
		p := ipam.Pool{Name: "p"}
		for _, f := range found {
			p.Found = append(p.Found, netipx.MustParseIPRange(f))
		}
		return p
	}
	for _, step := range []struct {
		pool  ipam.Pool
		woken int
	}{
		{pool("192.0.2.0-192.0.2.7"), 0},
		{pool("192.0.2.0-192.0.2.7"), 0},
		{pool("192.0.2.0-192.0.2.7", "198.51.100.0-198.51.100.7"), 1},
		{pool(), 2},
		{pool(), 2},
	} {
		w.noteFound(step.pool)
		if woken != step.woken {
			t.Errorf("%v: woken %d times, want %d", step.pool.Found, woken, step.woken)
		}
	}
}

// Who had no answer from NetBox is woken when it answers, and not over and over
// by a NetBox that answers only questions.
func TestAnswersAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		woken := 0
		w := &statusWriter{recovered: func() { woken++ }, away: true}
		for _, step := range []struct {
			pass  time.Duration
			away  bool
			woken int
		}{
			{0, true, 0},
			{time.Second, false, 1},
			{time.Second, false, 1},
			{statusPeriod, false, 2},
		} {
			time.Sleep(step.pass)
			w.away = step.away
			if w.answersAgain(); woken != step.woken {
				t.Errorf("%+v: woken %d times", step, woken)
			}
		}
	})
}

func TestMetrics(t *testing.T) {
	countPool("gold", map[ipam.Family]ipam.Usage{ipam.IPv4: {Capacity: 8, Used: 3, Free: 5}})
	list := newWaitingList()
	list.add(servicetest.Served("a"))
	list.add(servicetest.Served("b"))
	list.take(1)
	list.remove(servicetest.Served("b"))
	const want = `
# HELP bm_ccm_pool_addresses [ALPHA] Addresses of an AddressPool by IP family and state: capacity, used, free.
# TYPE bm_ccm_pool_addresses gauge
bm_ccm_pool_addresses{family="ipv4",pool="gold",state="capacity"} 8
bm_ccm_pool_addresses{family="ipv4",pool="gold",state="free"} 5
bm_ccm_pool_addresses{family="ipv4",pool="gold",state="used"} 3
# HELP bm_ccm_services_waiting [ALPHA] Services whose last try to get what they want has failed.
# TYPE bm_ccm_services_waiting gauge
bm_ccm_services_waiting 1
`
	names := []string{"bm_ccm_pool_addresses", "bm_ccm_services_waiting"}
	if err := testutil.GatherAndCompare(legacyregistry.DefaultGatherer, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
	forgetPool("gold")
	if err := testutil.GatherAndCompare(legacyregistry.DefaultGatherer, strings.NewReader(""), "bm_ccm_pool_addresses"); err != nil {
		t.Error(err)
	}
}

func TestPoolStatus(t *testing.T) {
	pool := &v1alpha1.AddressPool{Spec: v1alpha1.AddressPoolSpec{Addresses: []string{"192.0.2.0/30"}}}
	full := poolStatus(pool, map[ipam.Family]ipam.Usage{ipam.IPv4: {Capacity: 4, Used: 4}}, nil)
	if full.IPv4.Used != 4 || full.IPv6 != nil || full.Source != "inline" {
		t.Errorf("%+v", full)
	}
	checkCondition(t, full, v1alpha1.ConditionReady, "True")
	checkCondition(t, full, v1alpha1.ConditionExhausted, "True")

	pool.Spec = v1alpha1.AddressPoolSpec{NetBox: &v1alpha1.NetBoxSource{}}
	pool.Status = full
	down := poolStatus(pool, nil, &ipam.UnavailableError{Doing: "counting", Err: errors.New("connection refused")})
	if down.IPv4 == nil || down.IPv4.Used != 4 {
		t.Error("an outage wiped the last known counts")
	}
	checkCondition(t, down, v1alpha1.ConditionReady, "False")
	checkCondition(t, down, v1alpha1.ConditionNetBoxReachable, "False")

	wrong := poolStatus(pool, nil, &ipam.ConfigError{Problem: "no such prefix"})
	checkCondition(t, wrong, v1alpha1.ConditionReady, "False")
	checkCondition(t, wrong, v1alpha1.ConditionNetBoxReachable, "True")
}

func TestWaker(t *testing.T) {
	list := newWaitingList()
	for _, name := range []string{"a", "b", "c"} {
		list.add(servicetest.Served(name))
	}
	list.remove(servicetest.Served("b"))
	woken := make(chan string, 3)
	w := newWaker(list, func(key string) bool { woken <- key; return true })
	go w.run(t.Context())
	w.one()
	if first := <-woken; first != "default/a" {
		t.Errorf("%s is woken first, which has not waited longest", first)
	}
	w.one()
	if second := <-woken; second != "default/c" {
		t.Errorf("%s is woken, which is being tried already or does not wait", second)
	}
	// A change may come after they have looked: all are tried once more, once each.
	w.all()
	w.all()
	got := []string{<-woken, <-woken}
	slices.Sort(got)
	if got[0] != "default/a" || got[1] != "default/c" {
		t.Errorf("woken: %v", got)
	}
	select {
	case key := <-woken:
		t.Errorf("%s is woken twice", key)
	case <-time.After(2 * wakePause):
	}
}

func checkCondition(t *testing.T, s v1alpha1.AddressPoolStatus, kind, want string) {
	t.Helper()
	c := meta.FindStatusCondition(s.Conditions, kind)
	if c == nil || string(c.Status) != want || c.Message == "" {
		t.Errorf("%s: %+v, want %s with a message", kind, c, want)
	}
}
