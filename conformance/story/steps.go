// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package story

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// The Services of the story.
const (
	kiada = "kiada"
	mysql = "mysql"
)

// expose creates the application and waits for its address.
func (s *Story) expose(ctx context.Context) error {
	if err := s.Lab.ApplyPath(ctx, s.example("kiada.yaml")); err != nil {
		return err
	}
	addr, err := s.address(ctx, kiada)
	if err != nil {
		return err
	}
	if !netip.MustParsePrefix(s.IPAM.Prefix).Contains(addr) {
		return fmt.Errorf("address %s is not from %s", addr, s.IPAM.Prefix)
	}
	return s.kubectl(ctx, "get", "service", kiada)
}

// address waits for the address of a Service.
func (s *Story) address(ctx context.Context, service string) (netip.Addr, error) {
	var addr netip.Addr
	err := eventually(ctx, func(ctx context.Context) error {
		ip, err := s.Lab.Kubectl(ctx, "get", "service", service, "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}")
		if err != nil {
			return err
		}
		addr, err = netip.ParseAddr(strings.TrimSpace(ip))
		if err != nil {
			return fmt.Errorf("no address yet for Service %s", service)
		}
		return nil
	})
	return addr, err
}

// recorded checks that NetBox holds exactly the claims of the Services.
func (s *Story) recorded(ctx context.Context) error {
	addr, err := s.address(ctx, kiada)
	if err != nil {
		return err
	}
	records, err := s.IPAM.Records(ctx)
	if err != nil {
		return err
	}
	for _, r := range records {
		s.say("   NetBox: %s  claim %s  %q", r.Address, r.Claim(), r.Description)
	}
	want := s.IPAM.Cluster + "/default/kiada/ipv4"
	ok := slices.ContainsFunc(records, func(r Record) bool {
		return r.Claim() == want && strings.HasPrefix(r.Address, addr.String()+"/")
	})
	if !ok {
		return fmt.Errorf("NetBox has no record of %s for claim %s", addr, want)
	}
	return nil
}

// answer is what a kiada pod says.
type answer struct{ pod, node, client string }

// kiadaSays is kiada's answer: who it is, and whom it sees.
var kiadaSays = regexp.MustCompile(`processed by "([^"]*)" on node "([^"]*)"\. Client IP: (\S+)`)

// curl asks a URL from the client outside the cluster.
func (s *Story) curl(ctx context.Context, url string) (answer, error) {
	out, err := s.Lab.Client().Exec(ctx, "curl", "-sSk", "--max-time", "2", url)
	if err != nil {
		return answer{}, err
	}
	m := kiadaSays.FindStringSubmatch(out)
	if m == nil {
		return answer{}, fmt.Errorf("%s answered %.200q, which is not kiada", url, out)
	}
	return answer{pod: m[1], node: m[2], client: m[3]}, nil
}

// reach checks both ports from outside.
func (s *Story) reach(ctx context.Context) error {
	addr, err := s.address(ctx, kiada)
	if err != nil {
		return err
	}
	for _, scheme := range []string{"http", "https"} {
		url := scheme + "://" + addr.String() + "/"
		var a answer
		err := eventually(ctx, func(ctx context.Context) error {
			a, err = s.curl(ctx, url)
			return err
		})
		if err != nil {
			return err
		}
		s.say("   curl %s: pod %s on %s", url, a.pod, a.node)
	}
	return s.showRoutes(ctx, addr)
}

func (s *Story) showRoutes(ctx context.Context, addr netip.Addr) error {
	command := "show ip route " + addr.String()
	if addr.Is6() {
		command = "show ipv6 route " + addr.String()
	}
	out, err := s.Lab.Router().Vtysh(ctx, command)
	s.show("vtysh -c '"+command+"'", out)
	return err
}

// nextHops are the nodes that the router sends an address to.
func (s *Story) nextHops(ctx context.Context, addr netip.Addr) ([]netip.Addr, error) {
	routes, err := s.Lab.Router().Routes(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range routes {
		if r.Prefix == netip.PrefixFrom(addr, addr.BitLen()) {
			return r.NextHops, nil
		}
	}
	return nil, nil
}

// local switches to externalTrafficPolicy Local and checks what the pod sees.
func (s *Story) local(ctx context.Context) error {
	addr, err := s.address(ctx, kiada)
	if err != nil {
		return err
	}
	if _, err := s.Lab.Kubectl(ctx, "patch", "service", kiada, "-p", `{"spec":{"externalTrafficPolicy":"Local"}}`); err != nil {
		return err
	}
	client := s.Lab.Client().Addr().String()
	return eventually(ctx, func(ctx context.Context) error {
		a, err := s.curl(ctx, "http://"+addr.String()+"/")
		if err != nil {
			return err
		}
		if a.client != client {
			return fmt.Errorf("the pod saw %s, not the client %s", a.client, client)
		}
		s.say("   pod %s on %s saw client %s", a.pod, a.node, a.client)
		return nil
	})
}

// mysql exposes a TCP service on its native port and greets it.
func (s *Story) mysql(ctx context.Context) error {
	if err := s.Lab.ApplyPath(ctx, s.example("mysql.yaml")); err != nil {
		return err
	}
	addr, err := s.address(ctx, mysql)
	if err != nil {
		return err
	}
	return eventually(ctx, func(ctx context.Context) error {
		// The server speaks first: its greeting names protocol 10 and its version.
		out, err := s.Lab.Client().Exec(ctx, "sh", "-c", "nc -w 1 "+addr.String()+" 3306 </dev/null | tr -dc '[:print:]'")
		if err != nil {
			return err
		}
		if !strings.Contains(out, "mysql") {
			return fmt.Errorf("port 3306 answered %.100q, which is no MySQL greeting", out)
		}
		s.say("   nc %s 3306: %.60q", addr, out)
		return nil
	})
}

// scale leaves one pod, and with it one node that announces under Local.
func (s *Story) scale(ctx context.Context) error {
	addr, err := s.address(ctx, kiada)
	if err != nil {
		return err
	}
	if _, err := s.Lab.Kubectl(ctx, "scale", "deployment", kiada, "--replicas=1"); err != nil {
		return err
	}
	err = eventually(ctx, func(ctx context.Context) error {
		hops, err := s.nextHops(ctx, addr)
		if err != nil {
			return err
		}
		if len(hops) != 1 {
			return fmt.Errorf("the router knows %d next hops for %s: %v", len(hops), addr, hops)
		}
		_, err = s.curl(ctx, "http://"+addr.String()+"/")
		return err
	})
	if err != nil {
		return err
	}
	return s.showRoutes(ctx, addr)
}

// remove deletes the Services: their records and routes must go.
func (s *Story) remove(ctx context.Context) error {
	addr, err := s.address(ctx, kiada)
	if err != nil {
		return err
	}
	for _, name := range []string{"kiada.yaml", "mysql.yaml"} {
		if _, err := s.Lab.Kubectl(ctx, "delete", "-f", s.example(name), "--wait=true"); err != nil {
			return err
		}
	}
	return eventually(ctx, func(ctx context.Context) error {
		records, err := s.IPAM.Records(ctx)
		if err != nil {
			return err
		}
		if len(records) != 0 {
			return fmt.Errorf("NetBox still has %d records of the cluster", len(records))
		}
		hops, err := s.nextHops(ctx, addr)
		if err != nil {
			return err
		}
		if len(hops) != 0 {
			return fmt.Errorf("the router still sends %s to %v", addr, hops)
		}
		s.say("   NetBox has no record of the cluster, the router no route to %s", addr)
		return nil
	})
}
