// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package keylock has one lock for each key: what is done about one key is done
// in turn, and different keys do not wait for each other. Waiting for a lock
// ends with a context, which sync.Mutex cannot do, so that a request keeps its
// deadline while another one about the same key is slow.
package keylock
