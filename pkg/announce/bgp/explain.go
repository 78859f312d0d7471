// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// Messages of this file are read by people who look after routers, in the
// NodeAnnouncement and in Events. Each names what the router did, and the field
// to check: spec.* of a BGPPeer on our side, the usual word of a router's
// configuration on the other. They hold no time and no counter, because a text
// that changes would be a new Event, and a write of the status, on every attempt.

func (p *Peer) addrPort() netip.AddrPort { return netip.AddrPortFrom(p.Address, p.Port) }

// refusal explains a NOTIFICATION that answered our OPEN (RFC 4271 section 6.2).
// The codes with a case of their own are those that a wrong BGPPeer brings about;
// for any other the name of the code is what a search engine knows.
func (p *Peer) refusal(n *bgp.BGPNotification) string {
	code := bgp.NewNotificationErrorCode(n.ErrorCode, n.ErrorSubcode).String()
	switch {
	case n.ErrorCode == bgp.BGP_ERROR_OPEN_MESSAGE_ERROR && n.ErrorSubcode == bgp.BGP_ERROR_SUB_BAD_PEER_AS:
		return p.badLocalASN()
	case n.ErrorCode == bgp.BGP_ERROR_OPEN_MESSAGE_ERROR && n.ErrorSubcode == bgp.BGP_ERROR_SUB_UNACCEPTABLE_HOLD_TIME:
		return fmt.Sprintf("router refused the hold time of %s: change spec.holdTimeSeconds of BGPPeer %q", p.HoldTime, p.Name)
	case n.ErrorCode == bgp.BGP_ERROR_OPEN_MESSAGE_ERROR && n.ErrorSubcode == bgp.BGP_ERROR_SUB_BAD_BGP_IDENTIFIER:
		return "router refused the BGP identifier of this node: another speaker has the same one"
	case n.ErrorCode == bgp.BGP_ERROR_CEASE:
		return withText("router refused the session: "+code, shutdownText(n.Data))
	}
	return "router refused the session: " + code
}

// badLocalASN explains Bad Peer AS from a router. It sends the code but not the
// number that it expects (RFC 4271 section 6.2), so we can name only ours.
func (p *Peer) badLocalASN() string {
	return fmt.Sprintf("router refused: OPEN Message Error/Bad Peer AS: it expects another AS than %d of this node; check spec.localASN of BGPPeer %q and the router's remote-as", p.LocalASN, p.Name)
}

// connClosedHint explains a router that ends a connection without a NOTIFICATION.
// Routers do that to strangers: FRR and others accept the TCP connection first
// and look for a neighbor with its source address then. source is what the
// router sees, which on a node with several addresses is not obvious.
func (p *Peer) connClosedHint(source netip.Addr) string {
	return fmt.Sprintf("the router closes the connection without sending a NOTIFICATION: configure %s (this node) as its neighbor with an address family activated, and check spec.ebgpMultihop of BGPPeer %q if it is not directly connected", source, p.Name)
}

func withText(s, text string) string {
	if text == "" {
		return s
	}
	return fmt.Sprintf("%s (%q)", s, text)
}

// shutdownText reads the text of a Cease (RFC 9003): a length and UTF-8. It is
// what the router's operator typed, and untrusted: a length that is wrong gives
// no text, and octets that are no UTF-8 must not get into a Kubernetes object.
func shutdownText(data []byte) string {
	if len(data) == 0 || int(data[0]) > len(data)-1 {
		return ""
	}
	return strings.ToValidUTF8(string(data[1:1+data[0]]), "?")
}

// codeHoldTimer is the error code "Hold Timer Expired" of a NOTIFICATION (RFC 4271
// section 4.5), in the form that gobgp's log has.
const codeHoldTimer = "4"

// explainReason turns gobgp's reason for the end of a session into advice. The
// reasons are gobgp's own texts, in which the NOTIFICATION that came in is
// written out; TestRefusedByTheRouter, TestShutdownText and
// TestRouterGoesSilent fail if a new version words them differently.
func (p *peer) explainReason() string {
	received, isReceived := strings.CutPrefix(p.reason, "notification-received ")
	switch {
	case isReceived && strings.Contains(received, "bad peer as"):
		return p.badLocalASN()
	case p.reason == "bad-peer-as":
		return fmt.Sprintf("the router's AS is not %d: check spec.peerASN of BGPPeer %q", p.PeerASN, p.Name)
	case isReceived:
		return withText("router ended the session: "+received, p.shutdownText)
	case p.holdExpired, strings.Contains(p.reason, "hold-timer-expired"), strings.Contains(p.reason, "hold timer expired"):
		return fmt.Sprintf("hold timer expired: nothing was heard from %s for %s", p.Address, p.HoldTime)
	case p.reason == "read-failed", p.reason == "graceful-restart":
		// With graceful restart a broken connection is no error to gobgp but the
		// begin of one (RFC 4724 section 4.2).
		return "the router closed the connection without sending a NOTIFICATION, as when its BGP is restarted"
	}
	return "session ended: " + p.reason
}

// explainDial turns the error of an attempt to connect into advice. The error
// comes from gobgp's log, so only its text is left, not its type.
func (p *peer) explainDial() string {
	switch text := p.dialError; {
	case strings.Contains(text, "connection refused"):
		return fmt.Sprintf("connection refused by %s: is BGP running there, on this port, and allowed from %s?", p.addrPort(), p.source)
	case strings.Contains(text, "timeout"):
		return fmt.Sprintf("no answer from %s: check spec.address of BGPPeer %q, the network between, and firewalls for TCP port %d", p.addrPort(), p.Name, p.Port)
	case strings.Contains(text, "no route to host"), strings.Contains(text, "network is unreachable"):
		return fmt.Sprintf("%s cannot be reached: check spec.address of BGPPeer %q and the routes of this node", p.addrPort(), p.Name)
	}
	return "connecting failed: " + p.dialError
}
