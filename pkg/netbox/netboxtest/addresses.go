// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

import (
	"fmt"
	"math/big"
	"net/netip"
	"slices"
)

// cleanAddress checks an address as NetBox's model does. Uniqueness is checked
// here only, not by the table: who writes behind the API's back makes
// duplicates.
func cleanAddress(s *Server, o, old *object) fieldErrors {
	a := o.prefix("address")
	if a.Bits() == 0 {
		return fieldError("address", "Cannot create IP address with /0 mask.")
	}
	if errs := s.checkAssignment(o, a); errs != nil {
		return errs
	}
	if errs := s.checkDuplicate(o, a); errs != nil {
		return errs
	}
	if old == nil {
		if r := s.populatedRange(o.num("vrf"), a.Addr()); r != nil {
			return fieldError("address", "Cannot create IP address %s inside range %s.", a, rangeText(r))
		}
	}
	if o.str("status") == "slaac" && !a.Addr().Is6() {
		return fieldError("status", "Only IPv6 addresses can be assigned SLAAC status")
	}
	return s.checkMove(o, old)
}

// checkAssignment checks the interface that an address is on. NetBox refuses to put
// network and broadcast addresses on one, by the mask of the address itself.
func (s *Server) checkAssignment(o *object, a netip.Prefix) fieldErrors {
	ctype, id := o.str("assigned_object_type"), o.num("assigned_object_id")
	if ctype == "" && id == 0 {
		return nil
	}
	if ctype != "dcim.interface" && ctype != "virtualization.vminterface" {
		return fieldError("assigned_object_type", "Invalid content type: %s", ctype)
	}
	if s.tables[byType[ctype]].rows[id] == nil {
		return fieldError("assigned_object_id", "Invalid assigned_object_id: %d", id)
	}
	free := a.Addr().BitLen() - a.Bits()
	switch {
	case free < 2:
		return nil
	case a.Masked().Addr() == a.Addr():
		return modelError("%s is a network ID, which may not be assigned to an interface.", a.Addr())
	case a.Addr().Is4() && lastOf(a) == a.Addr():
		return modelError("%s is a broadcast address, which may not be assigned to an interface.", a.Addr())
	}
	return nil
}

// checkDuplicate refuses a host that its VRF has already, whatever the masks,
// unless all its records have roles that are shared by nature.
func (s *Server) checkDuplicate(o *object, a netip.Prefix) fieldErrors {
	enforced, table := s.uniqueIn(o.num("vrf"))
	if !enforced {
		return nil
	}
	var first *object
	exempt := exemptRoles[o.str("role")]
	for _, id := range s.space.taken(o.num("vrf"), a.Addr()) {
		if id == o.id {
			continue
		}
		d := s.tables[ipAddress].rows[id]
		if first == nil {
			first = d
		}
		exempt = exempt && exemptRoles[d.str("role")]
	}
	if first == nil || exempt {
		return nil
	}
	return fieldError("address", "Duplicate IP address found in %s: %s", table, first.prefix("address"))
}

// uniqueIn reports whether a VRF (0 = global table) enforces uniqueness, and its
// name in messages.
func (s *Server) uniqueIn(vrfID int64) (bool, string) {
	if vrfID == 0 {
		return !s.opts.AllowGlobalDuplicates, "global table"
	}
	return s.tables[vrf].rows[vrfID].yes("enforce_unique"), "VRF " + s.displayOf("ipam/vrfs", vrfID)
}

// checkMove refuses to take an address that is a machine's primary one away
// from its interface.
func (s *Server) checkMove(o, old *object) fieldErrors {
	if old == nil || old.num("assigned_object_id") == 0 ||
		old.num("assigned_object_id") == o.num("assigned_object_id") && old.str("assigned_object_type") == o.str("assigned_object_type") {
		return nil
	}
	for _, m := range []*model{device, virtualMachine} {
		for _, d := range s.tables[m].rows {
			if d.num("primary_ip4") == o.id || d.num("primary_ip6") == o.id {
				return modelError("Cannot reassign IP address while it is designated as the primary IP for the parent object")
			}
		}
	}
	return nil
}

// populatedRange is the range with mark_populated that a host lies in, if any.
func (s *Server) populatedRange(vrfID int64, a netip.Addr) *object {
	for _, r := range s.tables[ipRange].rows {
		if r.yes("mark_populated") && r.num("vrf") == vrfID && inRange(r, a) {
			return r
		}
	}
	return nil
}

// inRange reports whether an address lies in a range; both ends belong to it.
func inRange(r *object, a netip.Addr) bool {
	first, last := r.prefix("start_address").Addr(), r.prefix("end_address").Addr()
	return a.BitLen() == first.BitLen() && !a.Less(first) && !last.Less(a)
}

// rangeText is a range in NetBox's messages: both ends, and the mask of the first.
func rangeText(o *object) string {
	return fmt.Sprintf("%s-%s/%d", o.prefix("start_address").Addr(), o.prefix("end_address").Addr(), o.prefix("start_address").Bits())
}

// lastOf is the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// rangeSize counts the addresses from first to last.
func rangeSize(first, last netip.Addr) int64 {
	lo, hi := new(big.Int).SetBytes(first.AsSlice()), new(big.Int).SetBytes(last.AsSlice())
	n := hi.Sub(hi, lo)
	if !n.IsInt64() {
		return 1<<63 - 1
	}
	return n.Int64() + 1
}

