// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/bm-ccm/bm-ccm/conformance/netbox"
)

func seed(ctx context.Context, args []string) error {
	var spec netbox.Spec
	var target netbox.Target
	var adminFile, tokenFile string
	dir, err := parse("seed", args, func(f *flag.FlagSet) {
		f.StringVar(&spec.Cluster, "cluster", "lab", "cluster to make a fenced token for")
		f.StringVar(&spec.Site, "site", "", "site of the devices (default rack-1)")
		f.StringVar(&spec.Region, "region", "", "region of the site (default lab)")
		f.Func("device", "NAME=ADDRESS/LENGTH[,ADDRESS/LENGTH]; may be given again", appendTo(&spec.Devices, parseDevice))
		f.Func("prefix", "CIDR[@VRF]; may be given again", appendTo(&spec.Prefixes, parsePrefix))
		f.StringVar(&target.URL, "url", "", "another NetBox than the one in --dir")
		f.StringVar(&adminFile, "admin-token-file", "", "with --url: file with an administrator's token")
		f.StringVar(&tokenFile, "token-file", "", "where the cluster's token goes (default DIR/token-CLUSTER)")
	})
	if err != nil {
		return err
	}
	if target, err = choose(dir, target.URL, adminFile); err != nil {
		return err
	}
	if tokenFile == "" {
		tokenFile = filepath.Join(dir, "token-"+spec.Cluster)
	}
	return seedInto(ctx, target, spec, tokenFile)
}

// choose takes the NetBox of the folder, or the one with the URL.
func choose(dir, url, adminFile string) (netbox.Target, error) {
	if url == "" {
		return netbox.TargetIn(dir)
	}
	raw, err := os.ReadFile(adminFile)
	if err != nil {
		return netbox.Target{}, fmt.Errorf("seed --url needs --admin-token-file: %w", err)
	}
	return netbox.Target{URL: url, Token: strings.TrimSpace(string(raw))}, nil
}

func seedInto(ctx context.Context, target netbox.Target, spec netbox.Spec, tokenFile string) error {
	raw, err := os.ReadFile(tokenFile)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("reading the cluster's token: %w", err)
	}
	spec.KnownToken = strings.TrimSpace(string(raw))
	seeded, err := netbox.Seed(ctx, target, spec)
	if err != nil {
		return err
	}
	fmt.Printf("seeded:       %s: %d devices, %d prefixes\n", target.URL, len(seeded.DeviceIDs), len(seeded.PrefixIDs))
	if seeded.Token == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(tokenFile), 0o755); err != nil {
		return fmt.Errorf("writing the cluster's token: %w", err)
	}
	if err := os.WriteFile(tokenFile, []byte(seeded.Token+"\n"), 0o600); err != nil {
		return fmt.Errorf("writing the cluster's token: %w", err)
	}
	fmt.Printf("token file:   %s (may write the addresses of cluster %q alone)\n", tokenFile, spec.Cluster)
	return nil
}

// appendTo makes a flag that may be given again.
func appendTo[T any](list *[]T, parse func(string) (T, error)) func(string) error {
	return func(text string) error {
		v, err := parse(text)
		if err == nil {
			*list = append(*list, v)
		}
		return err
	}
}

func parseDevice(text string) (netbox.Device, error) {
	name, list, ok := strings.Cut(text, "=")
	if !ok || name == "" {
		return netbox.Device{}, errors.New("want NAME=ADDRESS/LENGTH")
	}
	d := netbox.Device{Name: name}
	for item := range strings.SplitSeq(list, ",") {
		a, err := netip.ParsePrefix(item)
		if err != nil {
			return netbox.Device{}, err
		}
		d.Addrs = append(d.Addrs, a)
	}
	return d, nil
}

func parsePrefix(text string) (netbox.Prefix, error) {
	cidr, vrf, _ := strings.Cut(text, "@")
	p, err := netip.ParsePrefix(cidr)
	return netbox.Prefix{CIDR: p, VRF: vrf}, err
}
