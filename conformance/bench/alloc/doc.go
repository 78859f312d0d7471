// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Command alloc measures how fast a backlog of Services gets addresses
// from an inline pool, how many writes that costs, and what a restart costs,
// against a real kube-apiserver. The reference, measured in the same run, is the
// stock service controller with an allocator that costs nothing.
package main
