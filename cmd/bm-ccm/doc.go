// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Command bm-ccm is a cloud-controller-manager for Kubernetes clusters on bare
// metal. Without a subcommand it is the controller; `bm-ccm agent` is the agent
// that runs on every node and announces addresses.
package main
