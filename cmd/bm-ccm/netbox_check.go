// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bm-ccm/bm-ccm/pkg/api/client"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox/provision"
)

// checkOptions are the flags of netbox check.
type checkOptions struct {
	lookOptions
}

// newNetBoxCheckCommand returns the command to run with the cluster's own token,
// after init and whenever something does not work.
func newNetBoxCheckCommand() *cobra.Command {
	o := &checkOptions{}
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Verify NetBox, the token and the pools",
		Long: `Verifies everything in NetBox that bm-ccm relies on, and changes nothing: that
NetBox answers and is of a known version, the token, the custom fields, the rights
of the token (also that it cannot change a record of others), what netbox.record
names, and each AddressPool in NetBox.

Each line begins with ok, warn, FAIL or skip; a FAIL says what to do. The exit code
is 1 if there is a FAIL.`,
		Example: `  bm-ccm netbox check --cloud-config cloud.yaml --kubeconfig ~/.kube/config
  kubectl -n bm-ccm-system exec deploy/bm-ccm-controller -- bm-ccm netbox check --cloud-config /etc/bm-ccm/config.yaml`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          interruptible(o.run),
	}
	o.addFlags(cmd.Flags())
	return cmd
}

// run prints all findings before it fails over one: they are what it is for.
func (o *checkOptions) run(ctx context.Context, cmd *cobra.Command) error {
	if err := required(map[string]string{"cloud-config": o.cloudConfig}); err != nil {
		return err
	}
	// Without a configuration there is nothing to verify; whatever is wrong from here
	// on is a finding, as far as that is possible.
	config, nb, err := cloudNetBox(o.cloudConfig)
	if err != nil {
		return err
	}
	pools, noPools, err := o.pools(ctx)
	if err != nil {
		return err
	}
	// The allocator only resolves and counts pools here: it claims nothing, so
	// neither the cluster's UID nor what a record holds matters to it. Of the
	// record, what can be missing in NetBox is looked for; the rest is valid in any.
	record := config.NetBox.Record
	found := provision.Check(ctx, nb, netbox.NewAllocator(nb, config.ClusterName, "", netbox.Record{}), provision.Wanted{
		Cluster: config.ClusterName, Tenant: record.Tenant, Tags: record.Tags,
		CustomFields: slices.Collect(maps.Keys(record.CustomFields)), AddressPools: pools,
	})
	if noPools != nil {
		found = append(found, *noPools)
	}
	if err := o.print(cmd.OutOrStdout(), found); err != nil {
		return err
	}
	failed := 0
	for _, f := range found {
		if f.Result == provision.ResultFail {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d checks failed", failed, len(found))
	}
	return nil
}

// pools reads the AddressPools; the finding says why there are none. NetBox can be
// verified without a cluster, as an administrator of NetBox alone does.
func (o *checkOptions) pools(ctx context.Context) ([]ipam.Pool, *provision.Finding, error) {
	const what = "pools"
	config, err := kubeConfig(o.kubeconfig)
	if err != nil {
		return nil, nil, err
	}
	if config == nil {
		return nil, &provision.Finding{Result: provision.ResultSkip, What: what, Detail: "skipped: name the cluster with --kubeconfig"}, nil
	}
	api, err := client.New(config)
	if err != nil {
		return nil, nil, err
	}
	list, err := api.Pools.List(ctx, metav1.ListOptions{})
	if err != nil {
		// No error: NetBox can be verified all the same.
		return nil, &provision.Finding{Result: provision.ResultFail, What: what, Detail: fmt.Sprintf("reading the AddressPools of the cluster: %v", err)}, nil
	}
	if len(list.Items) == 0 {
		return nil, &provision.Finding{Result: provision.ResultSkip, What: what, Detail: "the cluster has no AddressPool"}, nil
	}
	pools := make([]ipam.Pool, len(list.Items))
	for i, p := range list.Items {
		pools[i] = ipam.Pool{Name: p.Name, Spec: p.Spec}
	}
	return pools, nil, nil
}

// print aligns the findings, for people; scripts take JSON.
func (o *checkOptions) print(w io.Writer, found []provision.Finding) error {
	if o.output == "json" {
		return writeJSON(w, found)
	}
	width := 0
	for _, f := range found {
		width = max(width, len(f.What))
	}
	var b strings.Builder
	for _, f := range found {
		fmt.Fprintf(&b, "%-4s  %-*s  %s\n", f.Result, width, f.What, f.Detail)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
