// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"
)

// Figure is one measured figure.
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	// Target is what the figure should be, in words; empty for a reference.
	Target string `json:"target"`
	// OK reports whether the target was met; true for a reference.
	OK   bool   `json:"ok"`
	Note string `json:"note"`
}

// AtLeast is a figure that should reach target.
func AtLeast(name string, value float64, unit string, target float64, note string) Figure {
	return Figure{Name: name, Value: value, Unit: unit, Target: fmt.Sprintf(">= %g", target), OK: value >= target, Note: note}
}

// Below is a figure that should stay below target.
func Below(name string, value float64, unit string, target float64, note string) Figure {
	return Figure{Name: name, Value: value, Unit: unit, Target: fmt.Sprintf("< %g", target), OK: value < target, Note: note}
}

// AtMost is a figure that should not exceed target.
func AtMost(name string, value float64, unit string, target float64, note string) Figure {
	return Figure{Name: name, Value: value, Unit: unit, Target: fmt.Sprintf("<= %g", target), OK: value <= target, Note: note}
}

// Reference is a figure to compare others with.
func Reference(name string, value float64, unit, note string) Figure {
	return Figure{Name: name, Value: value, Unit: unit, OK: true, Note: note}
}

// Print writes the figures as a table.
func Print(out io.Writer, figures []Figure) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FIGURE\tVALUE\tUNIT\tTARGET\tOK\tNOTE")
	for _, f := range figures {
		target, ok := f.Target, "yes"
		if target == "" {
			target, ok = "-", "-"
		} else if !f.OK {
			ok = "NO"
		}
		fmt.Fprintf(w, "%s\t%.4g\t%s\t%s\t%s\t%s\n", f.Name, f.Value, f.Unit, target, ok, f.Note)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("writing the table: %w", err)
	}
	return nil
}

// Save writes the figures to <dir>/<name>.json.
func Save(dir, name string, figures []Figure) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("saving figures: %w", err)
	}
	data, err := json.MarshalIndent(figures, "", "  ")
	if err != nil {
		return fmt.Errorf("saving figures: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".json"), append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("saving figures: %w", err)
	}
	return nil
}

// Median returns the median of durations; 0 of none.
func Median(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(d))
	return sorted[len(sorted)/2]
}

var started = time.Now()

// Progress tells how far a benchmark is, with the seconds since its start.
func Progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "[%6.1fs] %s\n", time.Since(started).Seconds(), fmt.Sprintf(format, args...))
}
