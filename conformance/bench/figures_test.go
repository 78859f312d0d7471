// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestFigures(t *testing.T) {
	figures := []Figure{
		AtLeast("rate", 399, "1/s", 400, ""),
		Below("time", 1.5, "s", 2, ""),
		AtMost("writes", 0, "", 0, ""),
		Reference("peer", 120, "1/s", "same run"),
	}
	var b strings.Builder
	if err := Print(&b, figures); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"NO", "yes", "yes", "-"} {
		line := strings.Split(b.String(), "\n")[i+1]
		if !strings.Contains(line, " "+want+" ") {
			t.Errorf("line %q lacks %q", line, want)
		}
	}
	dir := t.TempDir()
	if err := Save(dir, "x", figures); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "x.json"))
	if err != nil {
		t.Fatal(err)
	}
	var back []Figure
	if err := json.Unmarshal(data, &back); err != nil || len(back) != 4 || back[0].OK || !back[3].OK {
		t.Errorf("%v %+v", err, back)
	}
}

func TestMedian(t *testing.T) {
	if m := Median([]time.Duration{3, 1, 2}); m != 2 {
		t.Error(m)
	}
	if m := Median(nil); m != 0 {
		t.Error(m)
	}
}
