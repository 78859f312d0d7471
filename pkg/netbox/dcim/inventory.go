// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package dcim

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/bm-ccm/bm-ccm/pkg/netbox"
)

// The kinds of machines.
const (
	KindDevice         = "device"
	KindVirtualMachine = "virtual-machine"
)

// ErrNotFound says that NetBox definitely has no such machine. An answer that
// leaves doubt is another error: a Node may be deleted over this one.
var ErrNotFound = errors.New("NetBox has no such machine")

// Machine is a device or virtual machine.
type Machine struct {
	// Kind is KindDevice or KindVirtualMachine.
	Kind string
	// ID is unique among the machines of a kind and never used again.
	ID   int64
	Name string
	// Status is the status value, for example "active".
	Status string
	// Addresses are the primary addresses, IPv4 first.
	Addresses []netip.Addr
	// Type is the slug of the device type, or of the virtual machine's type,
	// which NetBox has from 4.6 on.
	Type string
	// Site and Region are slugs; empty where NetBox has none.
	Site, Region string
}

// Inventory reads machines from NetBox.
type Inventory struct {
	client *netbox.Client

	mu      sync.Mutex
	regions map[int64]knownRegion
}

// knownRegion is the region of a site, until somebody may have moved it.
type knownRegion struct {
	slug    string
	expires time.Time
}

// regionTTL is how late a site's move to another region is noticed.
const regionTTL = 5 * time.Minute

// NewInventory returns an inventory of what the client's token may see.
func NewInventory(c *netbox.Client) *Inventory {
	return &Inventory{client: c, regions: map[int64]knownRegion{}}
}

// Machine returns the machine of exactly this name: a device, else a virtual
// machine. Names need not be unique in NetBox; two of one kind are an error.
func (i *Inventory) Machine(ctx context.Context, name string) (Machine, error) {
	for _, kind := range []string{KindDevice, KindVirtualMachine} {
		found, err := i.list(ctx, kind, url.Values{"name": {name}, "limit": {"50"}})
		if err != nil {
			return Machine{}, err
		}
		// NetBox 4.7 compares names without regard to case.
		same := slices.DeleteFunc(found.Results, func(o machineObject) bool { return o.Name != name })
		switch {
		case len(same) == 1:
			return i.machine(ctx, kind, same[0])
		case len(same) > 1:
			return Machine{}, &netbox.ConfigError{Problem: fmt.Sprintf(
				"NetBox has %d %ss named %q: rename all but one, or set the Node's spec.providerID", len(same), kind, name)}
		}
	}
	return Machine{}, fmt.Errorf("name %q: %w", name, ErrNotFound)
}

// MachineByID returns the machine with an id. Before it says ErrNotFound it
// makes sure that the token still sees other machines: NetBox hides what a
// token may not see.
func (i *Inventory) MachineByID(ctx context.Context, kind string, id int64) (Machine, error) {
	obj, err := i.retrieve(ctx, kind, id)
	if netbox.StatusOf(err) != http.StatusNotFound {
		if err != nil {
			return Machine{}, err
		}
		return i.machine(ctx, kind, obj)
	}
	if !netbox.AnswerSays(err, "detail") {
		// A proxy's 404, say. NetBox's own has {"detail": "Not found."}.
		return Machine{}, err
	}
	for _, canary := range []string{KindDevice, KindVirtualMachine} {
		others, err := i.list(ctx, canary, url.Values{"limit": {"1"}})
		if err != nil {
			return Machine{}, fmt.Errorf("making sure that %s %d is gone: %w", kind, id, err)
		}
		if len(others.Results) > 0 {
			return Machine{}, fmt.Errorf("%s %d: %w", kind, id, ErrNotFound)
		}
	}
	return Machine{}, &netbox.ConfigError{Problem: fmt.Sprintf(
		"NetBox shows no %s %d, and no machine at all: let the token view dcim.device and virtualization.virtualmachine", kind, id)}
}

// machineObject is a device or virtual machine as NetBox has it.
type machineObject struct {
	netbox.ObjectID
	Name       string        `json:"name"`
	Status     netbox.Choice `json:"status"`
	PrimaryIP4 *addressRef   `json:"primary_ip4"`
	PrimaryIP6 *addressRef   `json:"primary_ip6"`
	DeviceType *slugRef      `json:"device_type"`
	VMType     *slugRef      `json:"virtual_machine_type"`
	Site       *slugRef      `json:"site"`
}

type addressRef struct {
	Address string `json:"address"`
}

type slugRef struct {
	netbox.ObjectID
	Slug string `json:"slug"`
}

// paths are where the REST API lists the machines of a kind.
var paths = map[string]string{
	KindDevice:         "dcim/devices/",
	KindVirtualMachine: "virtualization/virtual-machines/",
}

// list asks for one page: names are unique enough for that to be all.
func (i *Inventory) list(ctx context.Context, kind string, query url.Values) (netbox.Page[machineObject], error) {
	var out netbox.Page[machineObject]
	err := i.client.Do(ctx, netbox.Request{Doing: fmt.Sprintf("looking for %ss in NetBox", kind), Path: paths[kind], Query: query}, &out)
	return out, err
}

func (i *Inventory) retrieve(ctx context.Context, kind string, id int64) (machineObject, error) {
	path, ok := paths[kind]
	if !ok || id <= 0 {
		// The id comes from a Node's spec.providerID, which anybody may write.
		return machineObject{}, fmt.Errorf("machine %s %d: want a %s or %s and an id from 1 on", kind, id, KindDevice, KindVirtualMachine)
	}
	var out machineObject
	err := i.client.Do(ctx, netbox.Request{Doing: fmt.Sprintf("reading %s %d from NetBox", kind, id), Path: netbox.PathOf(path, id)}, &out)
	return out, err
}

// machine reads what nodes need of an object. An address that cannot be read is
// an error: without it a Node would lose the address in silence.
func (i *Inventory) machine(ctx context.Context, kind string, o machineObject) (Machine, error) {
	m := Machine{Kind: kind, ID: o.ID, Name: o.Name, Status: o.Status.Value}
	for _, ref := range []*addressRef{o.PrimaryIP4, o.PrimaryIP6} {
		if ref == nil {
			continue
		}
		p, err := netip.ParsePrefix(ref.Address)
		if err != nil {
			return Machine{}, fmt.Errorf("primary address of %s %q in NetBox: %w", kind, o.Name, err)
		}
		m.Addresses = append(m.Addresses, p.Addr())
	}
	for _, t := range []*slugRef{o.DeviceType, o.VMType} {
		if t != nil {
			m.Type = t.Slug
		}
	}
	if o.Site == nil {
		return m, nil
	}
	m.Site = o.Site.Slug
	region, err := i.region(ctx, o.Site.ID)
	m.Region = region
	return m, err
}

// region returns the slug of a site's region. A site as it comes with a device
// does not have it, and most nodes are in a few sites, so it is remembered.
func (i *Inventory) region(ctx context.Context, site int64) (string, error) {
	i.mu.Lock()
	known, ok := i.regions[site]
	i.mu.Unlock()
	if ok && time.Now().Before(known.expires) {
		return known.slug, nil
	}
	var out struct {
		Region *slugRef `json:"region"`
	}
	r := netbox.Request{Doing: fmt.Sprintf("reading site %d from NetBox", site), Path: netbox.PathOf("dcim/sites/", site)}
	if err := i.client.Do(ctx, r, &out); err != nil {
		return "", err
	}
	known = knownRegion{expires: time.Now().Add(regionTTL)}
	if out.Region != nil {
		known.slug = out.Region.Slug
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.regions[site] = known
	return known.slug, nil
}
