// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package announce

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/bm-ccm/bm-ccm/pkg/announce/bgp"
)

// Values of the label "result".
const (
	resultOK    = "ok"
	resultError = "error"
)

// metrics are what /metrics of the agent shows. All are made in newMetrics, with
// names and help texts as literals and labels in the call, so that the reference
// can be generated from this file: a registry knows the type of a vector only
// once it has a value.
//
// Names follow the conventions of Prometheus: a base unit or "_total" at the
// end, and what is counted in the plural. A name must not change, because alerts
// on it would fall silent instead of failing.
type metrics struct {
	sessionUp *prometheus.GaugeVec
	addresses *prometheus.GaugeVec
	inSync    prometheus.Gauge
	withheld  prometheus.Gauge
	decisions prometheus.Histogram
	applies   *prometheus.CounterVec
	writes    *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		sessionUp: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "bm_ccm_bgp_session_up",
			Help: "1 if the BGP session with the BGPPeer in the label peer is established, else 0.",
		}, []string{"peer"}),
		addresses: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "bm_ccm_announced_addresses",
			Help: "Number of addresses that this node announces for the LoadBalancerClass in the label class.",
		}, []string{"class"}),
		inSync: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "bm_ccm_announcements_in_sync",
			Help: "1 if this node announces what it should to all routers that it should, else 0: the condition InSync of its NodeAnnouncement says why.",
		}),
		withheld: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "bm_ccm_announcements_withheld",
			Help: "1 if this node announces nothing, or less than it could, because of its own state (excluded, being deleted, kube-proxy unhealthy), else 0.",
		}),
		decisions: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "bm_ccm_decide_duration_seconds",
			Help: "Seconds that it took to decide what to announce, for all Services at once.",
			// 0.1 ms is a small cluster, 1.6 s far above the 10,000 Services
			// that are tested.
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 8),
		}),
		applies: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bm_ccm_announcement_updates_total",
			Help: "Number of decisions handed to the BGP speaker, by result: ok, or error for one that the speaker could not carry out in full.",
		}, []string{"result"}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bm_ccm_nodeannouncement_writes_total",
			Help: "Number of writes of this node's NodeAnnouncement to the API server, by result: ok or error.",
		}, []string{"result"}),
	}
	r.MustRegister(m.sessionUp, m.addresses, m.inSync, m.withheld, m.decisions, m.applies, m.writes)
	// A counter that begins with its first error has no rate for it: the series
	// are there with 0 from the start.
	for _, c := range []*prometheus.CounterVec{m.applies, m.writes} {
		c.WithLabelValues(resultOK)
		c.WithLabelValues(resultError)
	}
	return m
}

// setSessions replaces the series of all peers, so that none stays behind for a
// BGPPeer that is gone and alerts for ever.
func (m *metrics) setSessions(sessions []bgp.Session) {
	m.sessionUp.Reset()
	for _, s := range sessions {
		m.sessionUp.WithLabelValues(s.Peer).Set(oneIf(s.Up()))
	}
}

// setDecision replaces the series of all classes, for the same reason.
func (m *metrics) setDecision(d *Decision) {
	m.addresses.Reset()
	for _, a := range d.Announcements {
		m.addresses.WithLabelValues(a.Class).Inc()
	}
	m.withheld.Set(oneIf(d.Withheld != ""))
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func result(err error) string {
	if err != nil {
		return resultError
	}
	return resultOK
}
