// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package trigger wakes a loop when something has changed, without counting
// how often: a burst of changes while the loop is busy makes it go round once
// more, not once for each of them.
//
// It is what a worker needs that always looks at the state as a whole. A worker
// with a key for each piece of work wants client-go's workqueue instead.
package trigger
