// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package netbox is a client of NetBox's REST API: transport, token, circuit
// breaker, paging, and the errors that tell an operator what to correct. It
// knows nothing of claims or pools; pkg/ipam/netbox and pkg/netbox/dcim do the
// asking.
//
// Requests and answers are written by hand. A generated client refuses a whole
// answer over one choice, label or empty string that its schema does not list,
// and NetBox's administrators may add such (docs/adr/raw-netbox-answers.md). So
// what is asked for decodes only the fields it needs and passes over the rest.
//
// NetBox ignores a filter that it does not know and returns everything: whoever
// asks with a filter checks each object of the answer again.
package netbox
