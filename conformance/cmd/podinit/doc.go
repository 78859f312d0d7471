// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Command podinit is the first process of a container of the lab. The lab's
// kubelet starts it; it is of no use to a person.
package main
