// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Command apidoc writes the reference of the API objects from the generated
// CRDs: every field with its type, default, bounds and rules. The CRDs are what
// the API server goes by, so the reference cannot say anything else.
package main
