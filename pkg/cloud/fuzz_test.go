// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"testing"

	"sigs.k8s.io/yaml"
)

// A configuration that is accepted can be written down and read again.
func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(goodConfig))
	f.Add([]byte("apiVersion: config.bm-ccm.io/v1alpha1\nkind: CloudConfig\nclusterName: lab\n"))
	f.Add([]byte(goodConfig + "  record: {tags: [a, a], description: '{{.Namespace}}', customFields: {a: 1}}\n"))
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, data []byte) {
		config, err := parseConfig(data)
		if err != nil {
			return
		}
		if config.ClusterName == "" || config.NetBox != nil && (config.NetBox.Timeout.Duration <= 0 || config.NetBox.TokenFile == "") {
			t.Errorf("accepted: %+v", config)
		}
		again, err := yaml.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseConfig(again); err != nil {
			t.Errorf("not accepted again: %v\n%s", err, again)
		}
		if config.NetBox != nil {
			if _, err := config.NetBox.Record.record(); err != nil {
				t.Errorf("a valid record configuration is refused later: %v", err)
			}
		}
	})
}

// A provider ID that is read leads to the same machine when it is written and
// read again: Nodes keep it for ever.
func FuzzParseProviderID(f *testing.F) {
	for _, s := range []string{"bm-ccm://netbox/device/11", "bm-ccm://netbox/vm/7", "bm-ccm://netbox/device/011", "metal3://x", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := parseProviderID(s)
		if err != nil {
			return
		}
		if again, err := parseProviderID(id.String()); err != nil || again != id {
			t.Errorf("%q became %q, and that %q, %v", s, id, again, err)
		}
	})
}
