// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package story

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/bm-ccm/bm-ccm/conformance/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/schema"
)

// IPAM is the NetBox that a story uses.
type IPAM struct {
	// URL is how the cluster reaches it.
	URL string
	// Token is the token that bm-ccm gets.
	Token string
	// Web says how a person looks at it.
	Web string
	// Prefix is the prefix in it that the story's pool takes addresses from.
	Prefix string
	// InMemory says that it is the double, which answers at once.
	InMemory bool
	// Cluster is the name that the cluster has in it.
	Cluster string

	// client reaches URL from this process.
	client *http.Client
	stops  []func() error
}

// Close stops what was started, and removes what was created in a NetBox that
// is not ours; the last thing first.
func (n *IPAM) Close() error {
	var errs []error
	for _, stop := range slices.Backward(n.stops) {
		errs = append(errs, stop())
	}
	n.stops = nil
	return errors.Join(errs...)
}

// Record is what NetBox holds for one address.
type Record struct {
	ID           int64          `json:"id"`
	Address      string         `json:"address"`
	Description  string         `json:"description"`
	CustomFields map[string]any `json:"custom_fields"`
}

// Claim is the claim key of the record.
func (r Record) Claim() string {
	s, _ := r.CustomFields[schema.FieldClaim].(string)
	return s
}

// Records returns the addresses that NetBox has recorded for the cluster.
func (n *IPAM) Records(ctx context.Context) ([]Record, error) {
	var page struct {
		Results []Record `json:"results"`
	}
	err := n.call(ctx, http.MethodGet, "/api/ipam/ip-addresses/?limit=1000&ordering=id&cf_"+schema.FieldCluster+"="+n.Cluster, nil, &page)
	return page.Results, err
}

// call sends one request; in and out may be nil.
func (n *IPAM) call(ctx context.Context, method, path string, in, out any) error {
	return netbox.Target{URL: n.URL, Token: n.Token, Client: n.client}.Do(ctx, method, path, in, out)
}
