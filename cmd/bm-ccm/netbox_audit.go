// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"

	"github.com/bm-ccm/bm-ccm/pkg/cloud"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// The exit codes of netbox audit beside 0, as diff(1) has them.
const (
	exitDifferences = 1
	exitUnknown     = 2
)

// auditOptions are the flags of netbox audit.
type auditOptions struct {
	lookOptions
	// audit compares; cloud.Audit, but in tests.
	audit func(context.Context, *cloud.Config, *rest.Config) ([]ipam.Finding, error)
}

// newNetBoxAuditCommand returns the command that compares as the controller does.
// It needs no leader election: it only reads.
func newNetBoxAuditCommand() *cobra.Command {
	o := &auditOptions{audit: cloud.Audit}
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Compare the addresses in NetBox with the Services of the cluster",
		Long: `Prints how the addresses that NetBox has for this cluster differ from the Services
of the cluster, as the controller's own comparison sees it: addresses of Services
that are gone, Services whose address is not recorded, IPAM conflicts that need
manual action. It changes nothing.

What is under way, a Service that was just created say, is a difference too: run it
again a little later. The exit code is 0 without differences, 1 with, and 2 on
error.`,
		Example: `  bm-ccm netbox audit --cloud-config cloud.yaml --kubeconfig ~/.kube/config
  kubectl -n bm-ccm-system exec deploy/bm-ccm-controller -- bm-ccm netbox audit --cloud-config /etc/bm-ccm/config.yaml`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          interruptible(o.run),
	}
	o.addFlags(cmd.Flags())
	return cmd
}

// run makes the exit code tell differences from errors: a script that alerts over
// the first must not take an unreachable NetBox for agreement.
func (o *auditOptions) run(ctx context.Context, cmd *cobra.Command) error {
	found, err := o.differences(ctx)
	if err == nil {
		err = o.print(cmd.OutOrStdout(), found)
	}
	if err != nil {
		return exitError{err, exitUnknown}
	}
	if len(found) > 0 {
		return exitError{printedError{fmt.Errorf("%d differences", len(found))}, exitDifferences}
	}
	return nil
}

// differences reads what is needed for the comparison, and compares.
func (o *auditOptions) differences(ctx context.Context) ([]ipam.Finding, error) {
	if err := required(map[string]string{"cloud-config": o.cloudConfig}); err != nil {
		return nil, err
	}
	config, err := cloud.LoadConfig(o.cloudConfig)
	if err != nil {
		return nil, err
	}
	kube, err := kubeConfig(o.kubeconfig)
	if err != nil {
		return nil, err
	}
	if kube == nil {
		return nil, errors.New("no cluster: name it with --kubeconfig")
	}
	return o.audit(ctx, config, kube)
}

// differenceRow is a difference in JSON. The names of its fields are an interface:
// scripts read them.
type differenceRow struct {
	Kind    ipam.FindingKind `json:"kind"`
	Service string           `json:"service,omitempty"`
	Address *netip.Addr      `json:"address,omitempty"`
	Claim   string           `json:"claim,omitempty"`
	Detail  string           `json:"detail"`
}

// rowOf leaves out what a difference is not about: a record without a Service has no
// name, and a Service without a record no claim.
func rowOf(d ipam.Finding) differenceRow {
	row := differenceRow{Kind: d.Kind, Detail: d.Text}
	if d.Name != "" {
		row.Service = d.Namespace + "/" + d.Name
	}
	if d.Addr.IsValid() {
		row.Address = &d.Addr
	}
	if d.Key.Service != "" {
		row.Claim = d.Key.String()
	}
	return row
}

// print says so if there is nothing: an empty output looks like a failure.
func (o *auditOptions) print(w io.Writer, found []ipam.Finding) error {
	rows := make([]differenceRow, len(found))
	for i, d := range found {
		rows[i] = rowOf(d)
	}
	if o.output == "json" {
		return writeJSON(w, rows)
	}
	if len(found) == 0 {
		_, err := fmt.Fprintln(w, "NetBox and the Services agree.")
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "KIND\tSERVICE\tADDRESS\tDETAIL")
	for _, d := range found {
		fmt.Fprintln(table, d)
	}
	return table.Flush()
}
