// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/bm-ccm/bm-ccm/conformance/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	product "github.com/bm-ccm/bm-ccm/pkg/ipam/netbox"
	client "github.com/bm-ccm/bm-ccm/pkg/netbox"
)

const cluster = "bench"

// prefix is where a measurement takes its addresses from: each has one of its
// own, since NetBox gets slower as a prefix fills.
func prefix(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(60 + i), 0, 0}), 16)
}

const prefixes = 12

// scene is a NetBox behind a proxy that counts the requests.
type scene struct {
	dir    string
	server *netbox.Server
	proxy  *httptest.Server
	count  atomic.Int64
	token  string
	ids    []int64 // of the prefixes
	next   int     // the first prefix that nobody has used
}

func startScene(ctx context.Context) (*scene, error) {
	dir, err := os.MkdirTemp("", "bm-ccm-bench-")
	if err != nil {
		return nil, fmt.Errorf("making a folder: %w", err)
	}
	s := &scene{dir: dir}
	if s.server, err = netbox.Start(ctx, netbox.Options{Dir: filepath.Join(dir, "netbox"), Log: os.Stderr}); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	spec := netbox.Spec{Cluster: cluster}
	for i := range prefixes {
		spec.Prefixes = append(spec.Prefixes, netbox.Prefix{CIDR: prefix(i)})
	}
	seeded, err := netbox.Seed(ctx, s.server.Target(), spec)
	if err != nil {
		s.close()
		return nil, err
	}
	s.token, s.ids = seeded.Token, seeded.PrefixIDs
	if err := os.WriteFile(s.tokenFile(), []byte(s.token), 0o600); err != nil {
		s.close()
		return nil, err
	}
	return s, s.startProxy()
}

func (s *scene) startProxy() error {
	target, err := url.Parse(s.server.URL)
	if err != nil {
		return err
	}
	through := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: &http.Transport{MaxIdleConnsPerHost: 64},
	}
	s.proxy = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.count.Add(1)
		through.ServeHTTP(w, r)
	}))
	return nil
}

func (s *scene) close() {
	if s.proxy != nil {
		s.proxy.Close()
	}
	if err := errors.Join(s.server.Stop(), os.RemoveAll(s.dir)); err != nil {
		fmt.Fprintln(os.Stderr, "Error: cleaning up:", err)
	}
}

func (s *scene) tokenFile() string { return filepath.Join(s.dir, "token") }

// unused returns a prefix that is empty, and its id.
func (s *scene) unused() (netip.Prefix, int64) {
	p, id := prefix(s.next), s.ids[s.next]
	s.next++
	return p, id
}

func poolOf(p netip.Prefix) ipam.Pool {
	return ipam.Pool{Name: "bench", Spec: v1alpha1.AddressPoolSpec{
		NetBox: &v1alpha1.NetBoxSource{Prefixes: []v1alpha1.NetBoxPrefix{{Prefix: p.String()}}},
	}}
}

// allocator returns a new allocator that has not yet asked NetBox anything.
func (s *scene) allocator() (*product.Allocator, error) {
	c, err := client.NewClient(client.Options{URL: s.proxy.URL, TokenFile: s.tokenFile()})
	if err != nil {
		return nil, err
	}
	return product.NewAllocator(c, cluster, "bench-uid", product.Record{}), nil
}

// do sends one request as a plain client does, through the same proxy.
func (s *scene) do(ctx context.Context, method, path string, body, out any) error {
	raw := []byte{}
	if body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return fmt.Errorf("%s %s: %w", method, path, err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, s.proxy.URL+path, bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	keyword := "Token "
	if strings.HasPrefix(s.token, "nbt_") {
		keyword = "Bearer "
	}
	req.Header.Set("Authorization", keyword+s.token)
	req.Header.Set("Content-Type", "application/json")
	res, err := s.proxy.Client().Do(req)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, path, res.Status, answer[:min(len(answer), 500)])
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}

// clear deletes the records in a prefix.
func (s *scene) clear(ctx context.Context, p netip.Prefix) error {
	for {
		var page struct {
			Results []struct {
				ID int64 `json:"id"`
			} `json:"results"`
		}
		path := "/api/ipam/ip-addresses/"
		if err := s.do(ctx, http.MethodGet, path+"?fields=id&limit=100&parent="+url.QueryEscape(p.String()), nil, &page); err != nil {
			return err
		}
		if len(page.Results) == 0 {
			return nil
		}
		if err := s.do(ctx, http.MethodDelete, path, page.Results, nil); err != nil {
			return err
		}
	}
}
