// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package backlog has Services of type LoadBalancer wait before a controller,
// and watches how it works them off, against a real kube-apiserver.
package backlog
