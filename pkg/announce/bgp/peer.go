// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

const (
	// connectRetry is how long to wait between attempts to connect, in seconds
	// (RFC 4271 section 10). gobgp's default of 120 s would leave a node
	// without routes for two minutes after its router came back.
	connectRetry = 5
	// restartTime is how long a router may keep our routes after the session
	// broke without a notification, in seconds (RFC 4724). It must outlast the
	// replacement of an agent's pod.
	restartTime = 120
	// deferralTime is how long a (re)starting Speaker waits for the
	// end-of-RIB markers of its routers before it sends its routes, in seconds.
	// Nothing that they send is used, so there is no point in more; 0 would mean
	// gobgp's default of 360 s.
	deferralTime = 1
	// stable is how long a session must have lasted to be tried again at once
	// after it broke. A shorter one waits gobgp's 5 s, so that a router that
	// ends each session is not hammered.
	stable = 10 * time.Second
)

// peer is a Peer with what is known of its session.
type peer struct {
	Peer
	source netip.Addr // local address of the session; invalid until it is known
	state  State
	since  time.Time
	// Why the session is down: at most one of these is set, the latest. Older ones
	// are cleared, because a cause that is mended would go on being shown.
	reason    string // gobgp's text for it
	dialError string // the error of an attempt to connect
	diagnosis string // what a probe found, as advice
	// shutdownText is what the router's operator had to say (RFC 9003).
	shutdownText string
	// holdExpired is set when we ended the session because of that: gobgp's
	// reason is then the graceful restart that follows.
	holdExpired bool
	probing     bool      // a probe is scheduled or running
	probed      time.Time // when the last probe ended
	// noIPv4 is set when the session runs over IPv6 and the router cannot take
	// IPv4 routes with an IPv6 next hop (RFC 8950).
	noIPv4 bool
	// problem says why there is no session to try at all.
	problem string
}

// addPeer gives a peer to gobgp and reports whether that worked; if not, the
// reason is kept for Sessions.
func (s *Speaker) addPeer(ctx context.Context, p *peer) bool {
	// gobgp knows peers by their addresses. The API server cannot compare two
	// BGPPeers, so this is found here.
	if other, taken := s.byAddr[p.Address]; taken {
		p.problem = fmt.Sprintf("BGPPeer %q has the address %s too: delete one of the two", other.Name, p.Address)
		return false
	}
	source, err := sourceFor(p.Address, s.nodes)
	if err != nil {
		p.problem = err.Error() + ": check spec.address of BGPPeer " + p.Name + " and the routes of this node"
		return false
	}
	p.source = source
	s.byAddr[p.Address] = p
	// The policy must know the peer before the first route goes out to it.
	err = s.applyPolicy(ctx, s.subsetsInUse(nil))
	if err == nil {
		err = s.bgp.AddPeer(ctx, &api.AddPeerRequest{Peer: p.config()})
	}
	if err != nil {
		delete(s.byAddr, p.Address)
		p.source = netip.Addr{}
		p.problem = fmt.Sprintf("setting up the session failed: %v", err)
		return false
	}
	p.problem = ""
	return true
}

// deletePeer ends the session of a peer. byAddr is looked at first because the
// address may belong to another peer by now, whose session must stay.
func (s *Speaker) deletePeer(ctx context.Context, p *peer) {
	if s.byAddr[p.Address] != p {
		return
	}
	delete(s.byAddr, p.Address)
	if err := s.bgp.DeletePeer(ctx, &api.DeletePeerRequest{Address: p.Address.String()}); err != nil {
		s.log.Error(err, "Could not remove a BGP peer", "peer", p.Name)
	}
}

