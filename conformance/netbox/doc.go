// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package netbox installs, starts, seeds and stops a real NetBox on a Linux
// machine, for the lab, the demo and the tests.
//
// The first Start on a machine installs NetBox from PyPI and migrates an empty
// database, which takes minutes; the result is kept in a cache, and later
// starts take seconds. PostgreSQL and Redis listen on Unix sockets alone, in a
// folder of the run, so that any number of servers can be up at a time, in
// network namespaces or not. Nothing else of the machine is touched, except
// that missing Debian packages are installed, without starting a service.
//
// Seed needs only a URL and a token, so that it fills the in-memory NetBox of
// pkg/netbox/netboxtest as well.
package netbox
