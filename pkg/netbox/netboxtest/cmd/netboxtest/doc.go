// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Command netboxtest serves a NetBox in memory, for the lab and for trying
// things out.
package main
