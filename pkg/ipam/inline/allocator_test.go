// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package inline

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

func pool(name string, addresses ...string) ipam.Pool {
	return ipam.Pool{Name: name, Spec: v1alpha1.AddressPoolSpec{Addresses: addresses}}
}

func key(service string, f ipam.Family) ipam.Key {
	return ipam.Key{Cluster: "lab", Namespace: "default", Service: service, Family: f}
}

func restored(claims ...ipam.Claim) *Allocator {
	a := New("lab")
	a.Restore(claims)
	return a
}

func claim(t testing.TB, a *Allocator, service string, pools ...ipam.Pool) netip.Addr {
	t.Helper()
	c, err := a.Claim(t.Context(), ipam.Request{Key: key(service, ipam.IPv4), Pools: pools})
	if err != nil {
		t.Fatal(err)
	}
	return c.Addr
}

func TestNothingBeforeRestore(t *testing.T) {
	a := New("lab")
	var gone *ipam.UnavailableError
	if _, err := a.Claim(t.Context(), ipam.Request{}); !errors.As(err, &gone) {
		t.Errorf("Claim: %v", err)
	}
	if _, err := a.Find(t.Context(), "a", "b"); !errors.As(err, &gone) {
		t.Errorf("Find: %v", err)
	}
	if err := a.Release(t.Context(), ipam.Key{}); !errors.As(err, &gone) {
		t.Errorf("Release: %v", err)
	}
}

func TestLowestFreeFirstAndFallThrough(t *testing.T) {
	a := restored(ipam.Claim{Key: key("old", ipam.IPv4), Addr: netip.MustParseAddr("192.0.2.1")})
	one, two := pool("one", "192.0.2.0/31"), pool("two", "192.0.2.1-192.0.2.2") // they overlap
	got := []string{claim(t, a, "a", one, two).String(), claim(t, a, "b", one, two).String()}
	if diff := cmp.Diff([]string{"192.0.2.0", "192.0.2.2"}, got); diff != "" {
		t.Error(diff)
	}
	if again := claim(t, a, "a", two); again.String() != "192.0.2.0" {
		t.Errorf("an assigned address moved to %s when its pool left the list", again)
	}
	_, err := a.Claim(t.Context(), ipam.Request{Key: key("c", ipam.IPv4), Pools: []ipam.Pool{one, two}})
	want := `pool "one": 0 of 2 addresses free in 192.0.2.0/31; pool "two": 0 of 2 addresses free in 192.0.2.1-192.0.2.2`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := a.Release(t.Context(), key("old", ipam.IPv4)); err != nil {
		t.Fatal(err)
	}
	if c := claim(t, a, "c", one, two); c.String() != "192.0.2.1" {
		t.Errorf("the released address is not reused: %s", c)
	}
}

func TestAskedForAddress(t *testing.T) {
	a, p := restored(), pool("p", "192.0.2.0/29")
	ask := func(service, addr string) error {
		_, err := a.Claim(t.Context(), ipam.Request{Key: key(service, ipam.IPv4), Pools: []ipam.Pool{p}, Addr: netip.MustParseAddr(addr)})
		return err
	}
	if err := ask("a", "192.0.2.5"); err != nil {
		t.Fatal(err)
	}
	var conflict *ipam.ConflictError
	if err := ask("b", "192.0.2.5"); !errors.As(err, &conflict) || conflict.Holder != "Service default/a" {
		t.Errorf("a taken address gives %v", err)
	}
	var outside *ipam.NotInPoolsError
	if err := ask("b", "192.0.2.9"); !errors.As(err, &outside) {
		t.Errorf("an address outside gives %v", err)
	}
	if err := ask("a", "192.0.2.6"); err != nil { // the user changes their mind
		t.Fatal(err)
	}
	if err := ask("b", "192.0.2.5"); err != nil {
		t.Errorf("the former address is still held: %v", err)
	}
}