// config is the peer as gobgp wants it. Both address families are on every
// session (RFC 4760), whatever its own: a cluster with two families needs one
// BGPPeer per router only, where the router can carry both.
func (p *peer) config() *api.Peer {
	hold := uint64(p.HoldTime / time.Second) //nolint:gosec // 3 to 65535, never negative
	// Keepalives at a third of the hold time (RFC 4271 section 4.4).
	return &api.Peer{
		Conf: &api.PeerConf{
			NeighborAddress: p.Address.String(), PeerAsn: p.PeerASN, LocalAsn: p.LocalASN,
		},
		Transport: &api.Transport{LocalAddress: p.source.String(), RemotePort: uint32(p.Port)},
		Timers: &api.Timers{Config: &api.TimersConfig{
			HoldTime: hold, KeepaliveInterval: max(hold/3, 1), ConnectRetry: connectRetry,
		}},
		// Without multihop external sessions have a TTL of 1: no router further
		// away can answer.
		EbgpMultihop: &api.EbgpMultihop{Enabled: p.Multihop > 0, MultihopTtl: uint32(p.Multihop)},
		// LocalRestarting makes gobgp set the forwarding bits (RFC 4724 section
		// 3), which are true at all times: kube-proxy forwards without us.
		// Without them a router drops what it kept when the session is back.
		GracefulRestart: &api.GracefulRestart{
			Enabled: true, RestartTime: restartTime, DeferralTime: deferralTime, LocalRestarting: true,
		},
		AfiSafis: []*api.AfiSafi{
			afiSafi(api.Family_AFI_IP), afiSafi(api.Family_AFI_IP6),
		},
	}
}

func afiSafi(afi api.Family_Afi) *api.AfiSafi {
	return &api.AfiSafi{
		Config:            &api.AfiSafiConfig{Family: family(afi), Enabled: true},
		MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: true}},
	}
}

func family(afi api.Family_Afi) *api.Family {
	return &api.Family{Afi: afi, Safi: api.Family_SAFI_UNICAST}
}

// states maps gobgp's names. RFC 4271 tells Connect and Active apart by who waits
// for whom; we only ever connect, and gobgp calls that Active.
var states = map[bgp.FSMState]State{
	bgp.BGP_FSM_IDLE: Idle, bgp.BGP_FSM_CONNECT: Active, bgp.BGP_FSM_ACTIVE: Active,
	bgp.BGP_FSM_OPENSENT: OpenSent, bgp.BGP_FSM_OPENCONFIRM: OpenConfirm, bgp.BGP_FSM_ESTABLISHED: Established,
}

// peerEvent takes note of a change of a session. gobgp calls it from a
// goroutine of its own, so that it may call gobgp.
func (s *Speaker) peerEvent(e *apiutil.WatchEventMessage_PeerEvent, at time.Time) {
	if e.Type != apiutil.PEER_EVENT_STATE {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.byAddr[e.Peer.Conf.NeighborAddress]
	if !ok || s.closed {
		return
	}
	state := states[e.Peer.State.SessionState]
	was := p.state
	p.state = state
	switch {
	case state == Established:
		s.established(p, e.Peer.State.RemoteCap, at)
	case was == Established:
		s.lost(p, at)
	}
	// The change to Idle is the end of a session or of an attempt, whose reason
	// this is.
	if state == Idle && isRemoteReason(e.Peer.State.DisconnectReason) {
		p.ended(e.Peer.State.DisconnectMessage)
	}
	s.notify()
}

// ended takes note of the reason for the end of a session, or of an attempt.
func (p *peer) ended(reason string) {
	if genericReasons[reason] && p.diagnosis != "" {
		return
	}
	p.reason, p.dialError, p.diagnosis = reason, "", ""
}

// genericReasons are reasons that say less than a probe does: gobgp gives them for
// any connection that ends while the session is opened.
var genericReasons = map[string]bool{"invalid-msg": true, "read-failed": true, "write-failed": true}

// isRemoteReason is false for the ends of sessions that we brought about
// ourselves: to delete a peer and add it again is how a session is started anew,
// and its message must go on saying why that was needed.
func isRemoteReason(r api.PeerState_DisconnectReason) bool {
	return r != api.PeerState_DISCONNECT_REASON_UNSPECIFIED && r != api.PeerState_DISCONNECT_REASON_DECONFIGURED
}

// established clears what was wrong with a session, and finds out how IPv4 routes
// can go over it: the answer is in the router's OPEN, so the policy follows only
// now, and must take back what already went out under the old one.
func (s *Speaker) established(p *peer, remote []bgp.ParameterCapabilityInterface, at time.Time) {
	p.since, p.reason, p.dialError, p.diagnosis, p.shutdownText = at, "", "", "", ""
	p.holdExpired = false
	noIPv4 := p.Address.Is6() && !acceptsIPv4OverIPv6(remote)
	if noIPv4 == p.noIPv4 {
		return
	}
	p.noIPv4 = noIPv4
	if err := s.applyPolicy(context.Background(), s.subsetsInUse(nil)); err != nil {
		s.log.Error(err, "Could not change the next hop of IPv4 routes", "peer", p.Name)
	}
	for _, d := range resendAfter {
		time.AfterFunc(d, s.resendLater)
	}
}

// resendAfter is when to send the routes again that went out under another
// policy: gobgp tells of a session before it is in that state, and silently
// resets nothing until it is; and with graceful restart the routes go out only
// after deferralTime. Sending them once too often changes nothing.
var resendAfter = []time.Duration{100 * time.Millisecond, (deferralTime + 1) * time.Second}

func (s *Speaker) resendLater() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if err := s.resend(context.Background()); err != nil {
		s.log.Error(err, "Could not send the routes again")
	}
}

