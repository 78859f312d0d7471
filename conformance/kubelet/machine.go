// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strings"

	cadvisorapi "github.com/google/cadvisor/lib/model"
	"k8s.io/klog/v2"
	cadvisortest "k8s.io/kubernetes/pkg/kubelet/cadvisor/testing"
)

// A node's capacity. It is what the scheduler counts with; nothing enforces it.
const (
	nodeCores  = 8
	nodeMemory = 32 << 30
)

// machine is a node as large as the lab's pods need, that says truly which
// kernel it runs.
type machine struct{ *cadvisortest.Fake }

// MachineInfo implements the kubelet's view of cAdvisor.
func (m machine) MachineInfo(logger klog.Logger) (*cadvisorapi.MachineInfo, error) {
	info, err := m.Fake.MachineInfo(logger)
	if err != nil {
		return nil, fmt.Errorf("describing the machine: %w", err)
	}
	info.NumCores, info.MemoryCapacity = nodeCores, nodeMemory
	return info, nil
}

// VersionInfo implements the kubelet's view of cAdvisor.
func (m machine) VersionInfo() (*cadvisorapi.VersionInfo, error) {
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return nil, fmt.Errorf("reading the kernel's version: %w", err)
	}
	return &cadvisorapi.VersionInfo{KernelVersion: strings.TrimSpace(string(kernel)), ContainerOsVersion: "bm-ccm lab"}, nil
}
