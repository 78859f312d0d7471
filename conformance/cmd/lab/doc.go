// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Command lab makes, shows, uses and removes labs; see package
// conformance/lab for what a lab is. Run it with -h for its commands.
package main
