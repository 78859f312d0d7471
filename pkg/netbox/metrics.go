// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"strings"
	"time"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

// What the controller tells Prometheus about NetBox, on the /metrics of the
// controller manager.
var (
	requestDuration = metrics.NewHistogramVec(&metrics.HistogramOpts{
		Name: "bm_ccm_netbox_request_duration_seconds", StabilityLevel: metrics.ALPHA,
		Help: "Time that a request to NetBox took until its answer or failure, by HTTP method and path; {id} stands for an object's id. Requests that the open circuit holds back are not in it.",
		// NetBox answers in tens of milliseconds; the last bucket is
		// DefaultTimeout, with one before it for what only just made it.
		Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, []string{"method", "path"})
	requestFailures = metrics.NewCounterVec(&metrics.CounterOpts{
		Name: "bm_ccm_netbox_request_failures_total", StabilityLevel: metrics.ALPHA,
		Help: "Requests to NetBox without a good answer, by reason: timeout, connection, server_error (5xx), rate_limited (429), refused (4xx), token, forbidden, config (a redirect or HTML), decode, canceled (by the caller), circuit_open (not sent).",
	}, []string{"reason"})
	circuitOpen = metrics.NewGauge(&metrics.GaugeOpts{
		Name: "bm_ccm_netbox_circuit_open", StabilityLevel: metrics.ALPHA,
		Help: "1 while requests to NetBox are held back, because it failed several times in a row or asked for a pause by Retry-After; 0 otherwise.",
	})
)

// The label values of bm_ccm_netbox_request_failures_total.
const (
	reasonTimeout     = "timeout"
	reasonConnection  = "connection"
	reasonServerError = "server_error"
	reasonRateLimited = "rate_limited"
	reasonRefused     = "refused"
	reasonToken       = "token"
	reasonForbidden   = "forbidden"
	reasonConfig      = "config"
	reasonDecode      = "decode"
	reasonCanceled    = "canceled"
	reasonCircuitOpen = "circuit_open"
)

// The registry takes a metric once per process; without it, nothing is counted.
func init() {
	legacyregistry.MustRegister(requestDuration, requestFailures, circuitOpen)
}

// observe counts a request that was sent; reason is "" for a success.
func observe(r Request, took time.Duration, reason string) {
	requestDuration.WithLabelValues(r.Method, pathKind(r.Path)).Observe(took.Seconds())
	if reason != "" {
		countFailure(reason)
	}
}

func countFailure(reason string) { requestFailures.WithLabelValues(reason).Inc() }

// pathKind is a path without the ids in it: a label value per object would make
// a time series per address.
func pathKind(path string) string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	for i, part := range parts {
		if part != "" && strings.Trim(part, "0123456789") == "" {
			parts[i] = "{id}"
		}
	}
	return strings.Join(parts, "/")
}
