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
	n := flag.Int("services", 1000, "how many Services wait for an address")
	records := flag.Int("records", 5000, "how many records of the cluster a start finds in NetBox")
	out := flag.String("out", "build/bench", "the folder that netbox.json is written to")
	binary := flag.String("bm-ccm", "build/bin/bm-ccm", "the bm-ccm binary to measure")
	flag.Parse()
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *n, *records, *out, *binary); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

// workers are how many Services are worked on at a time. Each has one claim on
// its way, so that there are no longer lists than that.
var workers = []int{10, 50, 100}

func run(ctx context.Context, n, records int, out, binary string) error {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	s, err := startScene(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	var figures []bench.Figure
	for _, measure := range []func(context.Context) ([]bench.Figure, error){
		func(ctx context.Context) ([]bench.Figure, error) { return s.claims(ctx, n) },
		s.idle,
		func(ctx context.Context) ([]bench.Figure, error) { return s.services(ctx, n, binary) },
		func(ctx context.Context) ([]bench.Figure, error) { return s.fill(ctx, records) },
	} {
		more, err := measure(ctx)
		if err != nil {
			return err
		}
		figures = append(figures, more...)
	}
	if err := bench.Print(os.Stdout, figures); err != nil {
		return err
	}
	return bench.Save(out, "netbox", figures)
}
