// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package classview is what the upstream service controller sees of the
// Services. That controller ignores every Service that names a class. It is
// therefore never shown the Services themselves but projections of them: the
// class is taken away from the Services that are ours, and those of other
// providers look as if they wanted no load balancer at all.
//
// A View says which Services are ours. When the default class comes or goes,
// the same informer shows them otherwise: the controller is not restarted.
package classview
