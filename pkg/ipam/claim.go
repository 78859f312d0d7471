// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
)

// Family is an IP family, written as in spec.ipFamilies but in lower case,
// because it is part of the claim key that engineers read and write in NetBox.
type Family string

// The IP families.
const (
	IPv4 Family = "ipv4"
	IPv6 Family = "ipv6"
)

// FamilyOf returns the family of an address. IPv4-mapped IPv6 addresses count
// as IPv4.
func FamilyOf(a netip.Addr) Family {
	if a.Unmap().Is4() {
		return IPv4
	}
	return IPv6
}

// Bits is the length of a prefix of this family that covers one address.
func (f Family) Bits() int {
	if f == IPv4 {
		return 32
	}
	return 128
}

// Key identifies a claim. Its text form is
// "<cluster>/<namespace>/<service>/<family>", which is what stands in NetBox.
type Key struct {
	Cluster   string
	Namespace string
	Service   string
	Family    Family
}

// String returns the text form of the key.
func (k Key) String() string {
	return k.Cluster + "/" + k.Namespace + "/" + k.Service + "/" + string(k.Family)
}

// groupMark begins Key.Service in the claim of a shared address. No name of a
// Service can begin with it.
const groupMark = "+"

// GroupKey is the key of the address that the Services of a namespace with this
// sharing key have together.
func GroupKey(cluster, namespace, sharingKey string, family Family) Key {
	return Key{Cluster: cluster, Namespace: namespace, Service: groupMark + sharingKey, Family: family}
}

// Group returns the sharing key; ok is false for the claim of a single Service.
func (k Key) Group() (sharingKey string, ok bool) {
	return strings.CutPrefix(k.Service, groupMark)
}

// ParseKey reads the text form of a key.
func ParseKey(s string) (Key, error) {
	parts := strings.Split(s, "/")
	if len(parts) != 4 {
		return Key{}, fmt.Errorf("claim key %q: want <cluster>/<namespace>/<service>/<ipv4|ipv6>", s)
	}
	k := Key{Cluster: parts[0], Namespace: parts[1], Service: parts[2], Family: Family(parts[3])}
	for i, p := range parts[:3] {
		if p == "" {
			return Key{}, fmt.Errorf("claim key %q: part %d is empty", s, i+1)
		}
	}
	if k.Family != IPv4 && k.Family != IPv6 {
		return Key{}, fmt.Errorf("claim key %q: family %q is neither ipv4 nor ipv6", s, parts[3])
	}
	return k, nil
}

// Owner is the Service that a claim is for, beyond what its key says.
type Owner struct {
	// UID is the Service's metadata.uid. A claim whose key is right and whose
	// UID is another one belongs to a former Service of the same name.
	UID string
	// Class is the name of the LoadBalancerClass.
	Class string
}

// SharedUID is the Owner.UID of a claim that several Services share.
const SharedUID = "shared"

// Claim is an address that a Service owns.
type Claim struct {
	Key   Key
	Owner Owner
	Addr  netip.Addr
	// Pool is the AddressPool that the address came from; empty when no pool
	// covers it (any more).
	Pool string
	// Reserved says that the address is kept for the Service of this name, which
	// does not have it (yet, or any longer).
	Reserved bool
}

// Request asks for a claim.
type Request struct {
	Key   Key
	Owner Owner
	// Pools are tried in this order; they are the pools that the Service may
	// use and that have addresses of the key's family.
	Pools []Pool
	// Addr is the address that the user asked for; the zero Addr means any.
	// It is claimed only if one of Pools holds it.
	Addr netip.Addr
	// Held is the address that the Service has by its status; the zero Addr
	// means none yet. It stays unless Addr says otherwise: where the record
	// names another one, that is a *MovedError, and where it is gone from the
	// record, it is recorded again.
	//
	// Without it, a store that cannot be asked, and that none of Pools is in,
	// need not be waited for.
	Held netip.Addr
	// Former are keys whose claim this one takes over where it has none itself:
	// the Service's own when it begins to share an address, the shared one when
	// it stops.
	Former []Key
	// Hostname is the DNS name to record with the address; may be empty.
	Hostname string
}

