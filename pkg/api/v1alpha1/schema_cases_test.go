// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import "strings"

type specCase struct {
	name, kind, body string
}

var acceptedSpecs = []specCase{
	{"netbox prefix", "AddressPool", "spec: {netbox: {prefixes: [{prefix: 203.0.113.0/24}]}}"},
	{"netbox prefix in a VRF", "AddressPool", "spec: {netbox: {prefixes: [{prefix: '2001:db8::/64', vrf: red}]}}"},
	{"netbox range", "AddressPool", "spec: {netbox: {ranges: [{range: 192.0.2.10-192.0.2.20}, {range: '2001:db8::1-2001:db8::ff', vrf: red}]}}"},
	{"netbox selector", "AddressPool", "spec: {netbox: {selector: {tag: lb_1, role: lb, tenant: Kube-1, site: s1, vrf: 'red one'}}}"},
	{"netbox by site alone", "AddressPool", "spec: {netbox: {selector: {site: s1}}}"},
	{"netbox, all that goes together", "AddressPool", "spec: {netbox: {prefixes: [{prefix: 203.0.113.0/24}], ranges: [{range: 192.0.2.10-192.0.2.20}], selector: {tag: lb}}, avoidBuggyIPs: true}"},
	{"netbox reserved", "AddressPool", "spec: {netbox: {reserved: {tenant: kube}}}"},
	{"netbox reserved, narrowed", "AddressPool", "spec: {netbox: {reserved: {tenant: kube, tag: lb, vrf: red}}}"},
	{"avoid buggy addresses", "AddressPool", "spec: {addresses: [192.0.2.0/24], avoidBuggyIPs: true}"},
	{"one address", "AddressPool", "spec: {addresses: [192.0.2.1/32]}"},
	{"range of one", "AddressPool", "spec: {addresses: [192.0.2.1-192.0.2.1]}"},
	{"ranges of both families", "AddressPool", "spec: {addresses: [192.0.2.1-192.0.2.9, '2001:db8::1-2001:db8::ff']}"},
	{"longest range", "AddressPool", "spec: {addresses: ['2001:0db8:0000:0000:0000:0000:0000:0001-2001:0db8:0000:0000:0000:0000:0000:00ff']}"},
	{"selector", "AddressPool", "spec: {addresses: [192.0.2.0/24], namespaceSelector: {matchLabels: {a: b}}}"},

	{"minimal", "LoadBalancerClass", "spec: {pools: [a]}"},
	{"everything", "LoadBalancerClass", "spec: {pools: [a, b], default: true, namespaceSelector: {}, nodeSelector: {matchLabels: {a: b}}, bgp: {peers: [r], communities: ['0:0', '65535:65535']}}"},
	{"bgp to all peers", "LoadBalancerClass", "spec: {pools: [a], bgp: {}}"},

	{"external", "BGPPeer", "spec: {address: 192.0.2.1, peerASN: 64512, localASN: 64513}"},
	{"internal", "BGPPeer", "spec: {address: '2001:db8::1', peerASN: 64512, localASN: 64512}"},
	{"largest numbers", "BGPPeer", "spec: {address: 192.0.2.1, port: 65535, peerASN: 4294967294, localASN: 1, holdTimeSeconds: 65535, ebgpMultihop: 255}"},
	{"unusual port", "BGPPeer", "spec: {address: 192.0.2.1, port: 1790, peerASN: 1, localASN: 2, nodeSelector: {matchLabels: {rack: a}}}"},

	{"empty report", "NodeAnnouncement", "status: {addressCount: 0}"},
	{"full report", "NodeAnnouncement", `status:
  addressCount: 1
  bgpSummary: 1/1
  bgp: [{peer: r, address: 192.0.2.1, state: Established, since: "2026-01-01T00:00:00Z", announced: 1}]
  classes: [{class: public, addresses: [203.0.113.1]}]
  conditions: [{type: InSync, status: "True", reason: InSync, message: "", lastTransitionTime: "2026-01-01T00:00:00Z"}]`},
}

