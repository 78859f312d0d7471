// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

const usage = `lab makes a Kubernetes cluster on this machine out of network namespaces:
etcd, kube-apiserver, controller manager, scheduler, nodes with the real kubelet
and kube-proxy, an FRR router, and a client on the far side of it.

  lab build                     build the programs of a lab; the first time takes minutes
  lab up [flags]                make a lab; it lives until this is interrupted (lab up -h)
  lab down [--slot N]           remove a lab that was kept
  lab status                    show the labs of this machine
  lab kubectl [--slot N] -- ... run kubectl as cluster administrator
  lab exec [--slot N] HOST -- COMMAND...
                                run a command on a host: client, router, fab, n1, n2...
  lab vtysh [--slot N] [-- COMMAND]
                                talk to the router

Without --slot a command uses the only lab there is.

Environment: BM_CCM_CACHE (cache folder), BM_CCM_KUBE_BINARIES (folder of ready
etcd, kube-*, kubectl, agnhost). State and logs are in /run/bm-ccm-lab.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	var exit exitCodeError
	switch {
	case err == nil:
	case errors.As(err, &exit):
		os.Exit(int(exit))
	default:
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	commands := map[string]func(context.Context, []string) error{
		"build": build, "up": up, "down": down, "status": status, "kubectl": kubectl, "exec": execute, "vtysh": vtysh,
	}
	if len(args) == 0 || args[0] == "-h" || args[0] == "--help" || args[0] == "help" {
		fmt.Print(usage)
		return nil
	}
	command, ok := commands[args[0]]
	if !ok {
		return fmt.Errorf("no command %q; lab -h lists them", args[0])
	}
	return command(ctx, args[1:])
}
