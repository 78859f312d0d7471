// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// While a session is being opened gobgp does not report why a router ended it. A
// probe finds out: it connects as the session would, sends the same OPEN and
// reads the answer. It runs only after the session itself failed: a router would
// see two connections of one neighbor otherwise, and close one of them (RFC 4271
// section 6.8).
const (
	// probeAfter is how long an attempt may take to succeed before it counts as
	// failed.
	probeAfter = time.Second
	// probeInterval is how often one router is probed at most. A few hundred nodes
	// with the same mistake must not wear down a router that has others to serve.
	probeInterval = 10 * time.Second
	// probeTimeout bounds a probe: a router that is going to answer does so
	// within a round trip, and the next attempt of gobgp comes after 5 s.
	probeTimeout = 5 * time.Second
)

// scheduleProbe looks at a session a moment after its connection was made.
// The caller holds s.mu.
func (s *Speaker) scheduleProbe(p *peer) {
	if p.probing || time.Since(p.probed) < probeInterval {
		return
	}
	p.probing = true
	time.AfterFunc(probeAfter, func() { s.probe(p) })
}

// probe diagnoses a peer if its session still does not work. The lock is not held
// meanwhile: the probe waits for the network, and Sessions must not.
func (s *Speaker) probe(p *peer) {
	s.mu.Lock()
	needed := !s.closed && s.byAddr[p.Address] == p && p.state != Established && p.state != OpenConfirm
	p.probing = false
	source := p.source
	s.mu.Unlock()
	if !needed {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	text := p.diagnose(ctx, source, s.routerID)
	s.mu.Lock()
	defer s.mu.Unlock()
	p.probed = time.Now()
	// The session may have come up while the probe ran, and a diagnosis that did
	// not change must not wake anybody.
	if text == "" || p.state == Established || p.diagnosis == text {
		return
	}
	p.diagnosis, p.reason, p.dialError = text, "", ""
	s.notify()
}

// diagnose opens a connection like the session's and explains how it ends; empty if
// nothing is wrong with it.
func (p *Peer) diagnose(ctx context.Context, source, routerID netip.Addr) string {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))}
	conn, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(p.Address, p.Port).String())
	if err != nil {
		// gobgp's own attempts say that, in its log.
		return ""
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	open, err := p.open(routerID).Serialize()
	if err != nil {
		return ""
	}
	if _, err := conn.Write(open); err != nil {
		return p.connClosedHint(source)
	}
	return p.readRefusal(conn, source)
}

// open is the OPEN message of the session, without what does not matter for
// being refused.
func (p *Peer) open(routerID netip.Addr) *bgp.BGPMessage {
	// A number of four octets goes into a capability, and AS_TRANS into the field
	// of two (RFC 6793 section 4.1).
	as := uint16(bgp.AS_TRANS)
	if p.LocalASN <= 1<<16-1 {
		as = uint16(p.LocalASN)
	}
	caps := bgp.NewOptionParameterCapability([]bgp.ParameterCapabilityInterface{
		bgp.NewCapFourOctetASNumber(p.LocalASN),
		bgp.NewCapMultiProtocol(bgp.RF_IPv4_UC), bgp.NewCapMultiProtocol(bgp.RF_IPv6_UC),
	})
	// The library fails only for a router ID that is no IPv4 address.
	hold := uint16(p.HoldTime / time.Second) //nolint:gosec // 3 to 65535, as the message has it
	m, _ := bgp.NewBGPOpenMessage(as, hold, routerID, []bgp.OptionParameterInterface{caps})
	return m
}

// readRefusal reads until it knows why the router does not want the session. A
// router that accepts our OPEN sends a KEEPALIVE (RFC 4271 section 8.2.2): then
// nothing is wrong that a probe can see, and closing the connection here makes it
// forget us.
func (p *Peer) readRefusal(conn net.Conn, source netip.Addr) string {
	for {
		m, err := readMessage(conn)
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				return fmt.Sprintf("%s accepts the connection but sends no BGP message", p.addrPort())
			}
			return p.connClosedHint(source)
		}
		switch body := m.Body.(type) {
		case *bgp.BGPOpen:
			if as := asNumber(body); as != p.PeerASN {
				return fmt.Sprintf("the router's AS is %d, not %d: check spec.peerASN of BGPPeer %q", as, p.PeerASN, p.Name)
			}
		case *bgp.BGPNotification:
			return p.refusal(body)
		default:
			// A keepalive: our OPEN was accepted.
			return ""
		}
	}
}

// readMessage reads one message (RFC 4271 section 4.1). The length is checked
// before anything is read or allocated for it: what is on that port may be no
// BGP at all.
func readMessage(r io.Reader) (*bgp.BGPMessage, error) {
	var header [bgp.BGP_HEADER_LENGTH]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, fmt.Errorf("reading the header of a BGP message: %w", err)
	}
	length := int(binary.BigEndian.Uint16(header[16:18]))
	if length < bgp.BGP_HEADER_LENGTH || length > bgp.BGP_MAX_MESSAGE_LENGTH {
		return nil, fmt.Errorf("a BGP message cannot have %d octets", length)
	}
	message := make([]byte, length)
	copy(message, header[:])
	if _, err := io.ReadFull(r, message[bgp.BGP_HEADER_LENGTH:]); err != nil {
		return nil, fmt.Errorf("reading a BGP message of %d octets: %w", length, err)
	}
	m, err := bgp.ParseBGPMessage(message)
	if err != nil {
		return nil, fmt.Errorf("parsing a BGP message of %d octets: %w", length, err)
	}
	return m, nil
}

// asNumber is the AS of the sender of an OPEN: the one of four octets if it has
// one (RFC 6793), since the other field is AS_TRANS then.
func asNumber(o *bgp.BGPOpen) uint32 {
	for _, param := range o.OptParams {
		caps, ok := param.(*bgp.OptionParameterCapability)
		if !ok {
			continue
		}
		for _, c := range caps.Capability {
			if four, ok := c.(*bgp.CapFourOctetASNumber); ok {
				return four.CapValue
			}
		}
	}
	return uint32(o.MyAS)
}
