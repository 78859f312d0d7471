// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
)

// The texts of these errors end up in Events: they are sentences for the user
// that name the pool, the field and the fix.

// ExhaustedError says that no pool has a free address.
type ExhaustedError struct {
	Family Family
	// Pools says for each pool that was tried how full it is, for example
	// `pool "public": 0 of 254 addresses free in 203.0.113.0/24`.
	Pools []string
}

func (e *ExhaustedError) Error() string {
	if len(e.Pools) == 0 {
		return fmt.Sprintf("no pool with %s addresses may be used", e.Family)
	}
	return strings.Join(e.Pools, "; ")
}

// NotInPoolsError says that the asked-for address lies in no pool that the
// Service may use.
type NotInPoolsError struct {
	Addr netip.Addr
	// Pools are the names of the pools that the Service may use.
	Pools []string
}

func (e *NotInPoolsError) Error() string {
	return fmt.Sprintf("address %s is in none of the pools this Service may use (%s): ask for one of theirs or add it to a pool",
		e.Addr, strings.Join(e.Pools, ", "))
}

// NoPoolError says that a class has no pool with addresses of a family for this
// Service, however empty its pools are.
type NoPoolError struct {
	Class  string
	Family Family
	// Reasons says for each pool of the class why it cannot be used.
	Reasons []string
}

func (e *NoPoolError) Error() string {
	return fmt.Sprintf("LoadBalancerClass %q has no pool with %s addresses for this Service: %s",
		e.Class, e.Family, strings.Join(e.Reasons, "; "))
}

// ConflictError says that a record belongs to somebody else.
type ConflictError struct {
	Addr netip.Addr
	// Holder says whose it is, as far as the record tells.
	Holder string
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("address %s is taken by %s: ask for another address or free it there", e.Addr, e.Holder)
}

// MovedError says that the record gives a Service another address than the one
// it has. The one that it has stays.
type MovedError struct {
	// Held is the address that the Service has.
	Held netip.Addr
	// Recorded is the one that the record gives it.
	Recorded netip.Addr
	// Where says which record that is, for example "NetBox address 17".
	Where string
}

func (e *MovedError) Error() string {
	return fmt.Sprintf("this Service has %s and keeps it, but %s gives it %s: to move it there set the annotation %s: %s, to leave it where it is clear the claim there",
		e.Held, e.Where, e.Recorded, v1alpha1.AnnotationAddresses, e.Recorded)
}

// UnavailableError says that the store of claims could not be asked or did not
// answer. What was asked may have happened all the same.
type UnavailableError struct {
	// Doing is what was being done, for example "claiming an address in 203.0.113.0/24".
	Doing string
	Err   error
	// RetryAfter is how long the store asked to be left alone; 0 if it did not.
	RetryAfter time.Duration
}

func (e *UnavailableError) Error() string { return fmt.Sprintf("%s: %v", e.Doing, e.Err) }
func (e *UnavailableError) Unwrap() error { return e.Err }

// ConfigError says that something must be set right by a human before it can
// work: a missing prefix, a wrong custom field, a token without rights.
type ConfigError struct {
	// Problem is the whole sentence, with the fix.
	Problem string
}

func (e *ConfigError) Error() string { return e.Problem }
