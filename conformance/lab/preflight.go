// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// tools are the programs of the machine that a lab uses, with the Debian
// packages they are in.
var tools = []struct{ program, pkg string }{
	{"ip", "iproute2"}, {"nsenter", "util-linux"}, {"nft", "nftables"}, {"conntrack", "conntrack"},
	{"nc", "netcat-openbsd"}, {"curl", "curl"}, {"ps", "procps"}, {"vtysh", "frr"},
	{filepath.Join(frrDir, "zebra"), "frr"}, {filepath.Join(frrDir, "bgpd"), "frr"},
}

// ErrNotRoot says that a lab cannot be made by this user.
var ErrNotRoot = errors.New("a lab makes network namespaces and must be started by root")

// Preflight checks that this machine can have a lab; its error says what to
// install.
func Preflight() error {
	if os.Geteuid() != 0 {
		return ErrNotRoot
	}
	var programs, packages []string
	seen := map[string]bool{}
	for _, t := range tools {
		if _, err := exec.LookPath(t.program); err == nil {
			continue
		}
		programs = append(programs, filepath.Base(t.program))
		if !seen[t.pkg] {
			seen[t.pkg] = true
			packages = append(packages, t.pkg)
		}
	}
	if len(programs) == 0 {
		return nil
	}
	return fmt.Errorf("the lab needs %s; install with: apt-get install --no-install-recommends -y %s",
		strings.Join(programs, ", "), strings.Join(packages, " "))
}
