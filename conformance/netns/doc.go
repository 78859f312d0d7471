// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package netns runs Go code in the network namespaces that iproute2 names.
package netns
