// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/bm-ccm/bm-ccm/pkg/cloud"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox/provision"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/netboxtest"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/schema"
)

// harness is where an administrator works: a NetBox and a folder.
type harness struct {
	t   *testing.T
	srv *netboxtest.Server
	url string
	dir string
}

func newHarness(t *testing.T) *harness {
	t.Helper()
	srv := netboxtest.New(netboxtest.Options{Seed: &netboxtest.Seed{
		Tenants: []string{"stock"}, Tags: []string{"k8s"}, Prefixes: []netboxtest.SeedPrefix{{Prefix: "203.0.113.0/24"}},
	}})
	hs := httptest.NewServer(srv)
	t.Cleanup(hs.Close)
	d := &harness{t: t, srv: srv, url: hs.URL, dir: t.TempDir()}
	d.file("admin", netboxtest.DefaultToken)
	return d
}

func (d *harness) path(name string) string { return filepath.Join(d.dir, name) }

func (d *harness) file(name, content string) string {
	d.t.Helper()
	if err := os.WriteFile(d.path(name), []byte(content), 0o600); err != nil {
		d.t.Fatal(err)
	}
	return d.path(name)
}

func (d *harness) read(name string) string {
	d.t.Helper()
	raw, err := os.ReadFile(d.path(name))
	if err != nil {
		d.t.Fatal(err)
	}
	return strings.TrimSpace(string(raw))
}

// init runs netbox init for cluster lab.
func (d *harness) init(args ...string) (string, error) {
	return run(d.t, append([]string{"netbox", "init", "--url", d.url, "--token-file", d.path("admin"), "--cluster", "lab"}, args...)...)
}

// config writes a cloud configuration; more goes below netbox.
func (d *harness) config(cluster, tokenFile string, more ...string) string {
	return d.file("cloud.yaml", "apiVersion: config.bm-ccm.io/v1alpha1\nkind: CloudConfig\nclusterName: "+cluster+
		"\nnetbox:\n  url: "+d.url+"\n  tokenFile: "+d.path(tokenFile)+"\n"+strings.Join(more, "\n"))
}

// cluster serves AddressPools, and no Services, and returns a kubeconfig.
func (d *harness) cluster(pools string) string {
	answers := map[string]string{
		"/apis/bm-ccm.io/v1alpha1/addresspools":        `{"apiVersion":"bm-ccm.io/v1alpha1","kind":"AddressPoolList","items":[` + pools + `]}`,
		"/apis/bm-ccm.io/v1alpha1/loadbalancerclasses": `{"apiVersion":"bm-ccm.io/v1alpha1","kind":"LoadBalancerClassList","items":[]}`,
		"/api/v1/services":                             `{"apiVersion":"v1","kind":"ServiceList","items":[]}`,
		"/api/v1/namespaces/kube-system":               `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"kube-system","uid":"uid-1"}}`,
	}
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if answers[r.URL.Path] == "" {
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = io.WriteString(w, answers[r.URL.Path])
	}))
	d.t.Cleanup(api.Close)
	return d.file("kubeconfig", `{"apiVersion":"v1","kind":"Config","current-context":"a",
		"clusters":[{"name":"a","cluster":{"server":"`+api.URL+`"}}],"users":[{"name":"a","user":{}}],
		"contexts":[{"name":"a","context":{"cluster":"a","user":"a"}}]}`)
}

