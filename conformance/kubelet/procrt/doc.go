// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package procrt is a container runtime (CRI) without containers, good enough
// for the real kubelet to run real pods on a machine that has neither
// containerd nor cgroups v2: a pod sandbox is a network namespace, a container
// is a process with mount, UTS and PID namespaces of its own whose root is an
// overlay of the host's root, and an image is a name that stands for a command
// of the host.
//
// It isolates nothing in the sense of security. It does honour what decides
// whether a workload runs: mounts, environment, user, capabilities, read-only
// root, working directory, termination by signal, and logs in the CRI format.
package procrt
