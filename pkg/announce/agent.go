// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package announce

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"net/http"
	"net/netip"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"

	"github.com/bm-ccm/bm-ccm/pkg/announce/bgp"
	"github.com/bm-ccm/bm-ccm/pkg/api/client"
	"github.com/bm-ccm/bm-ccm/pkg/trigger"
)

const (
	// coalesce is how long changes are collected before a decision: the burst
	// of a rollout becomes one, and a single change still reaches the router in
	// a few milliseconds.
	coalesce = 5 * time.Millisecond
	// coalesceFactor makes the wait grow with the cost of a decision, so that
	// deciding takes a fifth of one core at most.
	coalesceFactor = 4
	// auditInterval is how often what is announced is compared with what should
	// be when nothing happens. It also follows changed routes of the host.
	auditInterval = 30 * time.Second
	// stuck is how long the main loop may take for one round before the agent
	// reports itself as dead.
	stuck = 2 * time.Minute
)

// Speaker announces routes. bgp.Speaker is the one that is used. SetPeers and
// SetRoutes take all that should be, not changes: a call that fails is mended by
// the next one, and nobody has to remember what was lost.
type Speaker interface {
	SetPeers(ctx context.Context, nodeAddresses []netip.Addr, peers []bgp.Peer) error
	SetRoutes(ctx context.Context, routes []bgp.Route) error
	Sessions() []bgp.Session
	// Routes reads back what is announced.
	Routes(ctx context.Context) ([]bgp.Route, error)
	Close() error
}

// Config is what an Agent is made of. All but ProxyHealth are required.
type Config struct {
	// Node is the name of the Node that this agent announces for.
	Node string
	Kube kubernetes.Interface
	API  *client.Client
	// ProxyHealth is the URL of kube-proxy's health check; empty to take
	// kube-proxy as healthy.
	ProxyHealth string
	// Events records Events on BGPPeers.
	Events record.EventRecorder
}

// Agent announces the load-balancer addresses of one node.
//
// Everything below speaker belongs to the main loop alone and has no lock. What
// other goroutines give it goes through atomics and triggers: informers and the
// check of kube-proxy fire decide, the speaker fires report.
type Agent struct {
	config   Config
	caches   *caches
	registry *prometheus.Registry
	metrics  *metrics
	writer   *writer
	events   *sessionEvents
	decide   *trigger.Trigger // something changed that a decision depends on
	report   *trigger.Trigger // a session changed, which only the status shows
	proxy    atomic.Pointer[string]
	ready    atomic.Bool
	alive    atomic.Int64 // when the main loop last went round, Unix nanoseconds

	speaker Speaker
	last    Decision
	routes  []bgp.Route
	// differences between routes and the BGP table, as of the last audit.
	differences []string
	owner       types.UID
	took        time.Duration
}

// New prepares an agent.
func New(c Config) (*Agent, error) {
	a := &Agent{
		config: c, registry: prometheus.NewRegistry(),
		decide: trigger.New(), report: trigger.New(),
		events: &sessionEvents{recorder: c.Events},
	}
	a.metrics = newMetrics(a.registry)
	a.writer = newWriter(c.Node, c.API.Announcements, a.metrics)
	var err error
	a.caches, err = newCaches(c.Kube, c.API, a.decide.Fire)
	if err != nil {
		return nil, err
	}
	healthy := ""
	a.proxy.Store(&healthy)
	return a, nil
}

// Run announces until the context ends. Ending it leaves the routes with
// routers that speak graceful restart, for the next agent to take over.
func (a *Agent) Run(ctx context.Context) error {
	a.alive.Store(time.Now().UnixNano())
	if err := a.caches.run(ctx); err != nil {
		return ignoreCancel(ctx, err)
	}
	if a.config.ProxyHealth != "" {
		check := newProxyCheck(a.config.ProxyHealth, a.proxyChanged)
		check.once(ctx)
		go check.run(ctx)
	}
	if err := a.startSpeaker(ctx); err != nil {
		return err
	}
	defer a.closeSpeaker(ctx)
	go a.writer.run(ctx)
	a.loop(ctx)
	return nil
}

// ignoreCancel makes the end of the context, which is how an agent is stopped, no
// error. The cause is compared because an error of a library may wrap it.
func ignoreCancel(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return nil
	}
	return err
}

func (a *Agent) proxyChanged(problem string) {
	a.proxy.Store(&problem)
	a.decide.Fire()
}

// startSpeaker starts the BGP speaker, which needs a number of its own for
// good: the addresses of a Node may be late or change.
func (a *Agent) startSpeaker(ctx context.Context) error {
	d := Decide(a.config.Node, a.caches.snapshot())
	id := routerID(a.config.Node, d.Addresses)
	log := klog.FromContext(ctx).WithName("bgp")
	s, err := bgp.New(ctx, bgp.Config{RouterID: id, Log: log, OnChange: a.report.Fire})
	if err != nil {
		return err
	}
	a.speaker = s
	return nil
}

func (a *Agent) closeSpeaker(ctx context.Context) {
	if err := a.speaker.Close(); err != nil {
		klog.FromContext(ctx).Error(err, "Could not close the BGP speaker")
	}
}

// routerID is the BGP identifier: the node's first IPv4 address, or a number
// made from its name (RFC 6286 asks for no more than that it differs).
func routerID(node string, addrs []netip.Addr) netip.Addr {
	for _, a := range addrs {
		if a.Is4() {
			return a
		}
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(node))
	var v [8]byte
	binary.BigEndian.PutUint64(v[:], mix(uint64(h.Sum32())))
	// 0 is no identifier, and addresses from 224 on look like mistakes.
	return netip.AddrFrom4([4]byte{v[4]%223 + 1, v[5], v[6], v[7]})
}