func TestNetBoxInit(t *testing.T) {
	d := newHarness(t)
	out, err := d.init("--out", d.path("token"), "--reserved-tenant", "stock")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"created  custom field k8s_lb_claim\n", "created  user bm-ccm-lab\n", `created  permission "bm-ccm-lab reserved"`,
		"created  token: in " + d.path("token"), "next: ",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	token := d.read("token")
	if info, err := os.Stat(d.path("token")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if strings.Contains(out, token) {
		t.Error("the token is shown although it is in the file")
	}
	again, err := d.init("--out", d.path("token"), "--reserved-tenant", "stock")
	if err != nil || strings.Contains(again, "created") || strings.Contains(again, "changed") || d.read("token") != token {
		t.Errorf("the second time: %v\n%s", err, again)
	}
	// A file with a token that is not this user's any more is written anew.
	d.srv.RevokeToken(token)
	if again, err = d.init("--out", d.path("token")); err != nil || !strings.Contains(again, "created  token") || d.read("token") == token {
		t.Errorf("with a revoked token: %v\n%s", err, again)
	}
	left, err := filepath.Glob(d.path(".token-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestNetBoxInitPrintsTheTokenOnce(t *testing.T) {
	d := newHarness(t)
	out, err := d.init()
	if err != nil || !strings.Contains(out, "created  token: nbt_") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err = d.init(); err != nil || strings.Contains(out, "nbt_") || !strings.Contains(out, "exists   token: NetBox does not show it again") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestNetBoxInitWrong(t *testing.T) {
	d := newHarness(t)
	if err := d.srv.Apply(&netboxtest.Seed{CustomFields: []netboxtest.CustomField{{Name: "k8s_cluster", Type: "integer"}}}); err != nil {
		t.Fatal(err)
	}
	out, err := d.init("--out", d.path("token"))
	if err == nil || !strings.Contains(err.Error(), "1 item needs manual correction") || !strings.Contains(out, "WRONG    custom field k8s_cluster: ") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := os.Stat(d.path("token")); err == nil {
		t.Error("a token although something is wrong")
	}
}

// TestNetBoxErrorsAreOneLine and name the flag.
func TestNetBoxErrorsAreOneLine(t *testing.T) {
	d := newHarness(t)
	const weak = "weak0123456789abcdef0123456789abcdef0123"
	if err := d.srv.AddToken(netboxtest.Token{User: "weak", Key: weak}); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		args []string
		want string
	}{
		"init without anything":      {[]string{"init"}, "--url is missing; --token-file is missing; --cluster is missing"},
		"init with a bad cluster":    {[]string{"init", "--print", "--cluster", "Prod!"}, `--cluster "Prod!"`},
		"init, no such token":        {[]string{"init", "--url", d.url, "--token-file", "/nowhere", "--cluster", "lab"}, "--token-file"},
		"init, bad URL":              {[]string{"init", "--url", "netbox", "--token-file", d.path("admin"), "--cluster", "lab"}, `--url "netbox"`},
		"init, bad CA":               {[]string{"init", "--url", d.url, "--token-file", d.path("admin"), "--cluster", "lab", "--ca-file", d.path("admin")}, "--ca-file"},
		"init, nowhere to write":     {[]string{"init", "--url", d.url, "--token-file", d.path("admin"), "--cluster", "lab", "--out", "/nowhere/token"}, "--out"},
		"init, an ordinary token":    {[]string{"init", "--url", d.url, "--token-file", d.file("plain", "0123"), "--cluster", "lab"}, "put a valid one into --token-file"},
		"init, a token that may not": {[]string{"init", "--url", d.url, "--token-file", d.file("weak", weak), "--cluster", "lab"}, "looking up custom field k8s_lb_claim in NetBox: the token lacks the right to: take an administrator's"},
		"init --print --out":         {[]string{"init", "--print", "--cluster", "lab", "--out", "x"}, "either --print or --out"},
		"check without a file":       {[]string{"check"}, "--cloud-config is missing"},
		"check, no NetBox":           {[]string{"check", "--cloud-config", d.file("bare.yaml", "apiVersion: config.bm-ccm.io/v1alpha1\nkind: CloudConfig\nclusterName: c\n")}, "has no netbox"},
		"check, bad kubeconfig":      {[]string{"check", "--cloud-config", d.config("lab", "admin"), "--kubeconfig", "/nowhere"}, "--kubeconfig"},
		"check, bad output":          {[]string{"check", "-o", "yaml"}, "neither text nor json"},
		"audit without a file":       {[]string{"audit"}, "--cloud-config is missing"},
		"audit without a cluster":    {[]string{"audit", "--cloud-config", d.config("lab", "admin")}, "name it with --kubeconfig"},
		"something else altogether":  {[]string{"nope"}, "unknown command"},
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := run(t, append([]string{"netbox"}, tt.args...)...)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestNetBoxPrintNeedsNoServer(t *testing.T) {
	cmd := newRootCommand()
	var out, printed bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&printed)
	cmd.SetArgs([]string{"netbox", "init", "--print", "--cluster", "lab", "--user", "svc-lab"})
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	var plan schema.Plan
	if err := json.Unmarshal(out.Bytes(), &plan); err != nil {
		t.Fatalf("%v:\n%s", err, out.String())
	}
	if plan.User.Username != "svc-lab" || len(plan.CustomFields) != len(schema.Fields()) || len(plan.Permissions) != 3 {
		t.Errorf("printed\n%s", out.String())
	}
	if !strings.Contains(printed.String(), "extras/custom-fields/") {
		t.Errorf("how to apply it: %q", printed.String())
	}
}

const poolPublic = `{"metadata":{"name":"public"},"spec":{"netbox":{"prefixes":[{"prefix":"203.0.113.0/24"}]}}}`

func TestNetBoxCheck(t *testing.T) {
	d := newHarness(t)
	if _, err := d.init("--out", d.path("token")); err != nil {
		t.Fatal(err)
	}
	check := func(args ...string) (string, error) { return run(t, append([]string{"netbox", "check"}, args...)...) }
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	out, err := check("--cloud-config", d.config("lab", "token"), "--kubeconfig", d.cluster(poolPublic))
	if err != nil || !strings.Contains(out, "ok    pool public") || !strings.Contains(out, "ok    fence") {
		t.Errorf("%v\n%s", err, out)
	}
	out, err = check("--cloud-config", d.config("lab", "token"))
	if err != nil || !strings.Contains(out, "skip  pools") {
		t.Errorf("without a cluster: %v\n%s", err, out)
	}
	out, err = check("--cloud-config", d.config("lab", "token"), "--kubeconfig", d.cluster(""))
	if err != nil || !strings.Contains(out, "the cluster has no AddressPool") {
		t.Errorf("without pools: %v\n%s", err, out)
	}
	out, err = check("--cloud-config", d.config("lab", "token", "  record: {tenant: stock, tags: [nope]}"))
	if err == nil || !strings.Contains(out, "ok    netbox.record.tenant") || !strings.Contains(out, "FAIL  netbox.record.tags[0]") {
		t.Errorf("with a record: %v\n%s", err, out)
	}
	out, err = check("--cloud-config", d.config("other", "token"), "-o", "json")
	var lines []provision.Finding
	if jsonErr := json.Unmarshal([]byte(out), &lines); jsonErr != nil {
		t.Fatal(jsonErr)
	}
	if err == nil || !strings.HasPrefix(err.Error(), "1 of ") || exitCode(err) != 1 {
		t.Errorf("for another cluster: %v\n%s", err, out)
	}
}

// TestNetBoxAudit: what is printed, and the exit code.
func TestNetBoxAudit(t *testing.T) {
	key := ipam.Key{Cluster: "lab", Namespace: "default", Service: "web", Family: ipam.IPv4}
	orphan := ipam.Finding{Kind: ipam.Orphan, Namespace: "default", Name: "web", Addr: netip.MustParseAddr("203.0.113.1"), Key: key, Text: "nobody has it"}
	tests := []struct {
		name   string
		found  []ipam.Finding
		err    error
		output outputFlag
		code   int
		want   string
	}{
		{"none", nil, nil, "text", 0, "NetBox and the Services agree.\n"},
		{"none in JSON", nil, nil, "json", 0, "[]\n"},
		{"one", []ipam.Finding{orphan}, nil, "text", exitDifferences, "KIND    SERVICE      ADDRESS      DETAIL\norphan  default/web  203.0.113.1  nobody has it\n"},
		{"one in JSON", []ipam.Finding{orphan}, nil, "json", exitDifferences, "[\n  {\n    \"kind\": \"orphan\",\n    \"service\": \"default/web\",\n    \"address\": \"203.0.113.1\",\n    \"claim\": \"lab/default/web/ipv4\",\n    \"detail\": \"nobody has it\"\n  }\n]\n"},
		{"unknown", nil, errors.New("NetBox is away"), "text", exitUnknown, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newHarness(t)
			o := &auditOptions{lookOptions: lookOptions{cloudConfig: d.config("lab", "admin"), kubeconfig: d.cluster(""), output: tt.output},
				audit: func(context.Context, *cloud.Config, *rest.Config) ([]ipam.Finding, error) {
					return tt.found, tt.err
				}}
			cmd := newNetBoxAuditCommand()
			var out strings.Builder
			cmd.SetOut(&out)
			err := o.run(t.Context(), cmd)
			code := 0
			if err != nil {
				code = exitCode(err)
			}
			if out.String() != tt.want || code != tt.code {
				t.Errorf("exit code %d (%v), want %d, and\n%s\nwant\n%s", code, err, tt.code, out.String(), tt.want)
			}
			if printed := errors.As(err, new(printedError)); printed != (tt.code == exitDifferences) {
				t.Errorf("printed already: %t", printed)
			}
		})
	}
}

// TestNetBoxAuditForReal compares a NetBox with a cluster that has no Services.
func TestNetBoxAuditForReal(t *testing.T) {
	d := newHarness(t)
	if _, err := d.init("--out", d.path("token")); err != nil {
		t.Fatal(err)
	}
	audit := func() (string, error) {
		return run(t, "netbox", "audit", "--cloud-config", d.config("lab", "token"), "--kubeconfig", d.cluster(poolPublic))
	}
	if out, err := audit(); err != nil || out != "NetBox and the Services agree.\n" {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := d.srv.WriteBehindBack(map[string]any{"address": "203.0.113.9/32", "custom_fields": map[string]any{
		schema.FieldClaim: "lab/default/web/ipv4", schema.FieldCluster: "lab", schema.FieldClusterUID: "uid-1", schema.FieldServiceUID: "uid-2",
	}}); err != nil {
		t.Fatal(err)
	}
	out, err := audit()
	if err == nil || exitCode(err) != exitDifferences || !strings.Contains(out, "orphan  default/web  203.0.113.9  ") {
		t.Errorf("%v\n%s", err, out)
	}
	if n := len(d.srv.Addresses()); n != 1 {
		t.Errorf("%d addresses afterwards: audit changes nothing", n)
	}
	d.srv.Inject(netboxtest.Fault{Status: http.StatusBadGateway})
	if out, err := audit(); err == nil || exitCode(err) != exitUnknown || out != "" || strings.Contains(err.Error(), "\n") {
		t.Errorf("without NetBox: %v\n%s", err, out)
	}
}

func TestNetBoxHelp(t *testing.T) {
	for _, args := range [][]string{{"netbox"}, {"netbox", "--help"}, {"netbox", "init", "--help"}, {"netbox", "check", "--help"}, {"netbox", "audit", "--help"}} {
		out, err := run(t, args...)
		if err != nil || strings.Contains(out, "--leader-elect") || !strings.Contains(out, "Usage:") {
			t.Errorf("%q: %v\n%s", args, err, out)
		}
	}
}
