// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Command netbox runs a real NetBox for the lab: it installs it, starts it,
// seeds it and stops it.
package main
