// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package schema says what bm-ccm needs to find in a NetBox: the custom fields
// that hold its claims. Who creates them, checks them or imitates a NetBox
// takes them from here.
package schema
