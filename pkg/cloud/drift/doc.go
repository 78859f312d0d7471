// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package drift compares the records of claims with the Services of the cluster.
//
//	Find        what is wrong: pure, and what `bm-ccm netbox audit` prints
//	Reconciler  compares now and then, repairs what can be repaired, and reports
//	            the rest on the Services and pools that it concerns
//
// It is the safety net under package assign, which looks at one Service at a
// time and at what NetBox has for it. What only a human can decide is never set
// right by force.
package drift
