// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package podsetup turns a process that was just cloned into new namespaces
// into a container: it builds the root file system, mounts the volumes, gives
// up privileges and executes the container's command. It is the only code of
// the lab that runs inside a pod, and it is kept free of dependencies so that
// a container starts in milliseconds.
package podsetup
