// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package drift

import (
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

var (
	conflictCount = metrics.NewGaugeVec(&metrics.GaugeOpts{
		Name: "bm_ccm_ipam_conflicts", StabilityLevel: metrics.ALPHA,
		Help: "IPAM conflicts that need manual action, by kind, as of the last comparison with the Services.",
	}, []string{"kind"})
	claimCount = metrics.NewGauge(&metrics.GaugeOpts{
		Name: "bm_ccm_claims", StabilityLevel: metrics.ALPHA,
		Help: "Addresses that are recorded for Services of this cluster, as of the last comparison with the Services.",
	})
	orphansFreed = metrics.NewCounter(&metrics.CounterOpts{
		Name: "bm_ccm_orphans_freed_total", StabilityLevel: metrics.ALPHA,
		Help: "Claims freed because their Service was gone.",
	})
)

// The registry takes a metric once per process; without it, nothing is counted.
func init() {
	legacyregistry.MustRegister(conflictCount, claimCount, orphansFreed)
}

// conflictKinds are the label values of bm_ccm_ipam_conflicts, so that each is
// there with 0 before it happens. The other kinds are repaired.
var conflictKinds = []ipam.FindingKind{
	ipam.Moved, ipam.DuplicateClaim, ipam.DuplicateAddress, ipam.ForeignOwner, ipam.SameClusterName, ipam.BadClaim,
}

// count sets the metrics of a comparison.
func count(report ipam.Report, findings []ipam.Finding) {
	claimCount.Set(float64(len(report.Claims)))
	counts := map[ipam.FindingKind]int{}
	for _, f := range findings {
		counts[f.Kind]++
	}
	for _, kind := range conflictKinds {
		conflictCount.WithLabelValues(string(kind)).Set(float64(counts[kind]))
	}
}
