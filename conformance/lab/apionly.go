// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
)

// ControlPlaneOptions say what StartControlPlane starts.
type ControlPlaneOptions struct {
	// IPv4Only leaves IPv6 out of the Services' addresses.
	IPv4Only bool
	// Log receives progress lines; nil discards them.
	Log io.Writer
}

// ControlPlane is an etcd and a kube-apiserver on loopback, for tests of
// controllers: a real API with RBAC, but no controllers, nodes or service
// accounts.
type ControlPlane struct {
	admin
	api *apiServer
}

// StartControlPlane starts a control plane on free ports of 127.0.0.1 and
// returns when it is ready, after about four seconds. It needs no root and no
// namespaces. Its processes die with the caller's at the latest, so a test that
// crashes leaves none of them.
func StartControlPlane(ctx context.Context, opts ControlPlaneOptions) (*ControlPlane, error) {
	if opts.Log == nil {
		opts.Log = io.Discard
	}
	b, err := newBuilder(newProgress(opts.Log).say)
	if err != nil {
		return nil, err
	}
	bins, err := b.build(ctx, nil)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "bm-ccm-api-")
	if err != nil {
		return nil, fmt.Errorf("making a folder: %w", err)
	}
	cp := &ControlPlane{admin: admin{binary: bins.path("kubectl")}, api: &apiServer{dir: dir, bins: bins, addr: netip.MustParseAddr("127.0.0.1"), v4only: opts.IPv4Only}}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := cp.up(ctx); err != nil {
		return nil, errors.Join(err, cp.Close())
	}
	return cp, nil
}

func (cp *ControlPlane) up(ctx context.Context) error {
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	cp.api.port, cp.api.etcd, cp.api.peer = ports[0], ports[1], ports[2]
	if cp.api.pki, err = newPKI(filepath.Join(cp.api.dir, "pki")); err != nil {
		return err
	}
	if err := cp.api.start(); err != nil {
		return err
	}
	cp.kubeconfig, err = cp.UserKubeconfig("admin", "system:masters")
	if err != nil {
		return err
	}
	return cp.api.ready(ctx, cp.api.url())
}

// UserKubeconfig issues a certificate for a user and returns the path of a
// kubeconfig with it: what the user may do is up to RBAC.
func (cp *ControlPlane) UserKubeconfig(user string, groups ...string) (string, error) {
	return cp.api.pki.kubeconfig(user, pkix.Name{CommonName: user, Organization: groups}, cp.api.url())
}

// Close ends both processes and removes their files.
func (cp *ControlPlane) Close() error {
	var errs []error
	for _, d := range slices.Backward(cp.api.daemons) {
		errs = append(errs, d.Kill())
	}
	if err := os.RemoveAll(cp.api.dir); err != nil {
		errs = append(errs, fmt.Errorf("removing the control plane's folder: %w", err))
	}
	return errors.Join(errs...)
}
