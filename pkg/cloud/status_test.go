// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go4.org/netipx"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/component-base/metrics/testutil"

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
	countDifferences(ipam.Report{Claims: make([]ipam.Claim, 4)}, []Difference{{Kind: Moved}, {Kind: Drifted}, {Kind: DifferenceKind(ipam.BadClaim)}, {Kind: Moved}})
	var list waitingList
	list.add(served("a"))
	list.add(served("b"))
	list.take(1)
	list.remove(served("b"))
	const want = `
# HELP bm_ccm_claims [ALPHA] Addresses that are recorded for Services of this cluster, as of the last comparison with the Services.
# TYPE bm_ccm_claims gauge
bm_ccm_claims 4
# HELP bm_ccm_ipam_conflicts [ALPHA] What a human must set right in the record of claims, by kind, as of the last comparison with the Services.
# TYPE bm_ccm_ipam_conflicts gauge
bm_ccm_ipam_conflicts{kind="bad-claim"} 1
bm_ccm_ipam_conflicts{kind="duplicate-address"} 0
bm_ccm_ipam_conflicts{kind="duplicate-claim"} 0
bm_ccm_ipam_conflicts{kind="foreign-owner"} 0
bm_ccm_ipam_conflicts{kind="moved"} 2
bm_ccm_ipam_conflicts{kind="same-cluster-name"} 0
# HELP bm_ccm_pool_addresses [ALPHA] Addresses of an AddressPool by IP family and state: capacity, used, free.
# TYPE bm_ccm_pool_addresses gauge
bm_ccm_pool_addresses{family="ipv4",pool="gold",state="capacity"} 8
bm_ccm_pool_addresses{family="ipv4",pool="gold",state="free"} 5
bm_ccm_pool_addresses{family="ipv4",pool="gold",state="used"} 3
# HELP bm_ccm_services_waiting [ALPHA] Services whose last try to get what they want has failed.
# TYPE bm_ccm_services_waiting gauge
bm_ccm_services_waiting 1
`
	names := []string{"bm_ccm_claims", "bm_ccm_ipam_conflicts", "bm_ccm_pool_addresses", "bm_ccm_services_waiting"}
	if err := testutil.GatherAndCompare(legacyregistry.DefaultGatherer, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
	forgetPool("gold")
	if err := testutil.GatherAndCompare(legacyregistry.DefaultGatherer, strings.NewReader(""), "bm_ccm_pool_addresses"); err != nil {
		t.Error(err)
	}
}
