// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package announce

import (
	"testing"

	"github.com/bm-ccm/bm-ccm/pkg/announce/bgp/frrtest"
)

func TestMain(m *testing.M) { frrtest.Main(m) }
