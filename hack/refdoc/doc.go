// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Command refdoc writes the reference of metrics, annotations, flags,
// conditions and Event reasons from the code, into docs/reference.
//
// What is in the code is in the reference: metrics are found by their options,
// constants by their names (Annotation..., Label..., Condition..., Reason...,
// Event...), wherever below pkg and cmd they stand, and the flags are those that
// the binaries print with --help. What is not documented in the code is an error
// that names the line.
package main
