// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package story plays what a user does with bm-ccm in a lab: install it, create
// a class, a pool and a peer, expose an application, reach it from outside the
// cluster, scale it, delete it. It checks every step; the demo prints it and
// the tests run it.
package story
