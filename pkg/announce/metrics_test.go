// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package announce

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/bm-ccm/bm-ccm/pkg/announce/bgp"
)

// Every field of metrics is registered, under a name and with a help text that
// Prometheus' own linter has nothing against.
func TestMetricsAreRegisteredAndNamedByConvention(t *testing.T) {
	r := prometheus.NewRegistry()
	m := newMetrics(r)
	m.setSessions([]bgp.Session{{Peer: "tor", State: bgp.Established}})
	m.setDecision(&Decision{Announcements: []Announcement{{Addr: netip.MustParseAddr("192.0.2.1"), Class: "public"}}})
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if fields := reflect.TypeFor[metrics]().NumField(); len(families) != fields {
		t.Errorf("%d metrics for %d fields", len(families), fields)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// A peer or class that is gone leaves no series behind.
func TestMetricsForgetWhatIsGone(t *testing.T) {
	r := prometheus.NewRegistry()
	m := newMetrics(r)
	m.setSessions([]bgp.Session{{Peer: "old"}})
	m.setDecision(&Decision{Announcements: []Announcement{{Class: "old"}}})
	m.setSessions([]bgp.Session{{Peer: "new"}})
	m.setDecision(&Decision{Announcements: []Announcement{{Class: "new"}}})
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, series := range f.GetMetric() {
			for _, l := range series.GetLabel() {
				if l.GetValue() == "old" {
					t.Errorf("%s still has the series %s", f.GetName(), series)
				}
			}
		}
	}
}
