// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package crash kills the controller where it hurts. The real binary runs
// against a real kube-apiserver and a NetBox, in memory or real, with a proxy
// before each of the two. At a chosen write a proxy ends the process with
// SIGKILL, either before the write or after the server has committed it and
// before the answer is back. The product has no failpoints for that.
//
// After each crash the controller is started again, and when it has nothing
// left to do, what NetBox records must be what the Services have.
package crash
