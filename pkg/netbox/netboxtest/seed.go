// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"strings"

	"sigs.k8s.io/yaml"
)

// Seed is what a NetBox holds at the start. Its file form is YAML or JSON.
// Things are named by name or slug, and what a device refers to is made if it
// is not there.
type Seed struct {
	// ClaimFields adds the custom fields of ClaimFields.
	ClaimFields  bool          `json:"claimFields,omitempty"`
	CustomFields []CustomField `json:"customFields,omitempty"`
	Tokens       []Token       `json:"tokens,omitempty"`
	Tags         []string      `json:"tags,omitempty"`
	Tenants      []string      `json:"tenants,omitempty"`
	// Regions are named in Sites; here they only need to be listed to exist
	// without one.
	Regions  []string      `json:"regions,omitempty"`
	Sites    []SeedSite    `json:"sites,omitempty"`
	VRFs     []SeedVRF     `json:"vrfs,omitempty"`
	Prefixes []SeedPrefix  `json:"prefixes,omitempty"`
	Ranges   []SeedRange   `json:"ranges,omitempty"`
	Devices  []SeedDevice  `json:"devices,omitempty"`
	Addrs    []SeedAddress `json:"addresses,omitempty"`
}

// SeedSite is a site.
type SeedSite struct {
	Name   string `json:"name"`
	Region string `json:"region,omitempty"`
}

// SeedVRF is a VRF. Its addresses are unique unless AllowDuplicates is set.
type SeedVRF struct {
	Name            string `json:"name"`
	RD              string `json:"rd,omitempty"`
	AllowDuplicates bool   `json:"allowDuplicates,omitempty"`
}

// SeedPrefix is a prefix.
type SeedPrefix struct {
	Prefix      string   `json:"prefix"`
	VRF         string   `json:"vrf,omitempty"`
	Tenant      string   `json:"tenant,omitempty"`
	Site        string   `json:"site,omitempty"`
	Status      string   `json:"status,omitempty"`
	IsPool      bool     `json:"isPool,omitempty"`
	Description string   `json:"description,omitempty"`
	Tags        []string `json:"tags,omitempty"`
}

// SeedRange is an IP range. Start and End carry a mask.
type SeedRange struct {
	Start         string   `json:"start"`
	End           string   `json:"end"`
	VRF           string   `json:"vrf,omitempty"`
	Tenant        string   `json:"tenant,omitempty"`
	Status        string   `json:"status,omitempty"`
	MarkPopulated bool     `json:"markPopulated,omitempty"`
	Tags          []string `json:"tags,omitempty"`
}

// SeedDevice is a device, or a virtual machine, with an interface "eth0" that
// has its primary addresses.
type SeedDevice struct {
	Name string `json:"name"`
	// VirtualMachine makes it one; Type, Rack and Location are not for those.
	VirtualMachine bool   `json:"virtualMachine,omitempty"`
	Site           string `json:"site,omitempty"`
	Type           string `json:"type,omitempty"`
	Role           string `json:"role,omitempty"`
	Location       string `json:"location,omitempty"`
	Rack           string `json:"rack,omitempty"`
	Tenant         string `json:"tenant,omitempty"`
	Status         string `json:"status,omitempty"`
	Serial         string `json:"serial,omitempty"`
	// Primary4 and Primary6 are its primary addresses, with or without mask.
	Primary4 string   `json:"primary4,omitempty"`
	Primary6 string   `json:"primary6,omitempty"`
	Tags     []string `json:"tags,omitempty"`
}

// SeedAddress is an address record.
type SeedAddress struct {
	Address      string         `json:"address"`
	VRF          string         `json:"vrf,omitempty"`
	Tenant       string         `json:"tenant,omitempty"`
	Status       string         `json:"status,omitempty"`
	Role         string         `json:"role,omitempty"`
	DNSName      string         `json:"dnsName,omitempty"`
	Description  string         `json:"description,omitempty"`
	CustomFields map[string]any `json:"customFields,omitempty"`
	Tags         []string       `json:"tags,omitempty"`
}

// ReadSeed reads a seed file. Unknown keys are errors.
func ReadSeed(path string) (*Seed, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the seed: %w", err)
	}
	var seed Seed
	if err := yaml.UnmarshalStrict(b, &seed); err != nil {
		return nil, fmt.Errorf("reading the seed %s: %w", path, err)
	}
	return &seed, nil
}

// Apply puts in a seed: all of it, or nothing if there is something wrong with
// it. What is there already by its name is left as it is.
func (s *Server) Apply(seed *Seed) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &seeder{s: s, x: &tx{s: s, user: "seed"}}
	if err := w.all(seed); err != nil {
		w.x.rollback()
		return err
	}
	w.x.commit()
	return nil
}

// seeder puts a seed in.
type seeder struct {
	s *Server
	x *tx
}

