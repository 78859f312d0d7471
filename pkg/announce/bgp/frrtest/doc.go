// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package frrtest runs real FRR routers in network namespaces for tests.
//
// Main moves the whole test process into a network namespace of its own, so
// that nothing on the machine is touched; a Router gets another one, connected
// by a veth pair. Everything goes when the test process dies.
package frrtest
