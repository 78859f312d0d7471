// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package schema says what bm-ccm needs to find in a NetBox: the custom fields
// that hold its claims, the permissions of its user, and a version that it
// knows; and it checks the fields and the version. Who creates them, looks after
// them or imitates a NetBox takes them from here.
package schema
