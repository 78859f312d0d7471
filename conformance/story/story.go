// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package story

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/bm-ccm/bm-ccm/conformance/lab"
)

// Story is a cluster with bm-ccm in it, and what to do there.
type Story struct {
	Lab  *lab.Lab
	IPAM *IPAM
	Log  io.Writer

	product string // the folder of the product
	begin   time.Time
}

// New returns a story over a running lab and NetBox.
func New(l *lab.Lab, ipam *IPAM, log io.Writer) (*Story, error) {
	product, err := lab.ProductDir()
	return &Story{Lab: l, IPAM: ipam, Log: log, product: product, begin: time.Now()}, err
}

// step is one scene of the story.
type step struct {
	title string
	do    func(context.Context) error
}

// Install brings bm-ccm into the cluster and waits until it works.
func (s *Story) Install(ctx context.Context) error {
	return s.play(ctx, []step{
		{"install bm-ccm: CRDs, RBAC, two controllers, an agent per node", s.install},
		{"the nodes lose their taint through bm-ccm", s.nodesReady},
		{"a pool in NetBox, a class, a BGP peer", s.configure},
		{"every node has a BGP session with the router", s.sessionsUp},
	})
}

// Play does what a user does.
func (s *Story) Play(ctx context.Context) error {
	return s.play(ctx, []step{
		{"a Deployment and a Service with ports 80 and 443 (kiada)", s.expose},
		{"NetBox shows whose the address is", s.recorded},
		{"the client outside the cluster reaches it by HTTP and HTTPS", s.reach},
		{"externalTrafficPolicy: Local: the pod sees the client's own address", s.local},
		{"a TCP service on its own port, 3306 (mysql)", s.mysql},
		{"scaled to one replica, only its node announces", s.scale},
		{"deleted: the address is free again and the route is gone", s.remove},
	})
}

func (s *Story) play(ctx context.Context, steps []step) error {
	for _, st := range steps {
		s.say("── %s", st.title)
		if err := st.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", st.title, err)
		}
	}
	return nil
}

// say prints a progress line with the time since the beginning.
func (s *Story) say(format string, args ...any) {
	fmt.Fprintf(s.Log, "[%6.1fs] %s\n", time.Since(s.begin).Seconds(), fmt.Sprintf(format, args...))
}

// show prints what a command said, indented.
func (s *Story) show(command, output string) {
	fmt.Fprintf(s.Log, "          $ %s\n", command)
	for line := range strings.Lines(strings.TrimRight(output, "\n") + "\n") {
		fmt.Fprintf(s.Log, "          %s", line)
	}
}

// kubectl runs kubectl and shows it.
func (s *Story) kubectl(ctx context.Context, args ...string) error {
	out, err := s.Lab.Kubectl(ctx, args...)
	s.show("kubectl "+strings.Join(args, " "), out)
	return err
}

// patience is how long anything in the story may take.
const patience = 90 * time.Second

// eventually tries until it succeeds or patience ends; the last error tells
// what was still wrong.
func eventually(ctx context.Context, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %v: %w", patience, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