// loop decides when something has changed, and looks after everything now and
// then. It never waits for the API server: the writer does.
func (a *Agent) loop(ctx context.Context) {
	audit := time.NewTicker(auditInterval)
	defer audit.Stop()
	a.reconcile(ctx)
	a.ready.Store(true)
	// The first lists are by far the most that is ever allocated at a time.
	debug.FreeOSMemory()
	for {
		a.alive.Store(time.Now().UnixNano())
		select {
		case <-ctx.Done():
			return
		case <-a.decide.C():
			if !sleep(ctx, max(coalesce, coalesceFactor*a.took)) {
				return
			}
			// What fired during the wait is in the snapshot that is taken next. A
			// change that comes after it fires again.
			select {
			case <-a.decide.C():
			default:
			}
			a.reconcile(ctx)
		case <-a.report.C():
			a.publish()
		case <-audit.C:
			a.reconcile(ctx)
		}
	}
}

// reconcile decides and makes it so: routes before peers, because a router
// that learns that these are all routes (end of RIB) drops what it kept from
// before a restart.
func (a *Agent) reconcile(ctx context.Context) {
	started := time.Now()
	// Deciding looks at everything, not at what changed: 10,000 Services take a
	// few milliseconds, and there is no state that could go wrong over time.
	snapshot := a.caches.snapshot()
	snapshot.ProxyUnhealthy = *a.proxy.Load()
	a.last = Decide(a.config.Node, snapshot)
	a.took = time.Since(started)
	a.metrics.decisions.Observe(a.took.Seconds())
	a.owner = nodeUID(a.config.Node, snapshot)
	a.routes = routesOf(a.last.Announcements)
	err := a.speaker.SetRoutes(ctx, a.routes)
	if err == nil {
		err = a.speaker.SetPeers(ctx, a.last.Addresses, peersOf(&a.last))
	}
	a.metrics.applies.WithLabelValues(result(err)).Inc()
	if err != nil && ctx.Err() == nil {
		// The audit tries again, and the differences show in the status.
		klog.FromContext(ctx).Error(err, "Could not announce everything")
	}
	a.metrics.setDecision(&a.last)
	a.audit(ctx)
	a.publish()
}

// audit compares what should be announced with what the BGP table holds. If that
// cannot be read, the differences of the last time stand.
func (a *Agent) audit(ctx context.Context) {
	actual, err := a.speaker.Routes(ctx)
	if err != nil {
		if ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Could not read back the announced routes")
		}
		return
	}
	a.differences = differ(a.routes, actual)
}

// nodeUID returns the UID of the Node; empty while there is no such Node, and then
// there is no owner for a NodeAnnouncement yet. A Node that was deleted and
// created again has another one.
func nodeUID(name string, s *Snapshot) types.UID {
	for _, n := range s.Nodes {
		if n.Name == name {
			return n.UID
		}
	}
	return ""
}

// routesOf makes host routes: a load balancer's address is on no link, and a
// longer prefix than that of the pool draws the traffic to this node.
func routesOf(announcements []Announcement) []bgp.Route {
	out := make([]bgp.Route, len(announcements))
	for i, a := range announcements {
		out[i] = bgp.Route{
			Prefix: netip.PrefixFrom(a.Addr, a.Addr.BitLen()), Peers: a.Peers, Communities: a.Communities,
		}
	}
	return out
}

// peersOf turns BGPPeers into what the speaker takes. The schema has checked all
// of them; the address is a string there and may be older than the schema, so
// that one bad object must not keep the others from being used.
func peersOf(d *Decision) []bgp.Peer {
	out := make([]bgp.Peer, 0, len(d.Peers))
	for _, p := range d.Peers {
		addr, err := netip.ParseAddr(p.Spec.Address)
		if err != nil || addr.Zone() != "" {
			d.Problems = append(d.Problems, fmt.Sprintf("BGPPeer %q is not used: spec.address %q is not an IP address", p.Name, p.Spec.Address))
			continue
		}
		hops := uint8(0)
		if p.Spec.EBGPMultihop != nil {
			hops = uint8(*p.Spec.EBGPMultihop) //nolint:gosec // the schema bounds it to 255
		}
		out = append(out, bgp.Peer{
			Name: p.Name, Address: addr.Unmap(),
			Port:     uint16(p.Spec.Port),     //nolint:gosec // the schema bounds it to 65535
			PeerASN:  uint32(p.Spec.PeerASN),  //nolint:gosec // the schema bounds it to 32 bits
			LocalASN: uint32(p.Spec.LocalASN), //nolint:gosec // the schema bounds it to 32 bits
			HoldTime: time.Duration(p.Spec.HoldTimeSeconds) * time.Second, Multihop: hops,
		})
	}
	return out
}

// publish reports what is announced and the state of the sessions: as metrics, as
// Events and in the NodeAnnouncement. It does not decide, so that a session that
// flaps costs nothing but a report.
func (a *Agent) publish() {
	r := report{decision: &a.last, sessions: a.speaker.Sessions(), differences: a.differences}
	a.metrics.setSessions(r.sessions)
	st := r.status()
	a.metrics.inSync.Set(oneIf(st.Conditions[0].Status == "True"))
	a.events.note(a.last.Peers, r.sessions)
	a.writer.set(a.owner, st)
}

// Handler serves /metrics, /healthz (the main loop goes round) and /readyz (the
// first decision was handed to the BGP speaker).
func (a *Agent) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if idle := time.Since(time.Unix(0, a.alive.Load())); a.ready.Load() && idle > stuck {
			http.Error(w, fmt.Sprintf("the main loop has been stuck for %s", idle.Round(time.Second)), http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !a.ready.Load() {
			http.Error(w, "waiting for the API server's first lists", http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ok")
	})
	return mux
}
