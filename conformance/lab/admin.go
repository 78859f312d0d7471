// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// admin is what the administrator of a cluster has: kubectl and a kubeconfig.
type admin struct {
	binary     string
	kubeconfig string
}

// Kubeconfig is the path of the cluster administrator's kubeconfig. It works
// from the machine itself.
func (a *admin) Kubeconfig() string { return a.kubeconfig }

// AdminConfig is the cluster administrator's client configuration, without a
// client-side rate limit.
func (a *admin) AdminConfig() (*rest.Config, error) { return adminConfig(a.kubeconfig) }

func adminConfig(kubeconfig string) (*rest.Config, error) {
	c, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading the administrator's kubeconfig: %w", err)
	}
	c.QPS = -1
	return c, nil
}

// Kubectl runs kubectl as cluster administrator and returns what it prints.
func (a *admin) Kubectl(ctx context.Context, args ...string) (string, error) {
	return a.kubectl(ctx, nil, args...)
}

// KubectlCommand makes a kubectl command, for callers that connect its
// standard streams themselves.
func (a *admin) KubectlCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, a.binary, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+a.kubeconfig)
	return cmd
}

func (a *admin) kubectl(ctx context.Context, stdin []byte, args ...string) (string, error) {
	cmd := a.KubectlCommand(ctx, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if stdin != nil {
		cmd.Stdin = bytes.NewReader(stdin)
	}
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}

// Apply applies manifests (YAML or JSON).
func (a *admin) Apply(ctx context.Context, manifests []byte) error {
	_, err := a.kubectl(ctx, manifests, "apply", "--server-side", "-f", "-")
	return err
}

// ApplyPath applies a file, or the files of a folder.
func (a *admin) ApplyPath(ctx context.Context, path string) error {
	_, err := a.Kubectl(ctx, "apply", "--server-side", "-f", path)
	return err
}