// all puts in a seed, what others refer to first.
func (w *seeder) all(seed *Seed) error {
	for _, t := range seed.Tokens {
		if err := w.s.addToken(w.x, t); err != nil {
			return fmt.Errorf("token of user %q: %w", t.User, err)
		}
	}
	fields := seed.CustomFields
	if seed.ClaimFields {
		fields = append(ClaimFields(), fields...)
	}
	for _, f := range fields {
		if err := w.customField(f); err != nil {
			return fmt.Errorf("custom field %q: %w", f.Name, err)
		}
	}
	return w.objects(seed)
}

// objects puts in tags, tenants, regions, sites and VRFs, and then what refers to
// them.
func (w *seeder) objects(seed *Seed) error {
	for _, names := range []struct {
		m    *model
		list []string
	}{{tag, seed.Tags}, {tenant, seed.Tenants}, {region, seed.Regions}} {
		for _, n := range names.list {
			if _, err := w.named(names.m, n, nil); err != nil {
				return err
			}
		}
	}
	for _, st := range seed.Sites {
		if _, err := w.site(st.Name, st.Region); err != nil {
			return err
		}
	}
	for _, v := range seed.VRFs {
		extra := map[string]any{"enforce_unique": !v.AllowDuplicates}
		if v.RD != "" {
			extra["rd"] = v.RD
		}
		if _, err := w.named(vrf, v.Name, extra); err != nil {
			return err
		}
	}
	return w.networks(seed)
}

// networks puts in prefixes, ranges, machines and addresses. Machines come first:
// an address that both name is theirs.
func (w *seeder) networks(seed *Seed) error {
	for _, p := range seed.Prefixes {
		if err := w.prefix(p); err != nil {
			return fmt.Errorf("prefix %s: %w", p.Prefix, err)
		}
	}
	for _, r := range seed.Ranges {
		if err := w.ipRange(r); err != nil {
			return fmt.Errorf("range %s-%s: %w", r.Start, r.End, err)
		}
	}
	for _, d := range seed.Devices {
		if err := w.device(d); err != nil {
			return fmt.Errorf("device %q: %w", d.Name, err)
		}
	}
	for _, a := range seed.Addrs {
		if err := w.address(a); err != nil {
			return fmt.Errorf("address %s: %w", a.Address, err)
		}
	}
	return nil
}

// customField puts in a custom field, unless there is one of its name.
func (w *seeder) customField(f CustomField) error {
	if w.byName(customField, f.Name) != 0 {
		return nil
	}
	types := f.ObjectTypes
	if len(types) == 0 {
		types = []string{"ipam.ipaddress"}
	}
	_, err := w.s.store(w.x, customField, nil, map[string]any{
		"name": f.Name, "type": cmp.Or(f.Type, "text"), "object_types": anyList(types), "unique": f.Unique,
		"filter_logic": cmp.Or(f.FilterLogic, "loose"), "label": f.Label, "description": f.Description,
	})
	return err
}

// byName finds a row by its name, or its model for device types; 0 if none.
func (w *seeder) byName(m *model, name string) int64 {
	key := "name"
	if m == deviceType {
		key = "model"
	}
	for _, id := range w.s.tables[m].ids {
		if w.s.tables[m].rows[id].str(key) == name {
			return id
		}
	}
	return 0
}

// named finds or makes a row that has a name, and a slug made of it.
func (w *seeder) named(m *model, name string, extra map[string]any) (int64, error) {
	if id := w.byName(m, name); id != 0 {
		return id, nil
	}
	data := map[string]any{"name": name, "model": name}
	if m.field("slug") != nil {
		data["slug"] = slugOf(name)
	}
	maps.Copy(data, extra)
	o, err := w.s.store(w.x, m, nil, data)
	if err != nil {
		return 0, fmt.Errorf("%s %q: %w", strings.ToLower(m.name), name, err)
	}
	return o.id, nil
}

// slugOf makes a slug: lower case, and a hyphen for all that a slug may not
// hold.
func slugOf(name string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		}
		return '-'
	}, strings.ToLower(name)), "-")
}

// site finds or makes a site in a region.
func (w *seeder) site(name, regionName string) (int64, error) {
	extra := map[string]any{}
	if regionName != "" {
		id, err := w.named(region, regionName, nil)
		if err != nil {
			return 0, err
		}
		extra["region"] = id
	}
	return w.named(site, name, extra)
}

// common adds to data what many kinds of objects have; empty texts stay out.
func (w *seeder) common(data map[string]any, vrfName, tenantName, status string, tags []string) error {
	if status != "" {
		data["status"] = status
	}
	if vrfName != "" {
		id := w.byName(vrf, vrfName)
		if id == 0 {
			return fmt.Errorf("there is no VRF %q: list it under vrfs", vrfName)
		}
		data["vrf"] = id
	}
	if tenantName != "" {
		id, err := w.named(tenant, tenantName, nil)
		if err != nil {
			return err
		}
		data["tenant"] = id
	}
	var ids []any
	for _, t := range tags {
		id, err := w.named(tag, t, nil)
		if err != nil {
			return err
		}
		ids = append(ids, id)
	}
	data["tags"] = append([]any{}, ids...)
	return nil
}

