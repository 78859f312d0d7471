// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/server"
)

// globalASN is what gobgp wants as its own number. It appears on no wire: every
// peer has a local number of its own.
const globalASN = 4200000000

// retryPending is how often a peer without a route to it, or one that gobgp
// refused, is looked at again.
const retryPending = 3 * time.Second

// Config is what a Speaker cannot do without.
type Config struct {
	// RouterID is the BGP identifier (RFC 6286): an IPv4 address, or any other
	// number that no other speaker in the network uses.
	RouterID netip.Addr
	Log      logr.Logger
	// OnChange is called when a session changes. It must not block and must not
	// call the Speaker; nil is allowed.
	OnChange func()
}

// Speaker announces routes to peers. Its methods may be called concurrently.
//
// One mutex guards all of it, and is held over calls to gobgp. gobgp calls back
// from goroutines of its own (events) or under its own locks (log), so what it
// calls must not wait for ours: see onLogEvent.
type Speaker struct {
	bgp      *server.BgpServer
	log      logr.Logger
	notify   func()
	stop     context.CancelFunc
	routerID netip.Addr

	mu       sync.Mutex
	nodes    []netip.Addr           // addresses of this node
	peers    map[string]*peer       // by name
	byAddr   map[netip.Addr]*peer   // peers that gobgp has
	routes   map[netip.Prefix]Route // what was given to gobgp
	subsets  map[string]uint32      // sets of peers that the policy knows, with their marks
	nextMark uint32                 // the last mark given out
	policy   string                 // the policy in force, as text
	retry    *time.Timer            // set while a peer waits for a route to it
	closed   bool
}

// New starts a Speaker without peers and routes. It listens on no port: it
// opens all sessions itself, and clashes with no other BGP speaker on the host.
func New(ctx context.Context, c Config) (*Speaker, error) {
	if !c.RouterID.Is4() {
		return nil, fmt.Errorf("starting the BGP speaker: router ID %s is not in the form of an IPv4 address", c.RouterID)
	}
	// Sessions are watched until this context ends. It must outlive the caller's,
	// which has ended when Close is called.
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &Speaker{
		log: c.Log, notify: c.OnChange, stop: stop, routerID: c.RouterID,
		peers: map[string]*peer{}, byAddr: map[netip.Addr]*peer{},
		routes: map[netip.Prefix]Route{}, subsets: map[string]uint32{},
	}
	if s.notify == nil {
		s.notify = func() {}
	}
	// gobgp filters by this level before it calls the handler, which must see
	// what is logged at debug level.
	level := &slog.LevelVar{}
	level.Set(slog.LevelDebug)
	s.bgp = server.NewBgpServer(server.LoggerOption(slog.New(&logHandler{log: c.Log, onEvent: s.onLogEvent}), level))
	go s.bgp.Serve()
	if err := s.start(ctx, c.RouterID); err != nil {
		stop()
		return nil, fmt.Errorf("starting the BGP speaker: %w", err)
	}
	return s, nil
}

// start brings gobgp up with policies in force before there is any peer: a session
// that came up earlier would exchange routes with nothing in between.
func (s *Speaker) start(ctx context.Context, id netip.Addr) error {
	err := s.bgp.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{
		Asn: globalASN, RouterId: id.String(), ListenPort: -1,
		Families: []uint32{familyIndexIPv4, familyIndexIPv6},
	}})
	if err != nil {
		return fmt.Errorf("starting gobgp: %w", err)
	}
	if err := s.applyPolicy(ctx, nil); err != nil {
		return err
	}
	if err := s.assignPolicies(ctx); err != nil {
		return err
	}
	callbacks := server.WatchEventMessageCallbacks{OnPeerUpdate: s.peerEvent}
	if err := s.bgp.WatchEvent(ctx, callbacks, server.WatchPeer()); err != nil {
		return fmt.Errorf("watching the states of sessions: %w", err)
	}
	return nil
}

// gobgp numbers address families in StartBgp in its own way: by their position in
// a list of its configuration, not by AFI and SAFI.
const (
	familyIndexIPv4 = 0
	familyIndexIPv6 = 1
)

