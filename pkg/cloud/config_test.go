// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox"
)

const goodConfig = `
apiVersion: config.bm-ccm.io/v1alpha1
kind: CloudConfig
clusterName: lab
netbox:
  url: https://netbox.example.org
  tokenFile: /etc/bm-ccm/netbox/token
`

func TestLoadConfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(goodConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	config, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	if config.ClusterName != "lab" || config.NetBox.URL != "https://netbox.example.org" || config.NetBox.Timeout.Duration != 10*time.Second {
		t.Errorf("got %+v %+v", config, config.NetBox)
	}
	if _, err := LoadConfig(path + ".missing"); err == nil || !strings.Contains(err.Error(), "--cloud-config") {
		t.Errorf("a missing file gives %v", err)
	}
}

// Every mistake is reported at once, each with its path.
func TestParseConfigMistakes(t *testing.T) {
	tests := map[string]struct {
		in   string
		want []string
	}{
		"not YAML":  {"a: b: c", []string{"not valid YAML"}},
		"duplicate": {goodConfig + "clusterName: again\n", []string{`key "clusterName" already set`}},
		"empty": {"{}", []string{
			`apiVersion: Unsupported value: "": supported values: "config.bm-ccm.io/v1alpha1"`,
			`kind: Unsupported value: "": supported values: "CloudConfig"`,
			"clusterName: Required value",
		}},
		"unknown and bad fields": {
			strings.NewReplacer("clusterName: lab", "clusterName: a/b", "url: https://", "url: ftp://", "tokenFile:", "tokenfile:").Replace(goodConfig) + "  timeout: -3s\n",
			[]string{`unknown field "netbox.tokenfile"`, "clusterName: Invalid value: \"a/b\"", "netbox.tokenFile: Required value", "netbox.url: Invalid value", `netbox.timeout: Invalid value: "-3s"`},
		},
		"bad record": {goodConfig + `  record:
    status: reserved
    tenant: Our Tenant
    description: "{{.Cluster}} {{.Nope}}"
    tags: [ok, not/ok]
    customFields: {k8s_lb_claim: x, has-dash: 1, fine: true}
`, []string{
			`netbox.record.status: Invalid value: "reserved": says that nobody has the address`, `netbox.record.tenant: Invalid value: "Our Tenant": must be a slug`,
			`netbox.record.description: Invalid value: "{{.Cluster}} {{.Nope}}": must be a Go template over .Cluster, .Namespace, .Service, .Class and .Family`,
			`netbox.record.tags[1]: Invalid value: "not/ok"`, `netbox.record.customFields[k8s_lb_claim]: Invalid value: "k8s_lb_claim": is where the owner is recorded`,
			`netbox.record.customFields[has-dash]: Invalid value: "has-dash": must be the name of a custom field`,
		}},
		"not a template":         {goodConfig + "  record: {description: '{{.Cluster'}\n", []string{"netbox.record.description: Invalid value"}},
		"unknown in the record":  {goodConfig + "  record: {role: vip}\n", []string{`unknown field "netbox.record.role"`}},
		"credentials in the URL": {strings.Replace(goodConfig, "https://", "https://me:secret@", 1), []string{"netbox.url: Invalid value", "credentials"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := parseConfig([]byte(tt.in))
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error lacks %q:\n%v", want, err)
				}
			}
		})
	}
}

func TestRecordConfig(t *testing.T) {
	config, err := parseConfig([]byte(goodConfig + `  record:
    status: dhcp-lb
    tenant: platform
    description: "{{.Cluster}}: {{.Namespace}}/{{.Service}} ({{.Class}}, {{.Family}})"
    tags: [kubernetes]
    customFields: {cost_centre: 17, managed: true, note: "by bm-ccm"}
`))
	if err != nil {
		t.Fatal(err)
	}
	r, err := config.NetBox.Record.record()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := r.Description.Execute(&text, netbox.Subject{Cluster: "c", Namespace: "n", Service: "s", Class: "k", Family: "ipv4"}); err != nil {
		t.Fatal(err)
	}
	got := []any{r.Status, r.Tenant, text.String(), r.Tags, r.CustomFields}
	want := []any{"dhcp-lb", "platform", "c: n/s (k, ipv4)", []string{"kubernetes"}, map[string]any{"cost_centre": int64(17), "managed": true, "note": "by bm-ccm"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if r, err := (RecordConfig{}).record(); err != nil || r.Description != nil || r.Status != "" {
		t.Errorf("an absent section gives %+v, %v", r, err)
	}
}

func TestProviderID(t *testing.T) {
	for _, s := range []string{"bm-ccm://netbox/device/11", "bm-ccm://netbox/virtual-machine/7", "bm-ccm://node/n1.example.org"} {
		id, err := parseProviderID(s)
		if err != nil {
			t.Errorf("%s: %v", s, err)
		}
		if diff := cmp.Diff(s, id.String()); diff != "" {
			t.Error(diff)
		}
	}
	for _, s := range []string{"", "aws:///i-1", "bm-ccm://netbox/device/", "bm-ccm://netbox/device/0", "bm-ccm://netbox/rack/1", "bm-ccm://node/", "bm-ccm://netbox/device/1/2"} {
		if id, err := parseProviderID(s); err == nil {
			t.Errorf("%q is taken for %+v", s, id)
		}
	}
}
