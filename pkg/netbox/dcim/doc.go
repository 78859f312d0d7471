// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package dcim reads machines from NetBox's DCIM: the devices and virtual
// machines that Nodes run on, with their primary addresses, type, site and
// region.
package dcim
