// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Command forward accepts connections on a listening socket that it inherits
// (file descriptor 3) and connects each to an address in its own network
// namespace. The lab uses it to show a server of a namespace on 127.0.0.1 of
// the host without adding an interface to the host. It holds every other
// descriptor it inherits until it ends.
package main
