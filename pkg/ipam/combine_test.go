// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package ipam_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/inline"
)

// far is an allocator for pools in NetBox without NetBox: an inline one that
// takes the prefixes for its addresses, and can be away.
type far struct {
	*inline.Allocator
	away error
	// known are the questions to Known, finds those to Find.
	known, finds int
}

func flat(pools []ipam.Pool) []ipam.Pool {
	out := make([]ipam.Pool, len(pools))
	for i, p := range pools {
		out[i].Name = p.Name
		for _, prefix := range p.Spec.NetBox.Prefixes {
			out[i].Spec.Addresses = append(out[i].Spec.Addresses, prefix.Prefix)
		}
	}
	return out
}

func (f *far) Claim(ctx context.Context, r ipam.Request) (ipam.Claim, error) {
	if f.away != nil {
		return ipam.Claim{}, f.away
	}
	r.Pools = flat(r.Pools)
	return f.Allocator.Claim(ctx, r)
}

func (f *far) Known(ctx context.Context, key ipam.Key) (ipam.Claim, bool, error) {
	f.known++
	claims, err := f.Allocator.Find(ctx, key.Namespace, key.Service)
	for _, c := range claims {
		if c.Key == key {
			return c, true, err
		}
	}
	return ipam.Claim{}, false, err
}

func (f *far) Find(ctx context.Context, namespace, service string) ([]ipam.Claim, error) {
	f.finds++
	if f.away != nil {
		return nil, f.away
	}
	return f.Allocator.Find(ctx, namespace, service)
}

func (f *far) Release(ctx context.Context, key ipam.Key) error {
	if f.away != nil {
		return f.away
	}
	return f.Allocator.Release(ctx, key)
}

func inlinePool(name string, addresses ...string) ipam.Pool {
	return ipam.Pool{Name: name, Spec: v1alpha1.AddressPoolSpec{Addresses: addresses}}
}

func netboxPool(name, prefix string) ipam.Pool {
	return ipam.Pool{Name: name, Spec: v1alpha1.AddressPoolSpec{
		NetBox: &v1alpha1.NetBoxSource{Prefixes: []v1alpha1.NetBoxPrefix{{Prefix: prefix}}}}}
}

func both() (ipam.Store, *far, *inline.Allocator) {
	near, f := inline.New("lab"), &far{Allocator: inline.New("lab")}
	near.Restore(nil)
	f.Restore(nil)
	return ipam.Combine(f, near), f, near
}

func request(service, addr string, pools ...ipam.Pool) ipam.Request {
	r := ipam.Request{Key: ipam.Key{Cluster: "lab", Namespace: "default", Service: service, Family: ipam.IPv4}, Pools: pools}
	if addr != "" {
		r.Addr = netip.MustParseAddr(addr)
	}
	return r
}

