// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package integration tests the controller, as the binary that users run,
// against a real kube-apiserver and the in-memory NetBox. It needs no root.
package integration
