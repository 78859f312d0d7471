// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package podsetup

// File descriptors on which a process that calls Run finds its Spec (JSON, to
// the end) and says what went wrong (text; closed by the exec that succeeds).
const (
	SpecFD = 3
	FailFD = 4
)

// Spec is a container to set up.
type Spec struct {
	// RootDir is a folder of the host to mount the root file system on.
	RootDir    string            `json:"rootDir"`
	Hostname   string            `json:"hostname"`
	Argv       []string          `json:"argv"`
	Env        []string          `json:"env"`
	WorkingDir string            `json:"workingDir,omitempty"`
	User       int64             `json:"user"`
	Group      int64             `json:"group"`
	Groups     []int64           `json:"groups,omitempty"`
	Mounts     []Mount           `json:"mounts"`
	Sysctls    map[string]string `json:"sysctls,omitempty"`
	// Capabilities is the bounding set; nil leaves every capability.
	Capabilities    []uint8 `json:"capabilities"`
	ReadOnlyRoot    bool    `json:"readOnlyRoot,omitempty"`
	NoNewPrivileges bool    `json:"noNewPrivileges,omitempty"`
	HostPID         bool    `json:"hostPID,omitempty"`
}

// Mount binds a file or folder of the host into the container.
type Mount struct {
	Source    string `json:"source"`
	Target    string `json:"target"`
	ReadOnly  bool   `json:"readOnly,omitempty"`
	Propagate bool   `json:"propagate,omitempty"`
}
