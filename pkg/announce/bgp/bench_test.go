// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package bgp_test

import (
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bm-ccm/bm-ccm/pkg/announce/bgp"
	"github.com/bm-ccm/bm-ccm/pkg/announce/bgp/frrtest"
)

func manyRoutes(n int) []bgp.Route {
	out := make([]bgp.Route, n)
	for i := range out {
		addr := netip.AddrFrom4([4]byte{10, 100 + byte(i>>16), byte(i >> 8), byte(i)})
		out[i] = bgp.Route{Prefix: netip.PrefixFrom(addr, 32), Communities: []uint32{64500<<16 | 120}}
	}
	return out
}

// BenchmarkSetRoutes10k fills and empties the table without a peer.
func BenchmarkSetRoutes10k(b *testing.B) {
	s := newSpeaker(b)
	routes := manyRoutes(10000)
	for b.Loop() {
		setRoutes(b, s, routes...)
		setRoutes(b, s)
	}
}

// BenchmarkOneChangeIn10k adds and removes one route beside ten thousand.
func BenchmarkOneChangeIn10k(b *testing.B) {
	s := newSpeaker(b)
	routes := manyRoutes(10001)
	setRoutes(b, s, routes[:10000]...)
	for b.Loop() {
		setRoutes(b, s, routes...)
		setRoutes(b, s, routes[:10000]...)
	}
}

// BenchmarkStart10k is the time from the start of a Speaker with 10 000 routes
// until FRR has installed them all in its kernel, and the memory of it all.
func BenchmarkStart10k(b *testing.B) {
	r := frrtest.New(b, 1, neighbor4...)
	routes := manyRoutes(10000)
	for b.Loop() {
		start := time.Now()
		s := openSpeaker(b)
		setRoutes(b, s, routes...)
		b.ReportMetric(time.Since(start).Seconds(), "s-to-table")
		setPeers(b, s, nil, peer("tor", r.Addr4))
		session(b, s, "tor", upTimeout, up)
		b.ReportMetric(time.Since(start).Seconds(), "s-to-session")
		r.Eventually(upTimeout, "10000 routes", func() bool { return r.KernelRoutes() >= len(routes) })
		b.ReportMetric(time.Since(start).Seconds(), "s-to-FIB")
		b.ReportMetric(residentMiB(b), "MiB-RSS")
		b.StopTimer()
		setRoutes(b, s)
		r.Eventually(upTimeout, "no routes", func() bool { return len(r.Routes()) == 0 })
		closeSpeaker(b, s)
		b.StartTimer()
	}
}

// residentMiB is the resident memory of this process, tests and all.
func residentMiB(b *testing.B) float64 {
	b.Helper()
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(statm))[1])
	if err != nil {
		b.Fatal(err)
	}
	return float64(pages*os.Getpagesize()) / (1 << 20)
}
