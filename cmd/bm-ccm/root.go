// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
)

// Set by the linker, see the Makefile. Upstream's own version variables stay as
// they are: it reads the version of Kubernetes in them.
var (
	version = "unknown"
	commit  = "unknown"
)

// newRootCommand returns the controller with the subcommands. It is the root, not a
// subcommand, because manifests of cloud-controller-managers start the binary with
// flags only.
func newRootCommand() *cobra.Command {
	root, err := newControllerCommand()
	if err != nil {
		// Only upstream's own defaults can fail here, before there are any flags.
		fmt.Fprintf(os.Stderr, "Error: %v\n", err)
		os.Exit(1)
	}
	root.SilenceUsage = true // an error is one line, not the text of --help
	run := root.RunE
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if err := run(cmd, args); err != nil {
			return printedError{err} // upstream prints what it returns
		}
		return nil
	}
	// Upstream's help knows its own flags only, and its texts would be
	// inherited by the subcommands.
	controllerHelp := root.HelpFunc()
	plain := &cobra.Command{}
	plainHelp, plainUsage := plain.HelpFunc(), plain.UsageFunc()
	for _, sub := range []*cobra.Command{newAgentCommand(), newNetBoxCommand(), newVersionCommand()} {
		sub.SetHelpFunc(plainHelp)
		sub.SetUsageFunc(plainUsage)
		root.AddCommand(sub)
	}
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		controllerHelp(cmd, args)
		fmt.Fprintf(cmd.OutOrStdout(), "\nSubcommands:\n%s\nUse \"bm-ccm <subcommand> --help\" for what a subcommand takes.\n", subcommands(cmd))
	})
	return root
}

// subcommands lists the subcommands as cobra would, which upstream's template for
// help leaves out.
func subcommands(cmd *cobra.Command) string {
	var b strings.Builder
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			fmt.Fprintf(&b, "  %-12s %s\n", sub.Name(), sub.Short)
		}
	}
	return b.String()
}

// newVersionCommand is for people and bug reports; --version is upstream's and prints
// the version of Kubernetes that the controller is built from.
func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of bm-ccm",
		Args:  cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			fmt.Fprintf(cmd.OutOrStdout(), "bm-ccm %s (commit %s, %s, %s/%s)\n", version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		},
	}
}
