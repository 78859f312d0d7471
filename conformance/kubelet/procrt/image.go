// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package procrt

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Image says what a container of an image runs.
type Image struct {
	// Command is the entry point: a host path and fixed arguments. The binary
	// is visible in the container as /<base name>, too.
	Command []string `json:"command"`
	// User is the numeric user the image runs as when the pod names none.
	User int64 `json:"user,omitempty"`
}

// Repository is an image reference without tag and digest, which is what
// images are found by.
func Repository(ref string) string {
	ref, _, _ = strings.Cut(ref, "@")
	if colon := strings.LastIndexByte(ref, ':'); colon > strings.LastIndexByte(ref, '/') {
		ref = ref[:colon]
	}
	return ref
}

// find looks an image up by reference, with and without the default registry.
func (r *Runtime) find(ref string) (Image, bool) {
	repo := Repository(ref)
	for _, name := range []string{repo, "docker.io/" + repo, "docker.io/library/" + repo} {
		if img, ok := r.cfg.Images[name]; ok {
			return img, true
		}
	}
	return Image{}, false
}

// imageService serves the images that the runtime knows. Nothing is ever
// pulled: an unknown image is an error that says what would make it known.
type imageService struct{ rt *Runtime }

var _ internalapi.ImageManagerService = imageService{}

func (s imageService) describe(ref string, img Image) *runtimeapi.Image {
	out := &runtimeapi.Image{Id: ref, RepoTags: []string{ref}, Size: 1, Spec: &runtimeapi.ImageSpec{Image: ref}}
	out.Uid = &runtimeapi.Int64Value{Value: img.User}
	return out
}

func (s imageService) ListImages(context.Context, *runtimeapi.ImageFilter) ([]*runtimeapi.Image, error) {
	out := make([]*runtimeapi.Image, 0, len(s.rt.cfg.Images))
	for ref, img := range s.rt.cfg.Images {
		out = append(out, s.describe(ref, img))
	}
	return out, nil
}

func (s imageService) ImageStatus(_ context.Context, spec *runtimeapi.ImageSpec, _ bool) (*runtimeapi.ImageStatusResponse, error) {
	img, ok := s.rt.find(spec.Image)
	if !ok {
		return &runtimeapi.ImageStatusResponse{}, nil
	}
	return &runtimeapi.ImageStatusResponse{Image: s.describe(spec.Image, img)}, nil
}

func (s imageService) PullImage(_ context.Context, spec *runtimeapi.ImageSpec, _ *runtimeapi.AuthConfig, _ *runtimeapi.PodSandboxConfig) (string, error) {
	if _, ok := s.rt.find(spec.Image); !ok {
		return "", fmt.Errorf("image %s is unknown to the lab: name a command for %s in lab.Options.Images",
			strconv.Quote(spec.Image), strconv.Quote(Repository(spec.Image)))
	}
	return spec.Image, nil
}

func (imageService) RemoveImage(context.Context, *runtimeapi.ImageSpec) error { return nil }

func (imageService) ImageFsInfo(context.Context) (*runtimeapi.ImageFsInfoResponse, error) {
	return &runtimeapi.ImageFsInfoResponse{}, nil
}

func (imageService) Close(context.Context) error { return nil }
