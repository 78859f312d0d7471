// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package story

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"text/template"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/bm-ccm/bm-ccm/conformance/lab"
)

// class is the load-balancer class of the story's Services.
const class = "bm-ccm.io/public"

// httpPort is where kiada serves HTTP.
var httpPort = intstr.FromInt32(8080)

// namespace is where the manifests put bm-ccm.
const namespace = "bm-ccm-system"

// example is the path of an example that users are given too.
func (s *Story) example(name string) string {
	return filepath.Join(s.product, "deploy", "examples", name)
}

// processConfig is what an administrator adds to the manifests: where NetBox
// is, and the token.
var processConfig = template.Must(template.New("config").Parse(`
apiVersion: v1
kind: ConfigMap
metadata: {name: bm-ccm-config, namespace: bm-ccm-system}
data:
  config.yaml: |
    apiVersion: config.bm-ccm.io/v1alpha1
    kind: CloudConfig
    clusterName: {{.Cluster}}
    netbox:
      url: {{.URL}}
      tokenFile: /etc/bm-ccm/netbox/token
---
apiVersion: v1
kind: Secret
metadata: {name: bm-ccm-netbox, namespace: bm-ccm-system}
stringData:
  token: {{.Token}}
`))

// network is what an administrator says about pools and routers.
var network = template.Must(template.New("network").Parse(`
apiVersion: bm-ccm.io/v1alpha1
kind: AddressPool
metadata: {name: public}
spec:
  netbox:
    prefixes: [{prefix: {{.Prefix}}}]
---
apiVersion: bm-ccm.io/v1alpha1
kind: LoadBalancerClass
metadata: {name: public}
spec:
  pools: [public]
  bgp: {}
---
apiVersion: bm-ccm.io/v1alpha1
kind: BGPPeer
metadata: {name: router}
spec:
  address: {{.Router}}
  peerASN: {{.RouterASN}}
  localASN: {{.NodeASN}}
`))

func render(t *template.Template, data any) ([]byte, error) {
	var b bytes.Buffer
	if err := t.Execute(&b, data); err != nil {
		return nil, fmt.Errorf("writing the manifest %s: %w", t.Name(), err)
	}
	return b.Bytes(), nil
}

// install applies the product's manifests as a user does, then the
// configuration of this cluster.
func (s *Story) install(ctx context.Context) error {
	config, err := render(processConfig, s.IPAM)
	if err != nil {
		return err
	}
	if _, err := s.Lab.Kubectl(ctx, "create", "namespace", namespace, "--save-config"); err != nil {
		return err
	}
	if err := s.Lab.Apply(ctx, config); err != nil {
		return err
	}
	_, err = s.Lab.Kubectl(ctx, "apply", "-k", filepath.Join(s.product, "deploy", "manifests"))
	return err
}

// nodesReady waits until no node is tainted, and shows what bm-ccm made of them.
func (s *Story) nodesReady(ctx context.Context) error {
	err := eventually(ctx, func(ctx context.Context) error {
		out, err := s.Lab.Kubectl(ctx, "get", "nodes", "-o", `jsonpath={range .items[*]}{.metadata.name}{" "}{.spec.providerID}{" "}{.spec.taints[*].key}{"\n"}{end}`)
		if err != nil {
			return err
		}
		for line := range strings.Lines(strings.TrimSpace(out)) {
			if f := strings.Fields(line); len(f) != 2 || !strings.HasPrefix(f[1], "bm-ccm://") {
				return fmt.Errorf("node without providerID or with taints: %s", strings.TrimSpace(line))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.kubectl(ctx, "get", "nodes", "-o", "custom-columns=NAME:.metadata.name,PROVIDER-ID:.spec.providerID,ADDRESSES:.status.addresses[*].address")
}

// configure writes the pool, the class and the peer.
func (s *Story) configure(ctx context.Context) error {
	objects, err := render(network, map[string]any{
		"Prefix": s.IPAM.Prefix, "Router": s.Lab.Router().Addr(), "RouterASN": lab.RouterASN, "NodeASN": lab.NodeASN,
	})
	if err != nil {
		return err
	}
	if err := s.Lab.Apply(ctx, objects); err != nil {
		return err
	}
	err = eventually(ctx, func(ctx context.Context) error {
		out, err := s.Lab.Kubectl(ctx, "get", "addresspool,loadbalancerclass", "-o", `jsonpath={range .items[*]}{.kind}{" "}{.status.conditions[?(@.type=="Ready")].status}{" "}{.status.conditions[?(@.type=="Ready")].message}{"\n"}{end}`)
		if err != nil {
			return err
		}
		for line := range strings.Lines(out) {
			if f := strings.Fields(line); len(f) < 2 || f[1] != "True" {
				return fmt.Errorf("not ready: %s", strings.TrimSpace(line))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.kubectl(ctx, "get", "addresspools,loadbalancerclasses,bgppeers")
}

// sessionsUp waits until every node's agent reports its session.
func (s *Story) sessionsUp(ctx context.Context) error {
	err := eventually(ctx, func(ctx context.Context) error {
		out, err := s.Lab.Kubectl(ctx, "get", "nodeannouncements", "-o", "json")
		if err != nil {
			return err
		}
		var list struct {
			Items []struct {
				Metadata struct{ Name string }
				Status   struct{ BGPSummary string }
			}
		}
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			return fmt.Errorf("reading NodeAnnouncements: %w", err)
		}
		up := 0
		for _, n := range list.Items {
			if n.Status.BGPSummary == "1/1" {
				up++
			}
		}
		if want := len(s.Lab.Nodes()); up != want {
			return fmt.Errorf("%d of %d nodes have their BGP session", up, want)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.kubectl(ctx, "get", "nodeannouncements")
}
