// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/cloud"
)

// decoder decodes every kind that the files hold, strictly: an unknown or a
// doubled field is a mistake.
func decoder(t *testing.T) runtime.Decoder {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientscheme.AddToScheme, apiextensionsv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
}

// load decodes every object of the YAML files that pattern matches.
func load(t *testing.T, pattern string) []runtime.Object {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no files match %s (%v)", pattern, err)
	}
	var objects []runtime.Object
	for _, file := range files {
		if filepath.Base(file) == "kustomization.yaml" {
			continue
		}
		got, err := loadFile(decoder(t), file)
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
		objects = append(objects, got...)
	}
	return objects
}

func loadFile(d runtime.Decoder, file string) ([]runtime.Object, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var objects []runtime.Object
	docs := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		if onlyComments(doc) {
			continue
		}
		obj, _, err := d.Decode(doc, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("object %d: %w", len(objects)+1, err)
		}
		objects = append(objects, obj)
	}
}

func onlyComments(doc []byte) bool {
	for line := range bytes.Lines(doc) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' && string(line) != "---" {
			return false
		}
	}
	return true
}

// all returns the objects of one type.
func all[T runtime.Object](objects []runtime.Object) []T {
	var out []T
	for _, obj := range objects {
		if typed, ok := obj.(T); ok {
			out = append(out, typed)
		}
	}
	return out
}

func TestExamples(t *testing.T) {
	objects := load(t, "examples/*.yaml")
	for _, svc := range all[*corev1.Service](objects) {
		if svc.Spec.LoadBalancerClass == nil {
			t.Errorf("Service %s names no class", svc.Name)
			continue
		}
		name, ours := v1alpha1.ClassName(*svc.Spec.LoadBalancerClass)
		if !ours || !slices.ContainsFunc(all[*v1alpha1.LoadBalancerClass](objects), func(c *v1alpha1.LoadBalancerClass) bool { return c.Name == name }) {
			t.Errorf("Service %s names class %s, of which there is no example", svc.Name, *svc.Spec.LoadBalancerClass)
		}
	}
	for _, kind := range []struct {
		name string
		n    int
	}{
		{"Service", len(all[*corev1.Service](objects))},
		{"LoadBalancerClass", len(all[*v1alpha1.LoadBalancerClass](objects))},
		{"AddressPool", len(all[*v1alpha1.AddressPool](objects))},
		{"BGPPeer", len(all[*v1alpha1.BGPPeer](objects))},
	} {
		if kind.n == 0 {
			t.Errorf("no example of a %s", kind.name)
		}
	}
}

// TestExampleConfig reads the example as the controller does, from the paths
// that the Deployment mounts it at.
func TestExampleConfig(t *testing.T) {
	objects := load(t, "examples/config.yaml")
	maps := all[*corev1.ConfigMap](objects)
	if len(maps) != 1 {
		t.Fatalf("%d ConfigMaps, want 1", len(maps))
	}
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(maps[0].Data["config.yaml"]), 0o600); err != nil {
		t.Fatal(err)
	}
	config, err := cloud.LoadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	if config.NetBox == nil || config.NetBox.TokenFile != "/etc/bm-ccm/netbox/token" {
		t.Errorf("netbox is %+v; the Deployment mounts the token at /etc/bm-ccm/netbox/token", config.NetBox)
	}
	pod := all[*appsv1.Deployment](load(t, "manifests/controller.yaml"))[0].Spec.Template.Spec
	sources := pod.Volumes[0].Projected.Sources
	if got := sources[0].ConfigMap.Name; got != maps[0].Name {
		t.Errorf("the Deployment mounts ConfigMap %s, the example is %s", got, maps[0].Name)
	}
	if got, want := sources[1].Secret.Name, all[*corev1.Secret](objects)[0].Name; got != want {
		t.Errorf("the Deployment mounts Secret %s, the example is %s", got, want)
	}
}

// TestKustomization holds the list of manifests complete.
func TestKustomization(t *testing.T) {
	data, err := os.ReadFile("manifests/kustomization.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var k struct {
		Resources []string `json:"resources"`
	}
	if err := yaml.Unmarshal(data, &k); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("manifests/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if base := filepath.Base(f); base != "kustomization.yaml" && !slices.Contains(k.Resources, base) {
			t.Errorf("%s is not in kustomization.yaml", f)
		}
	}
	if len(k.Resources) != len(files)-1 {
		t.Errorf("kustomization.yaml lists %d files, there are %d", len(k.Resources), len(files)-1)
	}
}

