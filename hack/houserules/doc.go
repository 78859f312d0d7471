// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package houserules holds the rules of this repository that no linter knows:
// package documentation, licence headers, import directions, names, lengths,
// links in the documentation. Its tests apply them to both modules, and to
// small trees that break each of them.
package houserules
