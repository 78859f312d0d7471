// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bm-ccm/bm-ccm/pkg/api/client"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox"
)

// checkOptions are the flags of netbox check.
type checkOptions struct {
	lookOptions
}

func newNetBoxCheckCommand() *cobra.Command {
	o := &checkOptions{}
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Look whether NetBox, the token and the pools are as they should be",
		Long: `Looks at everything in NetBox that bm-ccm relies on, and changes nothing: whether
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

func (o *checkOptions) run(ctx context.Context, cmd *cobra.Command) error {
	if err := required(map[string]string{"cloud-config": o.cloudConfig}); err != nil {
		return err
	}
	config, nb, err := cloudNetBox(o.cloudConfig)
	if err != nil {
		return err
	}
	pools, poolLine, err := o.pools(ctx)
	if err != nil {
		return err
	}
	// What else a record holds is valid in any NetBox.
	record := netbox.Record{Tenant: config.NetBox.Record.Tenant, Tags: config.NetBox.Record.Tags, CustomFields: config.NetBox.Record.CustomFields}
	lines := netbox.NewAllocator(nb, config.ClusterName, "", record).Inspect(ctx, pools)
	if poolLine != nil {
		lines = append(lines, *poolLine)
	}
	if err := o.tell(cmd.OutOrStdout(), lines); err != nil {
		return err
	}
	failed := 0
	for _, l := range lines {
		if l.Result == netbox.ResultFail {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d checks failed", failed, len(lines))
	}
	return nil
}

// pools reads the AddressPools; the line says why there are none.
func (o *checkOptions) pools(ctx context.Context) ([]ipam.Pool, *netbox.Line, error) {
	const what = "pools"
	config, err := kubeConfig(o.kubeconfig)
	if err != nil {
		return nil, nil, err
	}
	if config == nil {
		return nil, &netbox.Line{Result: netbox.ResultSkip, What: what, Detail: "not looked at: name the cluster with --kubeconfig"}, nil
	}
	api, err := client.New(config)
	if err != nil {
		return nil, nil, err
	}
	list, err := api.Pools.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, &netbox.Line{Result: netbox.ResultFail, What: what, Detail: fmt.Sprintf("reading the AddressPools of the cluster: %v", err)}, nil
	}
	if len(list.Items) == 0 {
		return nil, &netbox.Line{Result: netbox.ResultSkip, What: what, Detail: "the cluster has no AddressPool"}, nil
	}
	pools := make([]ipam.Pool, len(list.Items))
	for i, p := range list.Items {
		pools[i] = ipam.Pool{Name: p.Name, Spec: p.Spec}
	}
	return pools, nil, nil
}

func (o *checkOptions) tell(w io.Writer, lines []netbox.Line) error {
	if o.output == "json" {
		return writeJSON(w, lines)
	}
	width := 0
	for _, l := range lines {
		width = max(width, len(l.What))
	}
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%-4s  %-*s  %s\n", l.Result, width, l.What, l.Detail)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
