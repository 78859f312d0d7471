// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// What the controller tells Prometheus about addresses, on the /metrics of the
// controller manager.
var (
	conflictCount = metrics.NewGaugeVec(&metrics.GaugeOpts{
		Name: "bm_ccm_ipam_conflicts", StabilityLevel: metrics.ALPHA,
		Help: "What a human must set right in the record of claims, by kind, as of the last comparison with the Services.",
	}, []string{"kind"})
	claimCount = metrics.NewGauge(&metrics.GaugeOpts{
		Name: "bm_ccm_claims", StabilityLevel: metrics.ALPHA,
		Help: "Addresses that are recorded for Services of this cluster, as of the last comparison with the Services.",
	})
	orphansFreed = metrics.NewCounter(&metrics.CounterOpts{
		Name: "bm_ccm_orphans_freed_total", StabilityLevel: metrics.ALPHA,
		Help: "Claims freed because their Service was gone.",
	})
	poolAddresses = metrics.NewGaugeVec(&metrics.GaugeOpts{
		Name: "bm_ccm_pool_addresses", StabilityLevel: metrics.ALPHA,
		Help: "Addresses of an AddressPool by IP family and state: capacity, used, free.",
	}, []string{"pool", "family", "state"})
	servicesWaiting = metrics.NewGauge(&metrics.GaugeOpts{
		Name: "bm_ccm_services_waiting", StabilityLevel: metrics.ALPHA,
		Help: "Services whose last try to get what they want has failed.",
	})
)

// The registry takes a metric once per process; without it, nothing is counted.
func init() {
	legacyregistry.MustRegister(conflictCount, claimCount, orphansFreed, poolAddresses, servicesWaiting)
}

// conflictKinds are the label values of bm_ccm_ipam_conflicts, so that each is
// there with 0 before it happens.
var conflictKinds = []DifferenceKind{
	Moved, DifferenceKind(ipam.DuplicateClaim), DifferenceKind(ipam.DuplicateAddress), DifferenceKind(ipam.ForeignOwner),
	DifferenceKind(ipam.SameClusterName), DifferenceKind(ipam.BadClaim),
}

// countDifferences sets the metrics of a comparison.
func countDifferences(report ipam.Report, differences []Difference) {
	claimCount.Set(float64(len(report.Claims)))
	counts := map[DifferenceKind]int{}
	for _, d := range differences {
		counts[d.Kind]++
	}
	for _, kind := range conflictKinds {
		conflictCount.WithLabelValues(string(kind)).Set(float64(counts[kind]))
	}
}

// countPool sets the metrics of a pool.
func countPool(pool string, usage map[ipam.Family]ipam.Usage) {
	for family, u := range usage {
		for state, n := range map[string]int64{"capacity": u.Capacity, "used": u.Used, "free": u.Free} {
			poolAddresses.WithLabelValues(pool, string(family), state).Set(float64(n))
		}
	}
}

// forgetPool removes the metrics of a pool that is gone.
func forgetPool(pool string) {
	for _, family := range []ipam.Family{ipam.IPv4, ipam.IPv6} {
		for _, state := range []string{"capacity", "used", "free"} {
			poolAddresses.DeleteLabelValues(pool, string(family), state)
		}
	}
}
