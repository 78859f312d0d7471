// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package inline allocates from pools whose addresses are listed in the
// AddressPool itself. Its only record is the status of the Services, from which
// it is restored when a controller begins to lead.
package inline