// Claims are the claims of one store. Implementations are safe for concurrent
// use, and every method returns within the deadline of its context.
type Claims interface {
	// Claim returns the claim of the request's key: the one that exists, also
	// if it is in none of the request's pools (an assigned address stays), or a
	// new one, recorded with its owner before Claim returns. When it returns an
	// error, a later call with the same key finds whatever was recorded.
	//
	// Where the request names an address that differs from the existing
	// claim's, the existing claim is released after the new one is recorded.
	//
	// Errors: *ExhaustedError, *NotInPoolsError, *ConflictError,
	// *MovedError, *UnavailableError, *ConfigError.
	Claim(ctx context.Context, r Request) (Claim, error)

	// Find returns the claims of a Service, in the order ipv4, ipv6. It answers
	// from the record, so that none means there is nothing to release.
	Find(ctx context.Context, namespace, service string) ([]Claim, error)

	// Known returns the claim of a key as far as this process knows all claims of
	// the cluster, which it reads at its first use; then it asks nobody, so that a
	// Service whose pools are elsewhere does not pay a remote call. The error says
	// why it cannot tell.
	Known(ctx context.Context, key Key) (Claim, bool, error)

	// Release frees the claim of this key. No claim is no error. A record whose
	// owner is somebody else is left alone (*ConflictError).
	Release(ctx context.Context, key Key) error

	// Retain takes the claim of this key from its Service and keeps the address
	// for the next Service of that name. No claim is no error. Where claims end
	// with their Services (pools without NetBox) it is the same as Release.
	Retain(ctx context.Context, key Key) error
}

// Pools know what a store has for an AddressPool.
type Pools interface {
	// Resolve returns the pool with Found set to what the store has for it now.
	// It answers from what is known, a short time long, and from what was known
	// last while the store is away.
	Resolve(ctx context.Context, p Pool) (Pool, error)

	// Usage counts the addresses of a pool, by family.
	Usage(ctx context.Context, p Pool) (map[Family]Usage, error)
}

// Records are everything that a store has of this cluster.
type Records interface {
	// List returns all claims of this cluster.
	List(ctx context.Context) ([]Claim, error)

	// Audit reads all claims of this cluster and the addresses of the pools, and
	// returns what is wrong with them. It changes nothing.
	Audit(ctx context.Context, pools []Pool) (Report, error)
}

// Store is where claims are kept: NetBox, or the memory of this process for
// pools that list their addresses. Who uses one asks for the part that it needs.
type Store interface {
	Claims
	Pools
	Records
}

// Usage counts addresses of one family in one pool. Counts above 2^63-1 are
// given as 2^63-1.
type Usage struct {
	Capacity, Used, Free int64
}

// Report is what Audit found.
type Report struct {
	// Claims are what List returns.
	Claims []Claim
	// Findings are ordered by address.
	Findings []Finding
}

// FindingKind says what is wrong, as a label of a metric. The reason of a
// condition is the same in camel case.
type FindingKind string

// The kinds of findings within the records, which only a human can set right.
const (
	// DuplicateClaim: several records hold one claim key.
	DuplicateClaim FindingKind = "duplicate-claim"
	// DuplicateAddress: several records are of one address, one of them a claim.
	DuplicateAddress FindingKind = "duplicate-address"
	// ForeignOwner: a record with a claim key of this cluster belongs to another.
	ForeignOwner FindingKind = "foreign-owner"
	// SameClusterName: another cluster uses the name of this one.
	SameClusterName FindingKind = "same-cluster-name"
	// BadClaim: a record names this cluster, and its claim key cannot be read or
	// does not fit the address.
	BadClaim FindingKind = "bad-claim"
)

// The kinds of findings between the records and the Services of the cluster.
const (
	// Orphan: a claim whose Service is gone. It is freed after a grace period.
	Orphan FindingKind = "orphan"
	// Unrecorded: a Service has an address that is not recorded as its own. It is
	// recorded again.
	Unrecorded FindingKind = "unrecorded"
	// Drifted: an address is recorded for a Service whose status lacks it. The
	// status is written again.
	Drifted FindingKind = "drifted"
	// Moved: the record gives a Service another address than it has. The Service
	// keeps what it has until a human decides.
	Moved FindingKind = "moved"
)

// Finding is something about the records of claims that is not as it should be.
type Finding struct {
	Kind FindingKind
	// Namespace and Name are of the Service that it concerns, which may not
	// exist. Name is "+<sharing key>" where it is about a shared address. Both
	// are empty where it concerns no Service.
	Namespace, Name string
	// Key is the claim that it is about; the zero Key if it is about none.
	Key Key
	// Addr is the address that it is about; may be invalid.
	Addr netip.Addr
	// Text is a sentence that names the records and the fix.
	Text string
}

// String returns a line for a terminal or a log.
func (f Finding) String() string {
	who := "-"
	if f.Name != "" {
		who = f.Namespace + "/" + f.Name
	}
	addr := "-"
	if f.Addr.IsValid() {
		addr = f.Addr.String()
	}
	return fmt.Sprintf("%s\t%s\t%s\t%s", f.Kind, who, addr, f.Text)
}
