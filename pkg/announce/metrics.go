// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package announce

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/bm-ccm/bm-ccm/pkg/announce/bgp"
)

// metrics are what the agent tells Prometheus.
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
			Help: "1 if the BGP session with a BGPPeer is established, else 0.",
		}, []string{"peer"}),
		addresses: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "bm_ccm_announced_addresses",
			Help: "Addresses that this node announces, by LoadBalancerClass.",
		}, []string{"class"}),
		inSync: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "bm_ccm_announcements_in_sync",
			Help: "1 if this node announces what it should to all routers that it should, else 0.",
		}),
		withheld: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "bm_ccm_announcements_withheld",
			Help: "1 if this node holds announcements back because of its own state, else 0.",
		}),
		decisions: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "bm_ccm_decide_duration_seconds",
			Help:    "Time to decide what to announce.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 8),
		}),
		applies: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bm_ccm_announcement_updates_total",
			Help: "Decisions handed to the BGP speaker, by result.",
		}, []string{"result"}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bm_ccm_nodeannouncement_writes_total",
			Help: "Writes of the NodeAnnouncement, by result.",
		}, []string{"result"}),
	}
	r.MustRegister(m.sessionUp, m.addresses, m.inSync, m.withheld, m.decisions, m.applies, m.writes)
	return m
}

func (m *metrics) setSessions(sessions []bgp.Session) {
	m.sessionUp.Reset()
	for _, s := range sessions {
		m.sessionUp.WithLabelValues(s.Peer).Set(oneIf(s.Up()))
	}
}

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
		return "error"
	}
	return "ok"
}
