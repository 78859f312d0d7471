// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"

	"github.com/bm-ccm/bm-ccm/conformance/kubelet/podsetup"
)

func main() {
	err := podsetup.Run()
	if _, werr := fmt.Fprintln(os.NewFile(podsetup.FailFD, "fail"), err); werr != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(128)
}
