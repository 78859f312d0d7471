// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/bm-ccm/bm-ccm/pkg/cloud"
	"github.com/bm-ccm/bm-ccm/pkg/netbox"
)

// newNetBoxCommand returns the commands for NetBox administrators.
func newNetBoxCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "netbox",
		Short: "Set up NetBox, verify it, compare it with the cluster",
		Long: `Commands for NetBox administrators: init creates the custom fields, the user, the
permissions and the token that a cluster needs, check verifies NetBox, the token
and the pools, and audit compares NetBox with the Services of the cluster.`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newNetBoxInitCommand(), newNetBoxCheckCommand(), newNetBoxAuditCommand())
	return cmd
}

// interruptible runs a command until it ends or the user stops it: a request to a
// NetBox that does not answer has a deadline, and a check sends many of them.
func interruptible(run func(context.Context, *cobra.Command) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
		defer stop()
		return run(ctx, cmd)
	}
}

// required names the flags without which a command cannot do anything, all that
// are missing at once. cobra would do so for one command, but not depending on
// another flag.
func required(flags map[string]string) error {
	var errs []error
	for _, name := range []string{"url", "token-file", "cluster", "cloud-config"} {
		if value, ok := flags[name]; ok && value == "" {
			errs = append(errs, fmt.Errorf("--%s is missing", name))
		}
	}
	return oneLine(errs)
}

// cloudNetBox reads a cloud configuration that has a NetBox. The commands take the
// controller's own file, so that what they see is what it sees.
func cloudNetBox(path string) (*cloud.Config, *netbox.Client, error) {
	config, err := cloud.LoadConfig(path)
	if err != nil {
		return nil, nil, err
	}
	if config.NetBox == nil {
		return nil, nil, fmt.Errorf("--cloud-config %s has no netbox: there is nothing to verify or compare", path)
	}
	client, err := netbox.NewClient(netbox.Options{
		URL: config.NetBox.URL, TokenFile: config.NetBox.TokenFile, CAFile: config.NetBox.CAFile, Timeout: config.NetBox.Timeout.Duration,
	})
	return config, client, err
}

// kubeConfig finds the API server: by --kubeconfig, or as a pod does. It is nil
// where there is neither.
func kubeConfig(file string) (*rest.Config, error) {
	if file != "" {
		config, err := clientcmd.BuildConfigFromFlags("", file)
		if err != nil {
			return nil, fmt.Errorf("--kubeconfig: %w", err)
		}
		return config, nil
	}
	config, err := rest.InClusterConfig()
	if errors.Is(err, rest.ErrNotInCluster) {
		return nil, nil //nolint:nilnil // no cluster is an answer
	}
	return config, err
}

// lookOptions are the flags of the commands that look at NetBox and the cluster,
// and change neither. They run in the controller's pod without any but the first.
type lookOptions struct {
	cloudConfig, kubeconfig string
	output                  outputFlag
}

// addFlags adds them to a command.
func (o *lookOptions) addFlags(f *pflag.FlagSet) {
	o.output = "text"
	f.StringVar(&o.cloudConfig, "cloud-config", "", "cloud configuration file, as the controller gets it")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig of the cluster, for its pools and Services; a pod needs none")
	f.VarP(&o.output, "output", "o", "text or json")
}

// outputFlag is the value of -o. It is checked when it is set, before anything is
// asked of NetBox or the cluster.
type outputFlag string

// String implements pflag.Value.
func (o *outputFlag) String() string { return string(*o) }

// Type implements pflag.Value.
func (o *outputFlag) Type() string { return "format" }

// Set implements pflag.Value.
func (o *outputFlag) Set(s string) error {
	if s != "json" && s != "text" {
		return fmt.Errorf("%q is neither text nor json", s)
	}
	*o = outputFlag(s)
	return nil
}

// writeJSON leaves <, > and & readable: nothing here goes into HTML.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
