// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	var run func(context.Context, identity) error
	switch {
	case len(os.Args) == 2 && os.Args[1] == "kiada":
		run = runKiada
	case len(os.Args) == 2 && os.Args[1] == "mysql":
		run = runMySQL
	default:
		fmt.Fprintln(os.Stderr, "usage: workload kiada|mysql")
		os.Exit(2)
	}
	if err := run(ctx, whoAmI()); err != nil {
		fmt.Fprintln(os.Stderr, "workload:", err)
		os.Exit(1)
	}
}

// identity is what a server says of itself.
type identity struct{ pod, node string }

// whoAmI reads POD_NAME and NODE_NAME, which a pod gets by the downward API.
func whoAmI() identity {
	id := identity{pod: os.Getenv("POD_NAME"), node: os.Getenv("NODE_NAME")}
	if id.pod == "" {
		id.pod, _ = os.Hostname() // an empty name is honest, too
	}
	if id.node == "" {
		id.node = "unknown"
	}
	return id
}
