// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Command kubelet is the real kubelet as a library, on the container runtime
// of package procrt: no cgroups, no images, no containers, everything else
// (pod sync, probes, volumes, service account tokens, status, the node's
// registration and its taints, logs and exec) is the kubelet's own code. The
// lab starts one per node, in the node's network namespace.
package main