var rejectedSpecs = []struct {
	name, kind, body string
	want             []string
}{
	{"no spec", "AddressPool", "", []string{
		"spec: Required value",
	}},
	{"no source", "AddressPool", "spec: {}", []string{
		"spec: Invalid value: set exactly one of netbox (addresses in NetBox) and addresses (CIDRs and ranges listed here)",
	}},
	{"both sources", "AddressPool", "spec: {addresses: [192.0.2.0/24], netbox: {prefixes: [{prefix: 203.0.113.0/24}]}}", []string{
		"spec: Invalid value: set exactly one of netbox (addresses in NetBox) and addresses (CIDRs and ranges listed here)",
	}},
	{"host bits", "AddressPool", "spec: {netbox: {prefixes: [{prefix: 203.0.113.1/24}]}}", []string{
		`spec.netbox.prefixes[0].prefix: Invalid value: "203.0.113.1/24": must be a CIDR without host bits, as it stands in NetBox, for example 203.0.113.0/24`,
	}},
	{"prefix without length", "AddressPool", "spec: {netbox: {prefixes: [{prefix: 203.0.113.0}]}}", []string{
		`spec.netbox.prefixes[0].prefix: Invalid value: "203.0.113.0": must be a CIDR without host bits, as it stands in NetBox, for example 203.0.113.0/24`,
	}},
	{"no prefixes", "AddressPool", "spec: {netbox: {prefixes: []}}", []string{
		"spec.netbox.prefixes: Invalid value: 0: spec.netbox.prefixes in body should have at least 1 items",
	}},
	{"nothing in NetBox", "AddressPool", "spec: {netbox: {}}", []string{
		"spec.netbox: Invalid value: set prefixes, ranges, selector or several of these; or reserved alone (a pool of addresses that an engineer has reserved in NetBox)",
	}},
	{"reserved beside prefixes", "AddressPool", "spec: {netbox: {prefixes: [{prefix: 203.0.113.0/24}], reserved: {tenant: kube}}}", []string{
		"spec.netbox: Invalid value: set prefixes, ranges, selector or several of these; or reserved alone (a pool of addresses that an engineer has reserved in NetBox)",
	}},
	{"reserved beside a selector", "AddressPool", "spec: {netbox: {selector: {tag: lb}, reserved: {tenant: kube}}}", []string{
		"spec.netbox: Invalid value: set prefixes, ranges, selector or several of these; or reserved alone (a pool of addresses that an engineer has reserved in NetBox)",
	}},
	{"reserved for nobody", "AddressPool", "spec: {netbox: {reserved: {tag: lb}}}", []string{
		"spec.netbox.reserved.tenant: Required value",
	}},
	{"CIDR for a range in NetBox", "AddressPool", "spec: {netbox: {ranges: [{range: 192.0.2.0/24}]}}", []string{
		`spec.netbox.ranges[0].range: Invalid value: "192.0.2.0/24": must be the first and the last address of an IP range, as they stand in NetBox, for example 192.0.2.10-192.0.2.20`,
	}},
	{"range in NetBox with masks", "AddressPool", "spec: {netbox: {ranges: [{range: 192.0.2.10/24-192.0.2.20/24}]}}", []string{
		`spec.netbox.ranges[0].range: Invalid value: "192.0.2.10/24-192.0.2.20/24": must be the first and the last address of an IP range, as they stand in NetBox, for example 192.0.2.10-192.0.2.20`,
	}},
	{"selector of everything", "AddressPool", "spec: {netbox: {selector: {}}}", []string{
		"spec.netbox.selector: Invalid value: set at least one of tag, role, tenant and site: the pool would be everything in NetBox",
	}},
	{"selector of a whole VRF", "AddressPool", "spec: {netbox: {selector: {vrf: red}}}", []string{
		"spec.netbox.selector: Invalid value: set at least one of tag, role, tenant and site: the pool would be everything in NetBox",
	}},
	{"name of a tag for its slug", "AddressPool", "spec: {netbox: {selector: {tag: 'LB prefixes'}}}", []string{
		`spec.netbox.selector.tag: Invalid value: "LB prefixes": must be the slug of a tag in NetBox (letters, digits, - and _), not its name`,
	}},
	{"empty slug", "AddressPool", "spec: {netbox: {reserved: {tenant: ''}}}", []string{
		`spec.netbox.reserved.tenant: Invalid value: "": must be the slug of a tenant in NetBox (letters, digits, - and _), not its name`,
	}},
	{"empty list", "AddressPool", "spec: {addresses: []}", []string{
		"spec.addresses: Invalid value: 0: spec.addresses in body should have at least 1 items",
	}},
	{"plain address", "AddressPool", "spec: {addresses: [192.0.2.1]}", []string{
		`spec.addresses[0]: Invalid value: "192.0.2.1": must be a CIDR without host bits (192.0.2.0/28, 2001:db8::/120, one address: 192.0.2.1/32) or a range of one IP family (192.0.2.10-192.0.2.20)`,
	}},
	{"host bits in a list", "AddressPool", "spec: {addresses: [192.0.2.1/24]}", []string{
		`spec.addresses[0]: Invalid value: "192.0.2.1/24": must be a CIDR without host bits (192.0.2.0/28, 2001:db8::/120, one address: 192.0.2.1/32) or a range of one IP family (192.0.2.10-192.0.2.20)`,
	}},
	{"range across families", "AddressPool", "spec: {addresses: ['192.0.2.1-2001:db8::1']}", []string{
		`spec.addresses[0]: Invalid value: "192.0.2.1-2001:db8::1": must be a CIDR without host bits (192.0.2.0/28, 2001:db8::/120, one address: 192.0.2.1/32) or a range of one IP family (192.0.2.10-192.0.2.20)`,
	}},
	{"range of three", "AddressPool", "spec: {addresses: ['192.0.2.1-192.0.2.2-192.0.2.3']}", []string{
		`spec.addresses[0]: Invalid value: "192.0.2.1-192.0.2.2-192.0.2.3": must be a CIDR without host bits (192.0.2.0/28, 2001:db8::/120, one address: 192.0.2.1/32) or a range of one IP family (192.0.2.10-192.0.2.20)`,
	}},
	{"one good, one bad", "AddressPool", "spec: {addresses: [192.0.2.0/24, nonsense]}", []string{
		`spec.addresses[1]: Invalid value: "nonsense": must be a CIDR without host bits (192.0.2.0/28, 2001:db8::/120, one address: 192.0.2.1/32) or a range of one IP family (192.0.2.10-192.0.2.20)`,
	}},
	{"operator of no selector", "AddressPool", "spec: {addresses: [192.0.2.0/24], namespaceSelector: {matchExpressions: [{key: a, operator: Is, values: [b]}]}}", []string{
		"spec.namespaceSelector: Invalid value: matchExpressions: operator must be In or NotIn with values, or Exists or DoesNotExist without",
	}},
	{"In without values", "BGPPeer", "spec: {address: 192.0.2.1, peerASN: 1, localASN: 2, nodeSelector: {matchExpressions: [{key: a, operator: In}]}}", []string{
		"spec.nodeSelector: Invalid value: matchExpressions: operator must be In or NotIn with values, or Exists or DoesNotExist without",
	}},
	{"Exists with values", "LoadBalancerClass", "spec: {pools: [a], nodeSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}", []string{
		"spec.nodeSelector: Invalid value: matchExpressions: operator must be In or NotIn with values, or Exists or DoesNotExist without",
	}},
	{"range with one end", "AddressPool", "spec: {addresses: ['192.0.2.1-']}", []string{
		`spec.addresses[0]: Invalid value: "192.0.2.1-": must be a CIDR without host bits (192.0.2.0/28, 2001:db8::/120, one address: 192.0.2.1/32) or a range of one IP family (192.0.2.10-192.0.2.20)`,
	}},
	{"listed twice", "AddressPool", "spec: {addresses: [192.0.2.0/24, 192.0.2.0/24]}", []string{
		`spec.addresses[1]: Duplicate value: "192.0.2.0/24"`,
	}},
	{"misspelt field", "AddressPool", "spec: {adresses: [192.0.2.0/24], addresses: [192.0.2.0/24]}", []string{
		"spec.adresses: Forbidden: unknown field",
	}},

	{"no pools", "LoadBalancerClass", "spec: {pools: []}", []string{
		"spec.pools: Invalid value: 0: spec.pools in body should have at least 1 items",
	}},
	{"pool twice", "LoadBalancerClass", "spec: {pools: [a, b, a]}", []string{
		"spec.pools: Invalid value: must not name a pool twice: list each AddressPool once, in the order to try them",
	}},
	{"name too long for a Service", "LoadBalancerClass", "metadata: {name: " + strings.Repeat("a", 64) + "}\nspec: {pools: [a]}", []string{
		"<nil>: Invalid value: metadata.name must have at most 63 characters: a Service could not name the class otherwise",
	}},
	{"nameless pool", "LoadBalancerClass", "spec: {pools: ['']}", []string{
		`spec.pools[0]: Invalid value: "": spec.pools[0] in body should be at least 1 chars long`,
	}},
	{"community out of range", "LoadBalancerClass", "spec: {pools: [a], bgp: {communities: ['65536:1']}}", []string{
		`spec.bgp.communities[0]: Invalid value: "65536:1": must be two numbers from 0 to 65535 with a colon between them, for example 64500:120`,
	}},
	{"community by name", "LoadBalancerClass", "spec: {pools: [a], bgp: {communities: [no-export]}}", []string{
		`spec.bgp.communities[0]: Invalid value: "no-export": must be two numbers from 0 to 65535 with a colon between them, for example 64500:120`,
	}},
	{"large community", "LoadBalancerClass", "spec: {pools: [a], bgp: {communities: ['1:2:3']}}", []string{
		`spec.bgp.communities[0]: Invalid value: "1:2:3": must be two numbers from 0 to 65535 with a colon between them, for example 64500:120`,
	}},

	{"host name", "BGPPeer", "spec: {address: router.example.org, peerASN: 1, localASN: 2}", []string{
		`spec.address: Invalid value: "router.example.org": must be the router's IPv4 or IPv6 address, for example 192.0.2.1; host names, link-local and multicast addresses do not work here`,
	}},
	{"unspecified address", "BGPPeer", "spec: {address: 0.0.0.0, peerASN: 1, localASN: 2}", []string{
		`spec.address: Invalid value: "0.0.0.0": must be the router's IPv4 or IPv6 address, for example 192.0.2.1; host names, link-local and multicast addresses do not work here`,
	}},
	{"link-local address", "BGPPeer", "spec: {address: 'fe80::1', peerASN: 1, localASN: 2}", []string{
		`spec.address: Invalid value: "fe80::1": must be the router's IPv4 or IPv6 address, for example 192.0.2.1; host names, link-local and multicast addresses do not work here`,
	}},
	{"multicast address", "BGPPeer", "spec: {address: 224.0.0.5, peerASN: 1, localASN: 2}", []string{
		`spec.address: Invalid value: "224.0.0.5": must be the router's IPv4 or IPv6 address, for example 192.0.2.1; host names, link-local and multicast addresses do not work here`,
	}},
	{"no ASNs", "BGPPeer", "spec: {address: 192.0.2.1}", []string{
		"spec.localASN: Required value",
		"spec.peerASN: Required value",
	}},
	{"ASN too large", "BGPPeer", "spec: {address: 192.0.2.1, peerASN: 4294967295, localASN: 2}", []string{
		"spec.peerASN: Invalid value: 4294967295: spec.peerASN in body should be less than or equal to 4294967294",
	}},
	{"hold time too short", "BGPPeer", "spec: {address: 192.0.2.1, peerASN: 1, localASN: 2, holdTimeSeconds: 2}", []string{
		"spec.holdTimeSeconds: Invalid value: 2: spec.holdTimeSeconds in body should be greater than or equal to 3",
	}},
	{"multihop inside", "BGPPeer", "spec: {address: 192.0.2.1, peerASN: 1, localASN: 1, ebgpMultihop: 2}", []string{
		"spec: Invalid value: ebgpMultihop is for external peers: leave it out when peerASN equals localASN",
	}},
	{"one hop", "BGPPeer", "spec: {address: 192.0.2.1, peerASN: 1, localASN: 2, ebgpMultihop: 1}", []string{
		"spec.ebgpMultihop: Invalid value: 1: spec.ebgpMultihop in body should be greater than or equal to 2",
	}},
	{"port zero", "BGPPeer", "spec: {address: 192.0.2.1, port: 0, peerASN: 1, localASN: 2}", []string{
		"spec.port: Invalid value: 0: spec.port in body should be greater than or equal to 1",
	}},
}
