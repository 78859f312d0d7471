// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/bm-ccm/bm-ccm/conformance/lab"
)

const noSlot = -1

// build builds what a lab is made of.
func build(ctx context.Context, args []string) error {
	if err := parse(flag.NewFlagSet("lab build", flag.ContinueOnError), args); err != nil {
		return ignoreHelp(err)
	}
	return lab.Build(ctx, os.Stderr)
}

// up makes a lab.
func up(ctx context.Context, args []string) error {
	o := lab.Options{Log: os.Stderr, Images: map[string]lab.Image{}}
	fs := flag.NewFlagSet("lab up", flag.ContinueOnError)
	fs.IntVar(&o.Nodes, "nodes", 2, "number of nodes")
	fs.BoolVar(&o.Keep, "keep", false, "return when the lab is up; lab down removes it")
	fs.BoolVar(&o.Product, "product", true, "build bm-ccm, as image "+lab.ProductImage)
	fs.BoolVar(&o.NoCloudProvider, "no-cloud-provider", false, "start nodes that need no cloud-controller-manager")
	fs.BoolVar(&o.IPv4Only, "ipv4-only", false, "leave IPv6 out")
	slot := fs.Int("slot", noSlot, "slot to use, 0 to 15 (default: any that is free)")
	fs.Func("image", "REPOSITORY=COMMAND: what containers of an image run; may be repeated", func(v string) error {
		repo, command, ok := strings.Cut(v, "=")
		if !ok || command == "" {
			return errors.New("want REPOSITORY=COMMAND")
		}
		o.Images[repo] = lab.Image{Command: strings.Fields(command)}
		return nil
	})
	if err := parse(fs, args); err != nil {
		return ignoreHelp(err)
	}
	if *slot != noSlot {
		o.Slot = slot
	}
	l, err := lab.Start(ctx, o)
	if err != nil {
		return err
	}
	fmt.Printf("lab in slot %d is up: KUBECONFIG=%s, logs in %s/logs\n", l.Slot(), l.Kubeconfig(), l.Dir())
	if o.Keep {
		return nil
	}
	fmt.Println("interrupt to remove it")
	<-ctx.Done()
	return l.Close()
}

// parse refuses arguments that no flag takes.
func parse(fs *flag.FlagSet, args []string) error {
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("%s: unexpected argument %q", fs.Name(), fs.Arg(0))
	}
	return nil
}

func ignoreHelp(err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	return err
}

// pick is the slot named by the flag, or the only lab's.
func pick(slot int) (int, error) {
	if slot != noSlot {
		return slot, nil
	}
	labs, err := lab.List()
	if err != nil {
		return 0, err
	}
	if len(labs) != 1 {
		return 0, fmt.Errorf("there are %d labs: say which with --slot (lab status lists them)", len(labs))
	}
	return labs[0].Slot, nil
}

func down(_ context.Context, args []string) error {
	fs := flag.NewFlagSet("lab down", flag.ContinueOnError)
	slot := fs.Int("slot", noSlot, "slot of the lab (default: the only lab)")
	if err := parse(fs, args); err != nil {
		return ignoreHelp(err)
	}
	n, err := pick(*slot)
	if err != nil {
		return err
	}
	return lab.Remove(n)
}

func status(_ context.Context, args []string) error {
	if err := parse(flag.NewFlagSet("lab status", flag.ContinueOnError), args); err != nil {
		return ignoreHelp(err)
	}
	labs, err := lab.List()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SLOT\tNODES\tSTATE\tAGE\tKUBECONFIG")
	for _, i := range labs {
		fmt.Fprintf(w, "%d\t%d\t%s\t%s\t%s\n", i.Slot, i.Nodes, describe(i), time.Since(i.Created).Round(time.Second), i.Kubeconfig)
	}
	return w.Flush()
}

func describe(i lab.Info) string {
	switch {
	case !i.Live:
		return "crashed"
	case i.Kept:
		return "kept"
	default:
		return "of process " + strconv.Itoa(i.Owner)
	}
}

// open parses --slot and opens that lab; rest is what follows the flags.
func open(name string, args []string) (l *lab.Lab, rest []string, err error) {
	fs := flag.NewFlagSet("lab "+name, flag.ContinueOnError)
	slot := fs.Int("slot", noSlot, "slot of the lab (default: the only lab)")
	if err := fs.Parse(args); err != nil {
		return nil, nil, err
	}
	n, err := pick(*slot)
	if err != nil {
		return nil, nil, err
	}
	l, err = lab.Open(n)
	return l, fs.Args(), err
}

func kubectl(ctx context.Context, args []string) error {
	l, rest, err := open("kubectl", args)
	if err != nil {
		return ignoreHelp(err)
	}
	return attached(l.KubectlCommand(ctx, rest...))
}

func execute(ctx context.Context, args []string) error {
	l, rest, err := open("exec", args)
	if err != nil {
		return ignoreHelp(err)
	}
	if len(rest) > 1 && rest[1] == "--" {
		rest = append(rest[:1:1], rest[2:]...)
	}
	if len(rest) < 2 {
		return errors.New("usage: lab exec [--slot N] HOST -- COMMAND")
	}
	host, err := l.Host(rest[0])
	if err != nil {
		return err
	}
	return attached(host.Command(ctx, rest[1:]...))
}

func vtysh(ctx context.Context, args []string) error {
	l, rest, err := open("vtysh", args)
	if err != nil {
		return ignoreHelp(err)
	}
	return attached(l.Router().VtyshCommand(ctx, strings.Join(rest, " ")))
}

// exitCodeError is that of a command we ran, which has said itself what is wrong.
type exitCodeError int

func (c exitCodeError) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// attached runs a command on our own standard streams.
func attached(cmd *exec.Cmd) error {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exitCodeError(exit.ExitCode())
	}
	return err
}
