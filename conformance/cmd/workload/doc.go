// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Command workload is what runs in the pods of the demonstration: two small
// servers that say who they are and whom they see as their client.
//
//	workload kiada   HTTP on 8080, HTTPS on 8443 (certificate of its own making)
//	workload mysql   the beginning of MySQL's protocol on 3306
package main
