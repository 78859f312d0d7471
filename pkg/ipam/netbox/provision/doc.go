// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package provision is what "bm-ccm netbox init" and "bm-ccm netbox check" do:
// it creates in NetBox what package schema describes, with an administrator's
// token, and verifies with the cluster's own token that everything is as claims
// need it. The controller does without it.
//
// Init never weakens what exists, and Check changes nothing: what it writes to
// find out what the token may do, NetBox cannot accept.
package provision
