// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package netboxtest is a NetBox in memory, for tests and for the lab: an
// http.Handler that answers the part of NetBox's REST API that bm-ccm uses, as
// NetBox 4.4, 4.5, 4.6 and 4.7 answer it, including what is awkward in them.
// Beyond that it can be made to fail (Server.Inject), counts what is asked of
// it (Server.Requests) and lets tests write past its locks, as NetBox's own web
// pages do (Server.WriteBehindBack).
//
// What is there: status, authentication-check (4.5), prefixes, IP ranges and IP
// addresses with available-ips, VRFs, IPAM roles, tenants, tags, custom fields,
// users, tokens and permissions; devices and interfaces with what they need
// (sites, site groups, regions, locations, racks, manufacturers, platforms,
// roles, types); virtual machines and their interfaces, clusters and types; the
// change log, to read.
//
// What differs from NetBox: filters by a region or location do not look into
// those below it; fields are compared as bytes, not by the database's collation;
// config contexts are the local data alone; counts of things that are not kept
// are 0; the change log keeps no data of before and after; only superusers may
// read it.
//
// What NetBox has and the double has not is answered with 501 and a text that
// says so: other object types, available-prefixes, background=true, OPTIONS,
// custom fields of the types select, multiselect, object and multiobject,
// permission constraints of a form that it cannot evaluate, filters of the
// change log beyond a few, and an empty list POSTed to available-ips before 4.7
// (on which NetBox walks through the whole prefix). Filters that neither know
// are ignored, as in NetBox; those that NetBox alone knows get 501.
package netboxtest
