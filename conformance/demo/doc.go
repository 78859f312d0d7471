// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Command demo plays the story of a user of bm-ccm in a lab on this machine: it
// brings a cluster up, installs bm-ccm, exposes applications and reaches them
// from outside. Its exit code reports whether everything worked.
package main
