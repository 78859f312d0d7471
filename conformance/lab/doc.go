// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

// Package lab makes a Kubernetes cluster on one Linux machine out of network
// namespaces, for tests and demonstrations of bm-ccm:
//
//	fab     etcd, kube-apiserver, kube-controller-manager, kube-scheduler;
//	        a NetBox or anything else that belongs to the site
//	router  FRR, a BGP peer of every node, and everybody's default gateway
//	n1..nN  nodes: the real kubelet (see conformance/kubelet) and kube-proxy
//	client  somebody on the far side of the router
//	sw      the switches between them
//
// All of it is real but the container runtime. Nothing is added to the host's
// own network: what has to be reached from it is forwarded from 127.0.0.1.
// Sixteen labs can exist at a time, each in a slot of its own.
//
// [StartControlPlane] is the small brother: etcd and kube-apiserver only, on
// loopback, without root.
package lab
