// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// The version and kind of the file that --cloud-config names.
const (
	ConfigAPIVersion = "config.bm-ccm.io/v1alpha1"
	ConfigKind       = "CloudConfig"
)

// defaultNetBoxTimeout bounds one call to NetBox. NetBox serialises its IPAM
// writes behind one lock, so a call can wait for others; an answer that takes
// longer than this is as good as lost, and what was asked for is looked up.
const defaultNetBoxTimeout = 10 * time.Second

// Config is what belongs to the process and not to the cluster's objects. It is
// read once, at start; only the token file is read again when it changes.
type Config struct {
	metav1.TypeMeta `json:",inline"`

	// ClusterName is part of every claim key in NetBox and tells the clusters
	// that share a NetBox apart. It must never change: NetBox would take the
	// cluster for another one.
	ClusterName string `json:"clusterName"`

	// NetBox is where addresses and machines are recorded. Without it only
	// pools with spec.addresses work, and nodes are taken for what they say
	// they are.
	NetBox *NetBoxConfig `json:"netbox,omitempty"`
}

// NetBoxConfig is how to reach NetBox.
type NetBoxConfig struct {
	// URL is the address of NetBox without /api, for example https://netbox.example.org.
	URL string `json:"url"`
	// TokenFile holds the API token and nothing else. It is read again when it
	// changes, so that a token is rotated without a restart.
	TokenFile string `json:"tokenFile"`
	// CAFile holds the PEM certificates to trust instead of the system's.
	CAFile string `json:"caFile,omitempty"`
	// Timeout bounds one call; 10s if absent.
	Timeout metav1.Duration `json:"timeout,omitzero"`
	// Record is what a new record of an address holds besides its owner. What
	// is changed in NetBox afterwards stays.
	Record RecordConfig `json:"record,omitzero"`
}

// LoadConfig reads and validates the file. Its error names every mistake, each
// with its path in the file.
func LoadConfig(path string) (*Config, error) {
	data, err := os.ReadFile(path) //nolint:gosec // the path is the administrator's, given on the command line
	if err != nil {
		return nil, fmt.Errorf("reading --cloud-config: %w", err)
	}
	config, err := parseConfig(data)
	if err != nil {
		return nil, fmt.Errorf("--cloud-config %s: %w", path, err)
	}
	return config, nil
}

// parseConfig decodes strictly: unknown and duplicate fields are mistakes.
func parseConfig(data []byte) (*Config, error) {
	asJSON, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		return nil, fmt.Errorf("not valid YAML: %w", err)
	}
	config := &Config{}
	strict, err := kjson.UnmarshalStrict(asJSON, config)
	if err != nil {
		return nil, fmt.Errorf("not a %s: %w", ConfigKind, err)
	}
	config.setDefaults()
	errs := strict
	for _, e := range config.validate() {
		errs = append(errs, e)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return config, nil
}

func (c *Config) setDefaults() {
	if c.NetBox != nil && c.NetBox.Timeout.Duration == 0 {
		c.NetBox.Timeout.Duration = defaultNetBoxTimeout
	}
}

// validate returns every mistake at once: an administrator who corrects one after
// the other restarts the controller as often.
func (c *Config) validate() field.ErrorList {
	var errs field.ErrorList
	if c.APIVersion != ConfigAPIVersion {
		errs = append(errs, field.NotSupported(field.NewPath("apiVersion"), c.APIVersion, []string{ConfigAPIVersion}))
	}
	if c.Kind != ConfigKind {
		errs = append(errs, field.NotSupported(field.NewPath("kind"), c.Kind, []string{ConfigKind}))
	}
	path := field.NewPath("clusterName")
	if c.ClusterName == "" {
		errs = append(errs, field.Required(path, "name this cluster: the name marks its records in NetBox"))
	}
	for _, problem := range validation.IsDNS1123Subdomain(c.ClusterName) {
		if c.ClusterName != "" {
			errs = append(errs, field.Invalid(path, c.ClusterName, problem))
		}
	}
	if c.NetBox != nil {
		errs = append(errs, c.NetBox.validate(field.NewPath("netbox"))...)
	}
	return errs
}

func (c *NetBoxConfig) validate(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if c.TokenFile == "" {
		errs = append(errs, field.Required(path.Child("tokenFile"), "name the file that holds the API token"))
	}
	if c.Timeout.Duration < 0 {
		errs = append(errs, field.Invalid(path.Child("timeout"), c.Timeout.Duration.String(), "must be positive, for example 10s"))
	}
	if problem := checkNetBoxURL(c.URL); problem != "" {
		errs = append(errs, field.Invalid(path.Child("url"), c.URL, problem))
	}
	return append(errs, c.Record.validate(path.Child("record"))...)
}

// checkNetBoxURL returns what is wrong with a NetBox URL, or "".
func checkNetBoxURL(raw string) string {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return "must be a URL like https://netbox.example.org"
	case u.Scheme != "https" && u.Scheme != "http", u.Host == "":
		return "must begin with https:// (or http://) and a host, like https://netbox.example.org"
	case u.User != nil, u.RawQuery != "", u.Fragment != "":
		return "must hold neither credentials nor a query nor a fragment; the token goes into tokenFile"
	}
	return ""
}