// acceptsIPv4OverIPv6 looks for the extended next hop capability (RFC 8950). A
// router without it would take the IPv6 next hop of an IPv4 route for a malformed
// UPDATE, and end the session.
func acceptsIPv4OverIPv6(remote []bgp.ParameterCapabilityInterface) bool {
	for _, c := range remote {
		e, ok := c.(*bgp.CapExtendedNexthop)
		if ok && slices.ContainsFunc(e.Tuples, func(t *bgp.CapExtendedNexthopTuple) bool {
			return t.NLRIAFI == bgp.AFI_IP && t.NLRISAFI == bgp.SAFI_UNICAST && t.NexthopAFI == bgp.AFI_IP6
		}) {
			return true
		}
	}
	return false
}

// lost starts a session anew that had been up for a while. A new one connects
// within 2 s, where gobgp would sit in Idle for 5 s first, and it sets the
// forwarding bits again, which gobgp does for the first OPEN only.
func (s *Speaker) lost(p *peer, at time.Time) {
	lasted := at.Sub(p.since)
	p.since = at
	if lasted < stable {
		return
	}
	ctx := context.Background()
	s.deletePeer(ctx, p)
	if !s.addPeer(ctx, p) {
		s.retryLater(ctx)
	}
}

// onLogEvent takes what gobgp's log says about a session.
func (s *Speaker) onLogEvent(router netip.Addr, what logEvent, text string) {
	// gobgp logs while it holds its own locks, and waits for them while we hold
	// ours: do not make it wait here.
	go func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		p, ok := s.byAddr[router]
		if !ok || s.closed || p.state == Established && what != logNotification && what != logNotificationSent {
			return
		}
		switch what {
		case logDialFailed:
			if p.dialError == text {
				return
			}
			p.reason, p.dialError, p.diagnosis = "", text, ""
		case logNotification:
			p.shutdownText = text
		case logNotificationSent:
			p.holdExpired = text == codeHoldTimer
		case logConnected:
			// The address and port are right. What comes next may end without a
			// reason in gobgp's log, so a probe will look.
			p.dialError = ""
			s.scheduleProbe(p)
			return
		}
		s.notify()
	}()
}

// message says what is wrong with a session and what to do.
func (s *Speaker) message(p *peer) string {
	// From what makes the rest meaningless to what says least.
	switch {
	case p.problem != "":
		return p.problem
	case p.state == Established:
		return s.familyHint(p)
	case p.diagnosis != "":
		return p.diagnosis
	case p.dialError != "":
		return p.explainDial()
	case p.reason != "":
		return p.explainReason()
	}
	return Connecting
}

// familyHint names routes that an established session cannot carry. The session
// is up and nothing else would show that a part of the addresses is missing.
func (s *Speaker) familyHint(p *peer) string {
	for prefix := range s.routes {
		if s.carries(p, prefix.Addr()) {
			continue
		}
		if prefix.Addr().Is4() {
			return fmt.Sprintf("IPv4 routes are not announced over this IPv6 session: turn on extended next hop (RFC 8950) on the router %s, or give the node an IPv4 InternalIP", p.Address)
		}
		return "IPv6 routes are not announced over this IPv4 session: the node has no IPv6 InternalIP to be their next hop; give it one, or add a BGPPeer with the router's IPv6 address"
	}
	return ""
}

// resend applies the policy and sends all routes again through it: a soft reset
// outbound, which takes no session down. One router that fails does not keep the
// others from it.
func (s *Speaker) resend(ctx context.Context) error {
	if err := s.applyPolicy(ctx, s.subsetsInUse(nil)); err != nil {
		return err
	}
	var errs []error
	for addr := range s.byAddr {
		err := s.bgp.ResetPeer(ctx, &api.ResetPeerRequest{
			Address: addr.String(), Soft: true, Direction: api.ResetPeerRequest_DIRECTION_OUT,
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("sending the routes to %s again: %w", addr, err))
		}
	}
	return errors.Join(errs...)
}
