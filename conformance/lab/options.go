// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"io"

	"github.com/bm-ccm/bm-ccm/conformance/kubelet/procrt"
)

// Image says what containers of an image run.
type Image = procrt.Image

// ProductImage is the repository of bm-ccm's own image.
const ProductImage = "ghcr.io/bm-ccm/bm-ccm"

// MaxNodes is the largest number of nodes in a lab.
const MaxNodes = 64

// Options say what a lab looks like. The zero value is a good lab.
type Options struct {
	// Nodes is the number of nodes; 0 means 2.
	Nodes int
	// Images maps repositories (no tag) to commands of the host, in addition
	// to DefaultImages. A pod of any other image stays in ErrImagePull.
	Images map[string]Image
	// Product builds ../cmd/bm-ccm and gives it the name ProductImage.
	Product bool
	// NoCloudProvider starts nodes without --cloud-provider=external, so that
	// they need no cloud-controller-manager to become schedulable.
	NoCloudProvider bool
	// IPv4Only leaves IPv6 out.
	IPv4Only bool
	// Keep lets the lab outlive the process that started it.
	Keep bool
	// Slot is the slot to use, 0 to 15; nil means any that is free.
	Slot *int
	// Log receives progress lines; nil discards them.
	Log io.Writer
}

func (o *Options) fill() {
	if o.Nodes == 0 {
		o.Nodes = 2
	}
	if o.Log == nil {
		o.Log = io.Discard
	}
}