func claim(t *testing.T, a ipam.Store, r ipam.Request) string {
	t.Helper()
	c, err := a.Claim(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return c.Addr.String()
}

func count(t *testing.T, a ipam.Store) int {
	t.Helper()
	claims, err := a.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return len(claims)
}

func TestPoolsAreTriedInTheirOrder(t *testing.T) {
	a, _, _ := both()
	pools := []ipam.Pool{inlinePool("a", "192.0.2.0/32"), netboxPool("b", "198.51.100.0/32"), inlinePool("c", "192.0.2.9/32")}
	for i, want := range []string{"192.0.2.0", "198.51.100.0", "192.0.2.9"} {
		if got := claim(t, a, request(string(rune('p'+i)), "", pools...)); got != want {
			t.Errorf("claim %d: got %s, want %s", i, got, want)
		}
	}
	_, err := a.Claim(t.Context(), request("late", "", pools...))
	want := `pool "a": 0 of 1 addresses free in 192.0.2.0/32; pool "b": 0 of 1 addresses free in 198.51.100.0/32; pool "c": 0 of 1 addresses free in 192.0.2.9/32`
	if !errors.As(err, new(*ipam.ExhaustedError)) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestAnAssignedAddressStays(t *testing.T) {
	a, _, _ := both()
	near, away := inlinePool("a", "192.0.2.0/28"), netboxPool("b", "198.51.100.0/28")
	first, second := claim(t, a, request("web", "", near)), claim(t, a, request("db", "", away))
	if got := claim(t, a, request("web", "", away)); got != first {
		t.Errorf("web moved from %s to %s", first, got)
	}
	if got := claim(t, a, request("db", "", near)); got != second {
		t.Errorf("db moved from %s to %s", second, got)
	}
}

func TestAskedForAddressMovesBetweenKinds(t *testing.T) {
	a, f, near := both()
	pools := []ipam.Pool{inlinePool("a", "192.0.2.0/28"), netboxPool("b", "198.51.100.0/28")}
	for _, addr := range []string{"192.0.2.3", "198.51.100.3", "198.51.100.4", "192.0.2.4"} {
		if got := claim(t, a, request("web", addr, pools...)); got != addr {
			t.Errorf("got %s, want %s", got, addr)
		}
		if n := count(t, a); n != 1 {
			t.Errorf("%d claims, want 1", n)
		}
	}
	if _, err := a.Claim(t.Context(), request("web", "203.0.113.1", pools...)); !errors.As(err, new(*ipam.NotInPoolsError)) {
		t.Errorf("got %v", err)
	}
	f.away = &ipam.UnavailableError{Doing: "asking", Err: errors.New("down")}
	if _, err := a.Claim(t.Context(), request("web", "198.51.100.3", pools...)); !errors.As(err, new(*ipam.UnavailableError)) {
		t.Errorf("got %v", err)
	}
	if n := count(t, near); n != 1 {
		t.Errorf("the old address was given up before the new one was had: %d claims", n)
	}
}

// TestNetBoxAway: what has nothing to do with NetBox goes on without it.
func TestNetBoxAway(t *testing.T) {
	a, f, _ := both()
	pool := inlinePool("a", "192.0.2.0/28")
	f.away = &ipam.UnavailableError{Doing: "asking", Err: errors.New("down")}
	claim(t, a, request("web", "", pool))
	if err := a.Release(t.Context(), request("web", "").Key); err != nil {
		t.Errorf("Release: %v", err)
	}
	_, err := a.Claim(t.Context(), request("db", "", netboxPool("b", "198.51.100.0/28"), pool))
	if !errors.As(err, new(*ipam.UnavailableError)) {
		t.Errorf("no answer was taken for no address: %v", err)
	}
	if f.finds != 0 {
		t.Errorf("NetBox was asked %d times", f.finds)
	}
}

func TestWithoutNetBox(t *testing.T) {
	near := inline.New("lab")
	near.Restore(nil)
	a := ipam.Combine(nil, near)
	want := `pool "b" takes addresses from NetBox, but --cloud-config has no netbox section: add one with url and tokenFile`
	for name, r := range map[string]ipam.Request{
		"any":   request("web", "", netboxPool("b", "198.51.100.0/28")),
		"asked": request("web", "198.51.100.3", netboxPool("b", "198.51.100.0/28")),
	} {
		if _, err := a.Claim(t.Context(), r); !errors.As(err, new(*ipam.ConfigError)) || err.Error() != want {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := a.Usage(t.Context(), netboxPool("b", "198.51.100.0/28")); err == nil || err.Error() != want {
		t.Errorf("Usage: %v", err)
	}
	claim(t, a, request("web", "", inlinePool("a", "192.0.2.0/28")))
	if found, err := a.Find(t.Context(), "default", "web"); err != nil || len(found) != 1 {
		t.Errorf("%v, %v", found, err)
	}
	if err := a.Release(t.Context(), request("web", "").Key); err != nil || count(t, a) != 0 {
		t.Errorf("Release: %v", err)
	}
}

// silent is a store that does not answer.
type silent struct{ ipam.Store }

func (silent) Known(context.Context, ipam.Key) (ipam.Claim, bool, error) {
	return ipam.Claim{}, false, &ipam.UnavailableError{Doing: "looking up", Err: errors.New("connection refused")}
}

// A new Service whose pools are inline does not wait for NetBox; one that has
// an address does, since NetBox may hold it.
func TestCombineDoesNotWaitForAStoreItDoesNotNeed(t *testing.T) {
	pool := ipam.Pool{Name: "inline", Spec: v1alpha1.AddressPoolSpec{Addresses: []string{"192.0.2.0/30"}}}
	key := ipam.Key{Cluster: "c", Namespace: "n", Service: "s", Family: ipam.IPv4}
	for held, waits := range map[netip.Addr]bool{{}: false, netip.MustParseAddr("192.0.2.9"): true} {
		store := inline.New("c")
		store.Restore(nil)
		_, err := ipam.Combine(silent{}, store).Claim(t.Context(), ipam.Request{Key: key, Pools: []ipam.Pool{pool}, Held: held})
		if (err != nil) != waits {
			t.Errorf("held %v: %v", held, err)
		}
	}
}
