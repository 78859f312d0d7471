// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package story

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Usage tells how to look around in the lab.
func (s *Story) Usage() string {
	l := s.Lab
	return fmt.Sprintf(`The lab stays up until Ctrl-C. To look around:
  export KUBECONFIG=%s
  kubectl get services,addresspools,loadbalancerclasses,nodeannouncements
  ip netns exec %s bash          # a shell on the client outside the cluster
  ip netns exec %s vtysh --vty_socket %s/frr   # the router
  NetBox: %s (%s)`,
		l.Kubeconfig(), l.Client().Netns(), l.Router().Netns(), l.Dir(), s.IPAM.URL, s.IPAM.Web)
}

// Diagnose collects what tells why a story failed.
func (s *Story) Diagnose() string {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var b strings.Builder
	for _, args := range []string{
		"get pods -A -o wide",
		"get services,addresspools,loadbalancerclasses,nodeannouncements -A",
		"get events -A --sort-by=.lastTimestamp",
		"logs -n bm-ccm-system -l app.kubernetes.io/part-of=bm-ccm --tail=30 --prefix",
	} {
		out, err := s.Lab.Kubectl(ctx, strings.Fields(args)...)
		fmt.Fprintf(&b, "$ kubectl %s\n%s\n", args, out)
		if err != nil {
			fmt.Fprintf(&b, "%v\n", err)
		}
	}
	return b.String()
}
