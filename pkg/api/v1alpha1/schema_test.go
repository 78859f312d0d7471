// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"
)

const crdDir = "../../../deploy/crds"

// loadCRDs reads the generated definitions, as the API server does: decoded
// strictly, defaulted, converted to the internal version.
func loadCRDs(t *testing.T) map[string]*apiextensions.CustomResourceDefinition {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(crdDir, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no CRDs in %s (%v): run make generate", crdDir, err)
	}
	crds := map[string]*apiextensions.CustomResourceDefinition{} // by kind
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		v1 := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict(data, v1); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		apiextensionsv1.SetDefaults_CustomResourceDefinition(v1)
		apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&v1.Spec)
		crd := &apiextensions.CustomResourceDefinition{}
		if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(v1, crd, nil); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		crd.Status.StoredVersions = []string{"v1alpha1"}
		crds[crd.Spec.Names.Kind] = crd
	}
	return crds
}

// TestDefinitions holds the CRDs to what the API server accepts: a structural
// schema, valid defaults, CEL rules that compile and stay within their cost.
func TestDefinitions(t *testing.T) {
	crds := loadCRDs(t)
	for _, kind := range []string{"LoadBalancerClass", "AddressPool", "BGPPeer", "NodeAnnouncement"} {
		crd := crds[kind]
		if crd == nil {
			t.Errorf("no CRD of kind %s", kind)
			continue
		}
		for _, err := range crdvalidation.ValidateCustomResourceDefinition(t.Context(), crd) {
			t.Errorf("%s: %v", kind, err)
		}
		if crd.Spec.Scope != apiextensions.ClusterScoped {
			t.Errorf("%s: scope %s, want Cluster", kind, crd.Spec.Scope)
		}
		if len(crd.Spec.Names.ShortNames) == 0 {
			t.Errorf("%s: no short name", kind)
		}
	}
}

// schema does with an object what the API server does on creation.
type schema struct {
	structural *structuralschema.Structural
	openapi    validation.SchemaValidator
	rules      *cel.Validator
}

func newSchema(t *testing.T, crd *apiextensions.CustomResourceDefinition) *schema {
	t.Helper()
	props := crd.Spec.Validation // one version: the conversion hoists its schema
	if props == nil {
		props = crd.Spec.Versions[0].Schema
	}
	structural, err := structuralschema.NewStructural(props.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	openapi, _, err := validation.NewSchemaValidator(props.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	return &schema{
		structural: structural,
		openapi:    openapi,
		rules:      cel.NewValidator(structural, true, celconfig.PerCallLimit),
	}
}

// check defaults obj and returns what is wrong with it.
func (s *schema) check(ctx context.Context, obj map[string]any) field.ErrorList {
	var errs field.ErrorList
	opts := structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}
	for _, unknown := range pruning.PruneWithOptions(obj, s.structural, true, opts) {
		errs = append(errs, field.Forbidden(field.NewPath(unknown), "unknown field"))
	}
	defaulting.PruneNonNullableNullsWithoutDefaults(obj, s.structural)
	defaulting.Default(obj, s.structural)
	errs = append(errs, validation.ValidateCustomResource(nil, obj, s.openapi)...)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, s.structural, obj)...)
	ruled, _ := s.rules.Validate(ctx, nil, s.structural, obj, nil, celconfig.RuntimeCELCostBudget)
	return append(errs, ruled...)
}

func object(t *testing.T, kind, body string) map[string]any {
	t.Helper()
	src := fmt.Sprintf("apiVersion: bm-ccm.io/v1alpha1\nkind: %s\n%s", kind, body)
	if !strings.Contains(body, "metadata:") {
		src += "\nmetadata: {name: x}"
	}
	obj := &unstructured.Unstructured{}
	if err := yaml.UnmarshalStrict([]byte(src), &obj.Object); err != nil {
		t.Fatalf("%v in:\n%s", err, src)
	}
	return normalise(obj.Object).(map[string]any)
}

// normalise turns whole float64 numbers into int64, which is how the API server
// decodes them.
func normalise(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = normalise(v[k])
		}
	case []any:
		for i := range v {
			v[i] = normalise(v[i])
		}
	case float64:
		if v == float64(int64(v)) {
			return int64(v)
		}
	}
	return v
}

func check(t *testing.T, kind, body string) (map[string]any, field.ErrorList) {
	t.Helper()
	crd := loadCRDs(t)[kind]
	if crd == nil {
		t.Fatalf("no CRD of kind %s", kind)
	}
	obj := object(t, kind, body)
	return obj, newSchema(t, crd).check(t.Context(), obj)
}

// TestAccepted lists specs that must be accepted.
func TestAccepted(t *testing.T) {
	for _, tc := range acceptedSpecs {
		t.Run(tc.kind+"/"+tc.name, func(t *testing.T) {
			if _, errs := check(t, tc.kind, tc.body); len(errs) > 0 {
				t.Errorf("rejected: %v", errs.ToAggregate())
			}
		})
	}
}

// TestRejected lists mistakes and the whole answer that users get to them.
func TestRejected(t *testing.T) {
	for _, tc := range rejectedSpecs {
		t.Run(tc.kind+"/"+tc.name, func(t *testing.T) {
			_, errs := check(t, tc.kind, tc.body)
			var got []string
			for _, err := range errs {
				got = append(got, err.Error())
			}
			if strings.Join(got, "\n") != strings.Join(tc.want, "\n") {
				t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(tc.want, "\n"))
			}
		})
	}
}

// TestDefaults names the defaults that users rely on.
func TestDefaults(t *testing.T) {
	tests := []struct {
		kind, body string
		path       []string
		want       any
	}{
		{"AddressPool", "spec: {addresses: [192.0.2.0/24]}", []string{"spec", "autoAssign"}, true},
		{"BGPPeer", "spec: {address: 192.0.2.1, peerASN: 1, localASN: 2}", []string{"spec", "port"}, int64(179)},
		{"BGPPeer", "spec: {address: 192.0.2.1, peerASN: 1, localASN: 2}", []string{"spec", "holdTimeSeconds"}, int64(90)},
	}
	for _, tc := range tests {
		t.Run(tc.kind+"."+strings.Join(tc.path, "."), func(t *testing.T) {
			obj, errs := check(t, tc.kind, tc.body)
			if len(errs) > 0 {
				t.Fatal(errs.ToAggregate())
			}
			got, found, err := unstructured.NestedFieldNoCopy(obj, tc.path...)
			if err != nil || !found || got != tc.want {
				t.Errorf("got %v (found %t, %v), want %v", got, found, err, tc.want)
			}
		})
	}
}