// TestBindings holds every binding to a role and an account that exist.
func TestBindings(t *testing.T) {
	objects := load(t, "manifests/*.yaml")
	known := map[string]bool{
		// Brought by Kubernetes.
		"Role/kube-system/extension-apiserver-authentication-reader": true,
	}
	for _, r := range all[*rbacv1.ClusterRole](objects) {
		known["ClusterRole//"+r.Name] = true
	}
	for _, r := range all[*rbacv1.Role](objects) {
		known["Role/"+r.Namespace+"/"+r.Name] = true
	}
	for _, s := range all[*corev1.ServiceAccount](objects) {
		known["ServiceAccount/"+s.Namespace+"/"+s.Name] = true
	}
	var wanted []string
	subjects := func(list []rbacv1.Subject) {
		for _, s := range list {
			wanted = append(wanted, s.Kind+"/"+s.Namespace+"/"+s.Name)
		}
	}
	for _, b := range all[*rbacv1.ClusterRoleBinding](objects) {
		wanted = append(wanted, b.RoleRef.Kind+"//"+b.RoleRef.Name)
		subjects(b.Subjects)
	}
	for _, b := range all[*rbacv1.RoleBinding](objects) {
		wanted = append(wanted, b.RoleRef.Kind+"/"+b.Namespace+"/"+b.RoleRef.Name)
		subjects(b.Subjects)
	}
	for _, d := range all[*appsv1.Deployment](objects) {
		wanted = append(wanted, "ServiceAccount/"+d.Namespace+"/"+d.Spec.Template.Spec.ServiceAccountName)
	}
	for _, d := range all[*appsv1.DaemonSet](objects) {
		wanted = append(wanted, "ServiceAccount/"+d.Namespace+"/"+d.Spec.Template.Spec.ServiceAccountName)
	}
	for _, w := range wanted {
		if !known[w] {
			t.Errorf("%s is bound or used but nowhere defined", w)
		}
	}
	if len(wanted) < 8 {
		t.Errorf("found only %d references: %q", len(wanted), wanted)
	}
}

// TestPrivileges names what nobody is granted: a wildcard, a Secret, deleting
// anything, and writing what belongs to the user.
func TestPrivileges(t *testing.T) {
	objects := load(t, "manifests/*.yaml")
	var rules []rbacv1.PolicyRule
	for _, r := range all[*rbacv1.ClusterRole](objects) {
		rules = append(rules, r.Rules...)
	}
	for _, r := range all[*rbacv1.Role](objects) {
		rules = append(rules, r.Rules...)
	}
	if len(rules) < 10 {
		t.Fatalf("found only %d rules", len(rules))
	}
	for _, rule := range rules {
		if problem := excess(rule); problem != "" {
			t.Errorf("%s: %v", problem, rule)
		}
	}
}

// excess says what a rule must not grant, or "".
func excess(rule rbacv1.PolicyRule) string {
	has := slices.Contains[[]string]
	writes := func(resource string) bool {
		return has(rule.Resources, resource) && slices.ContainsFunc(rule.Verbs, func(v string) bool { return v != "get" && v != "list" && v != "watch" })
	}
	switch joined := strings.Join(slices.Concat(rule.APIGroups, rule.Resources, rule.Verbs), " "); {
	case strings.Contains(joined, "*"):
		return "wildcard"
	case has(rule.Verbs, "delete"), has(rule.Verbs, "deletecollection"):
		return "deletes"
	case has(rule.Resources, "secrets"):
		return "reads Secrets"
	case writes("services"):
		return "writes the user's Services"
	case writes("loadbalancerclasses"), writes("addresspools"), writes("bgppeers"):
		return "writes the administrator's objects"
	}
	return ""
}

func TestExcess(t *testing.T) {
	tests := []struct {
		name, resource, verb, want string
	}{
		{name: "status", resource: "services/status", verb: "patch"},
		{name: "G6 spec", resource: "services", verb: "patch", want: "writes the user's Services"},
		{name: "G7 nodes", resource: "nodes", verb: "delete", want: "deletes"},
		{name: "secrets", resource: "secrets", verb: "get", want: "reads Secrets"},
		{name: "pools", resource: "addresspools", verb: "update", want: "writes the administrator's objects"},
		{name: "everything", resource: "*", verb: "get", want: "wildcard"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			rule := rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{tc.resource}, Verbs: []string{tc.verb}}
			if got := excess(rule); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// TestPods holds both workloads to an unprivileged process.
func TestPods(t *testing.T) {
	objects := load(t, "manifests/*.yaml")
	pods := map[string]corev1.PodSpec{}
	for _, d := range all[*appsv1.Deployment](objects) {
		pods[d.Name] = d.Spec.Template.Spec
	}
	for _, d := range all[*appsv1.DaemonSet](objects) {
		pods[d.Name] = d.Spec.Template.Spec
	}
	for _, name := range []string{"bm-ccm-controller", "bm-ccm-agent"} {
		pod, ok := pods[name]
		if !ok {
			t.Fatalf("no workload %s", name)
		}
		if !pod.HostNetwork || pod.DNSPolicy != corev1.DNSDefault {
			t.Errorf("%s would wait for the pod network or the cluster's DNS", name)
		}
		if !*pod.SecurityContext.RunAsNonRoot || pod.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
			t.Errorf("%s runs as root or without seccomp", name)
		}
		for _, c := range pod.Containers {
			s := c.SecurityContext
			if *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || !slices.Contains(s.Capabilities.Drop, "ALL") || len(s.Capabilities.Add) > 0 {
				t.Errorf("%s, container %s: more privileges than it needs", name, c.Name)
			}
		}
	}
	tolerations := pods["bm-ccm-controller"].Tolerations
	if !slices.ContainsFunc(tolerations, func(x corev1.Toleration) bool {
		return x.Key == "node.cloudprovider.kubernetes.io/uninitialized" && x.Operator == corev1.TolerationOpExists
	}) {
		t.Error("the controller does not tolerate the taint that only it removes")
	}
}
