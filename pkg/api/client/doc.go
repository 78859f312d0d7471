// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package client gives typed clients and informers for the API objects of
// bm-ccm.io/v1alpha1, built from client-go's generic ones, so that no clientset
// has to be generated.
package client
