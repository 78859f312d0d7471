// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

// Spec is what to put into a NetBox.
type Spec struct {
	// Cluster names the cluster whose fenced token is made. Empty makes none.
	Cluster string
	// ReservedTenants are slugs of tenants whose reserved addresses the cluster
	// may take.
	ReservedTenants []string
	// KnownToken is the cluster's token of a former Seed. It is kept if it
	// still works; NetBox tells a token only once.
	KnownToken string
	// Region and Site are names; the devices are at the site. Empty means
	// "lab" and "rack-1".
	Region, Site string
	Devices      []Device
	Prefixes     []Prefix
}

// Device is a machine with one interface, eth0.
type Device struct {
	Name string
	// Addrs are its primary addresses with their masks, one of each family at
	// most.
	Addrs []netip.Prefix
}

// Prefix is where addresses come from.
type Prefix struct {
	CIDR netip.Prefix
	// VRF is a name; empty means the global table.
	VRF string
	// Pool makes the first and last address usable.
	Pool        bool
	Description string
}

// Seeded is what Seed made or found.
type Seeded struct {
	// Token is the cluster's, which may write only the cluster's addresses.
	Token string
	// DeviceIDs are by name, PrefixIDs in the order of the spec.
	DeviceIDs map[string]int64
	PrefixIDs []int64
}

// Seed puts a spec into a NetBox. What is there already stays, so that a
// second call changes nothing.
func Seed(ctx context.Context, t Target, spec Spec) (*Seeded, error) {
	s := &seeder{rest: newREST(t), out: Seeded{DeviceIDs: map[string]int64{}}}
	spec.Region, spec.Site = orDefault(spec.Region, "lab"), orDefault(spec.Site, "rack-1")
	for _, step := range []func(context.Context, Spec) error{s.setUp, s.prefixes, s.devices} {
		if err := step(ctx, spec); err != nil {
			return nil, fmt.Errorf("seeding NetBox: %w", err)
		}
	}
	return &s.out, nil
}

func orDefault(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

type seeder struct {
	*rest
	out Seeded
}

func (s *seeder) prefixes(ctx context.Context, spec Spec) error {
	const path = "/api/ipam/prefixes/"
	for _, p := range spec.Prefixes {
		vrf, err := s.vrf(ctx, p.VRF)
		if err != nil {
			return err
		}
		cidr := p.CIDR.Masked().String()
		found, err := s.find(ctx, path, url.Values{"prefix": {cidr}}, func(o object) bool {
			return o.text("prefix") == cidr && o.nested("vrf") == vrf
		})
		if err != nil {
			return err
		}
		if found == nil {
			body := object{"prefix": cidr, "is_pool": p.Pool, "description": p.Description, "status": "active"}
			if vrf != 0 {
				body["vrf"] = vrf
			}
			if err := s.do(ctx, http.MethodPost, path, body, &found); err != nil {
				return err
			}
		}
		s.out.PrefixIDs = append(s.out.PrefixIDs, found.id())
	}
	return nil
}

func (s *seeder) vrf(ctx context.Context, name string) (int64, error) {
	if name == "" {
		return 0, nil
	}
	o, err := s.ensure(ctx, "/api/ipam/vrfs/", "name", object{"name": name})
	return o.id(), err
}

// kind is what all devices have in common.
type kind struct{ site, role, deviceType int64 }

func (s *seeder) devices(ctx context.Context, spec Spec) error {
	k, err := s.kind(ctx, spec)
	if err != nil {
		return err
	}
	for _, d := range spec.Devices {
		if err := s.device(ctx, k, d); err != nil {
			return fmt.Errorf("device %q: %w", d.Name, err)
		}
	}
	return nil
}

func (s *seeder) kind(ctx context.Context, spec Spec) (k kind, err error) {
	named := func(path, name string, more object) int64 {
		if err != nil {
			return 0
		}
		body := object{"name": name, "slug": slug(name)}
		maps.Copy(body, more)
		var o object
		o, err = s.ensure(ctx, path, "slug", body)
		return o.id()
	}
	region := named("/api/dcim/regions/", spec.Region, nil)
	k.site = named("/api/dcim/sites/", spec.Site, object{"region": region, "status": "active"})
	k.role = named("/api/dcim/device-roles/", "Kubernetes node", object{"color": "2196f3"})
	maker := named("/api/dcim/manufacturers/", "bm-ccm", nil)
	if err != nil {
		return kind{}, err
	}
	t, err := s.ensure(ctx, "/api/dcim/device-types/", "slug", object{"manufacturer": maker, "model": "Lab node", "slug": "lab-node"})
	k.deviceType = t.id()
	return k, err
}

var notSlug = regexp.MustCompile(`[^a-z0-9_-]+`)

func slug(name string) string {
	return strings.Trim(notSlug.ReplaceAllString(strings.ToLower(name), "-"), "-")
}

func (s *seeder) device(ctx context.Context, k kind, d Device) error {
	o, err := s.ensure(ctx, "/api/dcim/devices/", "name", object{
		"name": d.Name, "site": k.site, "role": k.role, "device_type": k.deviceType, "status": "active",
	})
	if err != nil {
		return err
	}
	s.out.DeviceIDs[d.Name] = o.id()
	port, err := s.port(ctx, o.id())
	if err != nil {
		return err
	}
	for _, a := range d.Addrs {
		id, err := s.address(ctx, port, a)
		if err != nil {
			return fmt.Errorf("address %s: %w", a, err)
		}
		primary := "primary_ip6"
		if a.Addr().Unmap().Is4() {
			primary = "primary_ip4"
		}
		if o.nested(primary) == id {
			continue
		}
		if err := s.put(ctx, "/api/dcim/devices/", o.id(), object{primary: id}); err != nil {
			return err
		}
	}
	return nil
}

func (s *seeder) port(ctx context.Context, device int64) (int64, error) {
	const path = "/api/dcim/interfaces/"
	query := url.Values{"device_id": {fmt.Sprint(device)}, "name": {"eth0"}}
	o, err := s.find(ctx, path, query, func(o object) bool {
		return o.nested("device") == device && o.text("name") == "eth0"
	})
	if o != nil || err != nil {
		return o.id(), err
	}
	err = s.do(ctx, http.MethodPost, path, object{"device": device, "name": "eth0", "type": "1000base-t"}, &o)
	return o.id(), err
}

// address makes sure that an address is recorded and on the interface.
func (s *seeder) address(ctx context.Context, port int64, a netip.Prefix) (int64, error) {
	const path = "/api/ipam/ip-addresses/"
	assigned := object{"assigned_object_type": "dcim.interface", "assigned_object_id": port}
	o, err := s.find(ctx, path, url.Values{"address": {a.Addr().String()}}, func(o object) bool {
		p, err := netip.ParsePrefix(o.text("address"))
		return err == nil && p.Addr() == a.Addr() && o.nested("vrf") == 0
	})
	if err != nil {
		return 0, err
	}
	if o == nil {
		assigned["address"], assigned["status"] = a.String(), "active"
		err = s.do(ctx, http.MethodPost, path, assigned, &o)
		return o.id(), err
	}
	if on, _ := o["assigned_object_id"].(float64); int64(on) == port {
		return o.id(), nil
	}
	if o["assigned_object_id"] != nil {
		return 0, errors.New("NetBox has it on another interface")
	}
	return o.id(), s.put(ctx, path, o.id(), assigned)
}
