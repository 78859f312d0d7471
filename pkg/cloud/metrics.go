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
	legacyregistry.MustRegister(poolAddresses, servicesWaiting)
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
