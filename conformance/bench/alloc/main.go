// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"k8s.io/klog/v2"

	"github.com/bm-ccm/bm-ccm/conformance/bench"
)

func main() {
	services := flag.Int("services", 2000, "how many Services wait for an address")
	out := flag.String("out", "build/bench", "the folder that alloc.json is written to")
	binary := flag.String("bm-ccm", "build/bin/bm-ccm", "the bm-ccm binary to measure")
	flag.Parse()
	// The reference runs in this process: its log goes where bm-ccm's goes.
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *services, *out, *binary); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, n int, out, binary string) error {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	bench.Progress("reference: the stock service controller, %d Services", n)
	reference, err := measureStock(ctx, n)
	if err != nil {
		return fmt.Errorf("measuring the stock service controller: %w", err)
	}
	bench.Progress("reference done: %.0f/s", reference.rate)
	bench.Progress("bm-ccm, %d Services", n)
	ours, restart, err := measureOurs(ctx, n, binary)
	if err != nil {
		return fmt.Errorf("measuring bm-ccm: %w", err)
	}
	figures := []bench.Figure{
		bench.Reference("stock service controller, free allocator", reference.rate, "Services/s", "same run"),
		bench.AtLeast("backlog to addressed", ours.rate, "Services/s", 400, fmt.Sprintf("%d Services, inline pool", n)),
		bench.AtLeast("ratio to the stock service controller", ours.rate/reference.rate, "", 0.88, "400/455"),
		bench.AtMost("API writes per Service", ours.writesPerService, "", 4, "POST, PUT, PATCH, DELETE of any object"),
		bench.AtMost("API writes after a restart", restart.writes, "", 0, fmt.Sprintf("%d addressed Services", n)),
		bench.Below("restart to the next Service addressed", restart.ready.Seconds(), "s", 2, "from the start of the process"),
	}
	if err := bench.Print(os.Stdout, figures); err != nil {
		return err
	}
	// A missed target is for the reader of the table to judge: the machine may
	// be slow, which the reference tells.
	return bench.Save(out, "alloc", figures)
}
