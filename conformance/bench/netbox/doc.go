// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Command netbox measures how fast addresses are claimed from a real NetBox and
// given back, and how many requests that costs. The reference, measured in the
// same run, is what a plain client does that asks for one address at a time.
package main
