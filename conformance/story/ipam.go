// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package story

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
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
	s, _ := r.CustomFields["k8s_lb_claim"].(string)
	return s
}

// Records returns the addresses that NetBox has recorded for the cluster.
func (n *IPAM) Records(ctx context.Context) ([]Record, error) {
	var page struct {
		Results []Record `json:"results"`
	}
	err := n.call(ctx, http.MethodGet, "/api/ipam/ip-addresses/?limit=1000&ordering=id&cf_k8s_cluster="+n.Cluster, nil, &page)
	return page.Results, err
}

// call sends one request; in and out may be nil.
func (n *IPAM) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encoding a request to NetBox: %w", err)
		}
		body = strings.NewReader(string(data))
	}
	req, err := http.NewRequestWithContext(ctx, method, n.URL+path, body)
	if err != nil {
		return fmt.Errorf("preparing a request to NetBox: %w", err)
	}
	req.Header.Set("Authorization", authorization(n.Token))
	req.Header.Set("Content-Type", "application/json")
	resp, err := n.client.Do(req)
	if err != nil {
		return fmt.Errorf("asking NetBox: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("reading NetBox's answer: %w", err)
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("NetBox answered %s to %s %s: %.300s", resp.Status, method, path, answer)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("decoding NetBox's answer to %s %s: %w", method, path, err)
	}
	return nil
}

// authorization is the header for a token of either version.
func authorization(token string) string {
	if strings.HasPrefix(token, "nbt_") {
		return "Bearer " + token
	}
	return "Token " + token
}
