// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package deploy holds what a cluster is given: manifests, CRDs and examples.
// It has no code; its tests hold the files to what the API server and bm-ccm
// accept, and to the privileges that they may ask for.
package deploy