// cleanPrefix checks a prefix as NetBox's model does. Duplicates are refused where
// the VRF enforces uniqueness only, so a pool may find several of one.
func cleanPrefix(s *Server, o, old *object) fieldErrors {
	p := o.prefix("prefix")
	if p.Bits() == 0 {
		return fieldError("prefix", "Cannot create prefix with /0 mask.")
	}
	if ct := o.str("scope_type"); ct != "" && (byType[ct] == nil || s.tables[byType[ct]].rows[o.num("scope_id")] == nil) {
		return fieldError("scope_id", "Please select a %s.", ct)
	}
	enforced, table := s.uniqueIn(o.num("vrf"))
	if !enforced {
		return nil
	}
	for _, other := range s.tables[prefix].rows {
		if other.id != o.id && other.num("vrf") == o.num("vrf") && other.prefix("prefix") == p {
			return fieldError("prefix", "Duplicate prefix found in %s: %s", table, p)
		}
	}
	return nil
}

// cleanRange checks a range as NetBox's model does. Ranges of one VRF never overlap,
// whatever it enforces for addresses.
func cleanRange(s *Server, o, old *object) fieldErrors {
	first, last := o.prefix("start_address"), o.prefix("end_address")
	switch {
	case first.Addr().BitLen() != last.Addr().BitLen():
		return fieldError("end_address", "Starting and ending IP address versions must match")
	case first.Bits() != last.Bits():
		return fieldError("end_address", "Starting and ending IP address masks must match")
	case last.Addr().Less(first.Addr()):
		return fieldError("end_address", "Ending address must be greater than or equal to the starting address (%s)", first)
	case rangeSize(first.Addr(), last.Addr()) > 1<<32-1:
		return modelError("Defined range exceeds maximum supported size (%d)", int64(1<<32-1))
	}
	for _, r := range s.tables[ipRange].rows {
		if r.id == o.id || r.num("vrf") != o.num("vrf") {
			continue
		}
		if inRange(r, first.Addr()) || inRange(r, last.Addr()) || inRange(o, r.prefix("start_address").Addr()) {
			vrfText := s.displayOf("ipam/vrfs", o.num("vrf"))
			if vrfText == "" {
				vrfText = "None"
			}
			return modelError("Defined addresses overlap with range %s in VRF %s", rangeText(r), vrfText)
		}
	}
	return nil
}

// childPrefixes and prefixDepth count the prefixes below and above one in its
// VRF.

// childPrefixes counts the prefixes below one. They take no address away from it.
func (s *Server) childPrefixes(o *object) int {
	return s.countPrefixes(o, func(p netip.Prefix) bool { return inside(p, o.prefix("prefix")) })
}

// prefixDepth counts the prefixes above one.
func (s *Server) prefixDepth(o *object) int {
	return s.countPrefixes(o, func(p netip.Prefix) bool { return inside(o.prefix("prefix"), p) })
}

// countPrefixes counts the other prefixes of a VRF that match.
func (s *Server) countPrefixes(o *object, match func(netip.Prefix) bool) int {
	n := 0
	for _, p := range s.tables[prefix].rows {
		if p.id != o.id && p.num("vrf") == o.num("vrf") && match(p.prefix("prefix")) {
			n++
		}
	}
	return n
}

// cleanDevice and cleanMachine check the primary addresses of machines.

// cleanDevice checks a device. Names are unique per site and tenant only, without
// regard to case, so two devices of one name are normal.
func cleanDevice(s *Server, o, _ *object) fieldErrors {
	for _, other := range s.tables[device].rows {
		if other.id != o.id && o.str("name") != "" && equalFold(other, o, "name") &&
			other.num("site") == o.num("site") && other.num("tenant") == o.num("tenant") {
			return modelError("Device name must be unique per site.")
		}
	}
	return s.checkPrimaries(o, "dcim.interface", "device")
}

// cleanMachine checks a virtual machine. Names are unique per cluster and tenant.
func cleanMachine(s *Server, o, _ *object) fieldErrors {
	for _, other := range s.tables[virtualMachine].rows {
		if other.id != o.id && equalFold(other, o, "name") && other.num("cluster") == o.num("cluster") &&
			other.num("tenant") == o.num("tenant") && other.num("device") == o.num("device") {
			return modelError("Virtual machine name must be unique per cluster.")
		}
	}
	return s.checkPrimaries(o, "virtualization.vminterface", "virtual_machine")
}

// equalFold compares a field of two rows as NetBox's constraints on names do.
func equalFold(a, b *object, name string) bool { return textOps["ie"](a.str(name), b.str(name)) }

// checkPrimaries wants primary addresses to be on an interface of the machine,
// and of the right family.
func (s *Server) checkPrimaries(o *object, ctype, parent string) fieldErrors {
	for _, name := range []string{"primary_ip4", "primary_ip6"} {
		id := o.num(name)
		if id == 0 {
			continue
		}
		a := s.tables[ipAddress].rows[id]
		if a.prefix("address").Addr().Is4() != (name == "primary_ip4") {
			return fieldError(name, "%s is not an IPv%s address.", a.prefix("address"), name[len(name)-1:])
		}
		own := s.interfacesOf(ctype, parent, o.id)
		if a.str("assigned_object_type") != ctype || !slices.Contains(own, a.num("assigned_object_id")) {
			return fieldError(name, "The specified IP address (%s) is not assigned to this %s.",
				a.prefix("address"), map[string]string{"device": "device", "virtual_machine": "VM"}[parent])
		}
	}
	return nil
}

// interfacesOf finds the interfaces of a machine; parent is the field that names it.
func (s *Server) interfacesOf(ctype, parent string, id int64) []int64 {
	var ids []int64
	for _, i := range s.tables[byType[ctype]].rows {
		if i.num(parent) == id {
			ids = append(ids, i.id)
		}
	}
	return ids
}