// prefix puts in a prefix.
func (w *seeder) prefix(p SeedPrefix) error {
	data := map[string]any{"prefix": p.Prefix, "is_pool": p.IsPool, "description": p.Description}
	if err := w.common(data, p.VRF, p.Tenant, p.Status, p.Tags); err != nil {
		return err
	}
	if p.Site != "" {
		id, err := w.site(p.Site, "")
		if err != nil {
			return err
		}
		data["scope_type"], data["scope_id"] = "dcim.site", id
	}
	_, err := w.s.store(w.x, prefix, nil, data)
	return err
}

// ipRange puts in a range.
func (w *seeder) ipRange(r SeedRange) error {
	data := map[string]any{"start_address": r.Start, "end_address": r.End, "mark_populated": r.MarkPopulated}
	if err := w.common(data, r.VRF, r.Tenant, r.Status, r.Tags); err != nil {
		return err
	}
	_, err := w.s.store(w.x, ipRange, nil, data)
	return err
}

// address puts in an address record, by the rules of the API: WriteBehindBack is
// for records that break them.
func (w *seeder) address(a SeedAddress) error {
	data := map[string]any{
		"address": a.Address, "dns_name": a.DNSName, "description": a.Description, "role": a.Role,
	}
	if len(a.CustomFields) > 0 {
		data["custom_fields"] = a.CustomFields
	}
	if err := w.common(data, a.VRF, a.Tenant, a.Status, a.Tags); err != nil {
		return err
	}
	_, err := w.s.store(w.x, ipAddress, nil, data)
	return err
}

// device puts in a machine with an interface and its primary addresses, in the order
// that NetBox insists on: machine, interface, addresses, primary addresses.
func (w *seeder) device(d SeedDevice) error {
	m, ifModel, parent := device, iface, "device"
	data := map[string]any{"name": d.Name, "serial": d.Serial}
	if d.VirtualMachine {
		m, ifModel, parent = virtualMachine, vmInterface, "virtual_machine"
	}
	if err := w.common(data, "", d.Tenant, d.Status, d.Tags); err != nil {
		return err
	}
	if err := w.place(d, data); err != nil {
		return err
	}
	o, err := w.s.store(w.x, m, nil, data)
	if err != nil {
		return err
	}
	i, err := w.s.store(w.x, ifModel, nil, map[string]any{parent: o.id, "name": "eth0", "type": "other"})
	if err != nil {
		return fmt.Errorf("interface: %w", err)
	}
	return w.primaries(m, o, ifModel.ctype, i.id, d)
}

// place adds where a device is and what it is.
func (w *seeder) place(d SeedDevice, data map[string]any) error {
	var err error
	set := func(key string, id int64, e error) {
		data[key] = id
		err = cmp.Or(err, e)
	}
	if d.Site != "" || !d.VirtualMachine {
		id, e := w.site(cmp.Or(d.Site, "default"), "")
		set("site", id, e)
	}
	if d.Role != "" || !d.VirtualMachine {
		id, e := w.named(deviceRole, cmp.Or(d.Role, "server"), nil)
		set("role", id, e)
	}
	if d.VirtualMachine || err != nil {
		return err
	}
	maker, e := w.named(manufacturer, "generic", nil)
	err = cmp.Or(err, e)
	id, e := w.named(deviceType, cmp.Or(d.Type, "server"), map[string]any{"manufacturer": maker})
	set("device_type", id, e)
	if d.Location != "" {
		id, e := w.named(location, d.Location, map[string]any{"site": data["site"]})
		set("location", id, e)
	}
	if d.Rack != "" {
		id, e := w.named(rack, d.Rack, map[string]any{"site": data["site"]})
		set("rack", id, e)
	}
	return err
}

// primaries gives a machine its addresses.
func (w *seeder) primaries(m *model, o *object, ctype string, ifID int64, d SeedDevice) error {
	data := map[string]any{}
	for key, text := range map[string]string{"primary_ip4": d.Primary4, "primary_ip6": d.Primary6} {
		if text == "" {
			continue
		}
		if _, err := netip.ParseAddr(text); err != nil {
			if _, err := netip.ParsePrefix(text); err != nil {
				return fmt.Errorf("%s: %q is no address", key, text)
			}
		}
		a, err := w.s.store(w.x, ipAddress, nil, map[string]any{
			"address": text, "assigned_object_type": ctype, "assigned_object_id": ifID, "dns_name": slugOf(d.Name),
		})
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		data[key] = a.id
	}
	if len(data) == 0 {
		return nil
	}
	_, err := w.s.store(w.x, m, o, data)
	return err
}
