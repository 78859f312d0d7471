// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package backlog

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// Process is a running bm-ccm.
type Process struct {
	cmd *exec.Cmd
	log *bytes.Buffer
}

// Run starts a bm-ccm binary. config is what its --cloud-config holds besides
// the name of the cluster, args are further flags.
func (c *Cluster) Run(ctx context.Context, binary, config string, args ...string) (*Process, error) {
	file := c.Kubeconfig() + ".cloud-config"
	if err := os.WriteFile(file, []byte("apiVersion: config.bm-ccm.io/v1alpha1\nkind: CloudConfig\nclusterName: bench\n"+config), 0o600); err != nil {
		return nil, err
	}
	p := &Process{log: &bytes.Buffer{}}
	p.cmd = exec.CommandContext(ctx, binary, append([]string{
		"--kubeconfig=" + c.Kubeconfig(), "--cloud-config=" + file, "--leader-elect=false", "--secure-port=0",
	}, args...)...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", binary, err)
	}
	return p, nil
}

// Stop kills, as a crash would.
func (p *Process) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	_ = p.cmd.Wait()
}

// WithLog stops the process and adds the end of its log to an error.
func (p *Process) WithLog(err error) error {
	p.Stop()
	tail := p.log.Bytes()
	return fmt.Errorf("%w; the end of bm-ccm's log:\n%s", err, tail[max(0, len(tail)-2000):])
}