// Close ends all sessions without a notification. A router that negotiated
// graceful restart keeps the routes for its restart time (120 s); others drop
// them at once.
func (s *Speaker) Close() error {
	s.mu.Lock()
	s.closed = true
	if s.retry != nil {
		s.retry.Stop()
	}
	// Not under the lock: StopBgp waits for callbacks, which take it.
	s.mu.Unlock()
	s.stop()
	err := s.bgp.StopBgp(context.Background(), &api.StopBgpRequest{AllowGracefulRestart: true})
	if err != nil {
		return fmt.Errorf("stopping the BGP speaker: %w", err)
	}
	return nil
}

// errClosed is what a closed Speaker answers: it does not start again.
var errClosed = errors.New("the BGP speaker is closed")

// SetPeers makes peers the routers to talk to, and nodeAddresses the addresses
// of this node: the source of sessions if they are on the interface that leads
// to the router, and the next hop for the address family that a session does
// not run over. A peer that cannot be used is reported by Sessions and does not
// keep the others from being set.
func (s *Speaker) SetPeers(ctx context.Context, nodeAddresses []netip.Addr, peers []Peer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	moved := !slices.Equal(s.nodes, nodeAddresses)
	s.nodes = slices.Clone(nodeAddresses)
	s.removeUnwanted(ctx, peers)
	for _, p := range peers {
		if _, ok := s.peers[p.Name]; !ok {
			s.peers[p.Name] = &peer{Peer: p, state: Idle, since: time.Now()}
		}
	}
	err := s.bringUp(ctx)
	if moved {
		// The next hops are part of the policy: routes already sent do not
		// follow it by themselves.
		err = errors.Join(err, s.resend(ctx))
	}
	s.notify()
	return err
}

// removeUnwanted ends the sessions with peers that are gone or have changed. It
// runs before peers are added: a peer that only got another name keeps its
// address, which is free only then.
func (s *Speaker) removeUnwanted(ctx context.Context, peers []Peer) {
	wanted := make(map[string]Peer, len(peers))
	for _, p := range peers {
		wanted[p.Name] = p
	}
	for name, have := range s.peers {
		if want, ok := wanted[name]; ok && want == have.Peer && !s.sourceMoved(have) {
			continue
		}
		s.deletePeer(ctx, have)
		delete(s.peers, name)
	}
}

// sourceMoved reports whether the session uses an address that is not the one to
// use (any more). No route at all is no reason to end a session.
func (s *Speaker) sourceMoved(p *peer) bool {
	if !p.source.IsValid() {
		return false
	}
	source, err := sourceFor(p.Address, s.nodes)
	return err == nil && source != p.source
}

// bringUp gives gobgp the peers that it lacks, after the policy that they need.
func (s *Speaker) bringUp(ctx context.Context) error {
	waiting := false
	for _, p := range s.inOrder() {
		if s.byAddr[p.Address] != p {
			waiting = !s.addPeer(ctx, p) || waiting
		}
	}
	if waiting {
		s.retryLater(ctx)
	}
	return s.applyPolicy(ctx, s.subsetsInUse(nil))
}

// inOrder returns the peers by name. Of two with one address the same one then
// gets the session each time, on every node.
func (s *Speaker) inOrder() []*peer {
	out := make([]*peer, 0, len(s.peers))
	for _, p := range s.peers {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *peer) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out
}

// retryLater calls bringUp once more after a while. There is one timer, however
// many peers wait; a call while it runs starts it anew.
func (s *Speaker) retryLater(ctx context.Context) {
	if s.retry != nil {
		s.retry.Stop()
	}
	ctx = context.WithoutCancel(ctx)
	s.retry = time.AfterFunc(retryPending, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.closed {
			return
		}
		if err := s.bringUp(ctx); err != nil {
			s.log.Error(err, "Could not set the BGP peers")
		}
	})
}

// Sessions reports on every peer, ordered by name.
func (s *Speaker) Sessions() []Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Session, 0, len(s.peers))
	for _, p := range s.inOrder() {
		out = append(out, Session{
			Peer: p.Name, Address: p.Address, State: p.state, Since: p.since,
			Announced: s.countFor(p), Message: s.message(p),
		})
	}
	return out
}

// countFor counts the routes that the policy lets through to an established
// peer.
func (s *Speaker) countFor(p *peer) int {
	if p.state != Established {
		return 0
	}
	n := 0
	for prefix, r := range s.routes {
		if s.carries(p, prefix.Addr()) && (r.Peers == nil || slices.Contains(r.Peers, p.Name)) {
			n++
		}
	}
	return n
}
