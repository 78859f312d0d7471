// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/bm-ccm/bm-ccm/conformance/bench"
	"github.com/bm-ccm/bm-ccm/conformance/lab"
	"github.com/bm-ccm/bm-ccm/conformance/story"
)

const usage = `demo plays the story of a Service, from kubectl apply to a client outside the
cluster, in a lab on this machine. It needs root.

Environment:
  NETBOX=memory     an in-memory NetBox (default)
  NETBOX=real       a real NetBox, installed on the first run (minutes)
  NETBOX_URL, NETBOX_TOKEN_FILE
                    your own NetBox: what is created there is shown first and
                    removed at the end
  KEEP=1            leave everything running afterwards, until Ctrl-C
  NODES=2           how many nodes

`

func main() {
	out := flag.String("out", figuresFolder(), "the folder that demo.json with the figures is written to")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), usage)
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *out); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

// figuresFolder is build/bench of the repository, where the benchmarks write
// too. The demo runs in the repository's root or, by `make demo`, in its folder
// conformance.
func figuresFolder() string {
	if _, err := os.Stat("conformance"); err == nil {
		return "build/bench"
	}
	return "../build/bench"
}

func run(ctx context.Context, out string) (err error) {
	nodes := 2
	if s := os.Getenv("NODES"); s != "" {
		if _, err := fmt.Sscanf(s, "%d", &nodes); err != nil || nodes < 2 {
			return fmt.Errorf("NODES is %q: want a number of at least 2", s)
		}
	}
	log := os.Stdout
	l, err := lab.Start(ctx, lab.Options{Nodes: nodes, Product: true, Log: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	ipam, err := openNetBox(ctx, l, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ipam.Close()) }()
	fmt.Fprintf(log, "NetBox: %s (%s)\n", ipam.URL, ipam.Web)
	s, err := story.New(l, ipam, log)
	if err != nil {
		return err
	}
	if err := s.Install(ctx); err != nil {
		return explain(err, s)
	}
	if err := s.Play(ctx); err != nil {
		return explain(err, s)
	}
	if err := figures(ctx, s, log, out); err != nil {
		return err
	}
	if os.Getenv("KEEP") != "" {
		fmt.Fprintln(log, s.Usage())
		<-ctx.Done()
	}
	return nil
}

// openNetBox starts or borrows the NetBox that the environment names.
func openNetBox(ctx context.Context, l *lab.Lab, log io.Writer) (*story.IPAM, error) {
	if u := os.Getenv("NETBOX_URL"); u != "" {
		return story.OwnNetBox(ctx, l, u, os.Getenv("NETBOX_TOKEN_FILE"), log)
	}
	switch kind := os.Getenv("NETBOX"); kind {
	case "", "memory":
		ipam, _, err := story.MemoryNetBox(l)
		return ipam, err
	case "real":
		return story.RealNetBox(ctx, l, log)
	default:
		return nil, fmt.Errorf("NETBOX is %q: want memory or real", kind)
	}
}

func figures(ctx context.Context, s *story.Story, log io.Writer, out string) error {
	figures, err := s.Measure(ctx)
	if err != nil {
		return err
	}
	if err := bench.Print(log, figures); err != nil {
		return err
	}
	return bench.Save(out, "demo", figures)
}

// explain adds what bm-ccm logged to an error of the story.
func explain(err error, s *story.Story) error {
	return fmt.Errorf("%w\n%s", err, s.Diagnose())
}