func TestUsage(t *testing.T) {
	a := restored()
	p := pool("p", "192.0.2.0/30", "192.0.2.2-192.0.2.5", "2001:db8::/64", "2001:db8:1::/63")
	claim(t, a, "a", p)
	got, err := a.Usage(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	want := map[ipam.Family]ipam.Usage{
		ipam.IPv4: {Capacity: 6, Used: 1, Free: 5},
		ipam.IPv6: {Capacity: math.MaxInt64, Used: 0, Free: math.MaxInt64},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAvoidBuggyIPs(t *testing.T) {
	a, p := restored(), pool("p", "192.0.2.254-192.0.3.1", "198.51.100.0/32", "2001:db8::/127")
	p.Spec.AvoidBuggyIPs = true
	if got := []string{claim(t, a, "a", p).String(), claim(t, a, "b", p).String()}; !slices.Equal(got, []string{"192.0.2.254", "192.0.3.1"}) {
		t.Errorf("got %v", got)
	}
	_, err := a.Claim(t.Context(), ipam.Request{Key: key("c", ipam.IPv4), Pools: []ipam.Pool{p}})
	if want := `pool "p": 0 of 2 addresses free in 192.0.2.254-192.0.3.1, 198.51.100.0/32`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	asked := ipam.Request{Key: key("c", ipam.IPv4), Pools: []ipam.Pool{p}, Addr: netip.MustParseAddr("192.0.2.255")}
	if c, err := a.Claim(t.Context(), asked); err != nil || c.Addr != asked.Addr {
		t.Errorf("asked for %s, got %v, %v", asked.Addr, c.Addr, err)
	}
	got, err := a.Usage(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	want := map[ipam.Family]ipam.Usage{ipam.IPv4: {Capacity: 2, Used: 2}, ipam.IPv6: {Capacity: 2, Free: 2}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	last := pool("last", "255.255.255.255/32")
	last.Spec.AvoidBuggyIPs = true
	if _, err := a.Claim(t.Context(), ipam.Request{Key: key("d", ipam.IPv4), Pools: []ipam.Pool{last}}); !errors.As(err, new(*ipam.ExhaustedError)) {
		t.Errorf("got %v", err)
	}
}

func TestRestoreOfADuplicateKeepsTheFirst(t *testing.T) {
	addr := netip.MustParseAddr("192.0.2.1")
	a := restored(ipam.Claim{Key: key("a", ipam.IPv4), Addr: addr}, ipam.Claim{Key: key("b", ipam.IPv4), Addr: addr})
	claims, err := a.List(t.Context())
	if err != nil || len(claims) != 1 || claims[0].Key.Service != "a" {
		t.Errorf("%v %v", claims, err)
	}
}

// The cost of a claim must not grow with what is taken: compare the sub-benchmarks.
func BenchmarkClaim(b *testing.B) {
	for _, taken := range []int{10, 1000, 10_000, 60_000} {
		b.Run(fmt.Sprintf("taken=%d", taken), func(b *testing.B) {
			a, p := restored(), pool("p", "10.0.0.0/12")
			for i := range taken {
				claim(b, a, fmt.Sprintf("s%d", i), p)
			}
			for b.Loop() {
				claim(b, a, "new", p)
				if err := a.Release(b.Context(), key("new", ipam.IPv4)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The set must agree with a plain map about the lowest free address, also where
// whole words and their parents are full and where the address space ends.
func TestFreeAgreesWithAMap(t *testing.T) {
	for _, base := range []string{"0.0.0.0", "10.0.0.0", "255.255.224.0", "2001:db8::ffff:ffff:ffff:f000", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:e000"} {
		s, used := newUsedSet(), map[netip.Addr]bool{}
		first := netip.MustParseAddr(base)
		addrs := make([]netip.Addr, 0, 8192)
		for a := first; a.IsValid() && len(addrs) < 8192; a = a.Next() {
			addrs = append(addrs, a)
		}
		rng := rand.New(rand.NewPCG(1, 2))
		for range 20_000 {
			if rng.IntN(4) == 0 {
				a := addrs[rng.IntN(len(addrs))]
				if used[a] {
					delete(used, a)
					s.remove(numberOf(a))
				}
				continue
			}
			n, ok := s.free(numberOf(first))
			if !ok {
				continue
			}
			a := n.addr(first.Is4())
			if used[a] {
				t.Fatalf("%s is given though used", a)
			}
			if i := slices.IndexFunc(addrs, func(a netip.Addr) bool { return !used[a] }); i >= 0 && addrs[i] != a {
				t.Fatalf("%s is given though %s is free", a, addrs[i])
			}
			used[a] = true
			s.add(n)
			if len(used) > 5000 {
				break
			}
		}
	}
}

func TestFreeAtTheEndOfTheAddressSpace(t *testing.T) {
	a, p := restored(), pool("p", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127", "255.255.255.255/32")
	for i, want := range []string{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ""} {
		c, err := a.Claim(t.Context(), ipam.Request{Key: key(fmt.Sprint(i), ipam.IPv6), Pools: []ipam.Pool{p}})
		if (want == "") != (err != nil) || want != "" && c.Addr.String() != want {
			t.Errorf("claim %d: %v, %v; want %s", i, c.Addr, err, want)
		}
	}
	if got := claim(t, a, "v4", p); got.String() != "255.255.255.255" {
		t.Errorf("got %s", got)
	}
}
