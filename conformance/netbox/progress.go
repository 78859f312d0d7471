// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"fmt"
	"io"
	"time"
)

// progress writes lines with the time since the start.
type progress struct {
	out   io.Writer
	start time.Time
}

func newProgress(out io.Writer) *progress { return &progress{out: out, start: time.Now()} }

func (p *progress) printf(format string, args ...any) {
	// A progress line that cannot be written is no reason to stop.
	_, _ = fmt.Fprintf(p.out, "[netbox %6.1fs] %s\n", time.Since(p.start).Seconds(), fmt.Sprintf(format, args...))
}
