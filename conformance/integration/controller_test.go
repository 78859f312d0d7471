// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/bm-ccm/bm-ccm/conformance/lab"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/netboxtest"
)

// What users do wrong and what breaks: each is told on the Service, with the
// fix, and every other Service goes on.
func TestBadInputAndOutages(t *testing.T) {
	e := newEnv(t, netboxtest.ClaimFields())
	t.Run("an example applies", func(t *testing.T) { e.with(t).examples() })
	t.Run("unknown class", func(t *testing.T) {
		e := e.with(t)
		e.service("unknown", "bm-ccm.io/nope")
		e.told("unknown", `there is no LoadBalancerClass "nope"`, "bm-ccm.io/inline, bm-ccm.io/netbox")
		e.apply("{apiVersion: bm-ccm.io/v1alpha1, kind: LoadBalancerClass, metadata: {name: nope}, spec: {pools: [netbox]}}")
		e.addressed("unknown")
	})
	t.Run("foreign class", func(t *testing.T) {
		e := e.with(t)
		e.service("foreign", "example.com/lb")
		e.service("none", "")
		e.service("ours", "bm-ccm.io/netbox")
		e.addressed("ours")
		for _, name := range []string{"foreign", "none"} {
			svc, err := e.kube.CoreV1().Services("default").Get(t.Context(), name, metav1.GetOptions{})
			if err != nil || len(svc.Finalizers) > 0 || len(svc.Status.LoadBalancer.Ingress) > 0 {
				t.Errorf("a Service of another provider was touched: %v %+v, %v", svc.Finalizers, svc.Status, err)
			}
		}
	})
	t.Run("pool full, until an address is freed", func(t *testing.T) {
		e := e.with(t)
		e.service("first", "bm-ccm.io/inline")
		e.service("second", "bm-ccm.io/inline")
		e.addressed("first")
		e.addressed("second")
		e.service("third", "bm-ccm.io/inline")
		e.told("third", `pool "inline": 0 of 2`, "192.0.2.0/31")
		e.remove("first")
		e.addressed("third")
	})
	t.Run("address outside the pools", func(t *testing.T) {
		e := e.with(t)
		e.service("outside", "bm-ccm.io/netbox", func(s *corev1.Service) { s.Annotations["bm-ccm.io/addresses"] = "10.9.8.7" })
		e.told("outside", "10.9.8.7 is in none of the pools")
	})
	t.Run("default class comes", func(t *testing.T) {
		e := e.with(t)
		e.apply("{apiVersion: bm-ccm.io/v1alpha1, kind: LoadBalancerClass, metadata: {name: nope}, spec: {pools: [netbox], default: true}}")
		e.addressed("none")
	})
	t.Run("wiped status", func(t *testing.T) {
		e := e.with(t)
		before := e.addressed("ours")
		if _, err := e.kube.CoreV1().Services("default").Patch(t.Context(), "ours", types.MergePatchType, []byte(`{"status":{"loadBalancer":null}}`), metav1.PatchOptions{}, "status"); err != nil {
			t.Fatal(err)
		}
		if after := e.addressed("ours"); after != before {
			t.Errorf("the address moved from %s to %s", before, after)
		}
	})
	for name, fault := range map[string]netboxtest.Fault{
		"refuses": {Status: http.StatusForbidden, Body: `{"detail":"You do not have permission to perform this action."}`},
		"html":    {HTMLBody: true, Status: http.StatusOK},
		"down":    {Reset: true},
	} {
		t.Run("NetBox "+name, func(t *testing.T) { e.with(t).outage(name, fault) })
	}
	t.Run("answer lost after the commit", func(t *testing.T) {
		e := e.with(t)
		remove := e.netbox.Inject(netboxtest.Fault{Method: http.MethodPost, Path: "available-ips", LoseAnswerAfterCommit: true, Times: 1})
		defer remove()
		e.service("lost", "bm-ccm.io/netbox")
		e.addressed("lost")
		if n := e.records()[cluster+"/default/lost/ipv4"]; n != 1 {
			t.Errorf("NetBox has %d records of the claim", n)
		}
	})
	t.Run("restart", func(t *testing.T) {
		e := e.with(t)
		before := e.addressed("ours")
		e.crash()
		e.remove("lost")
		e.start()
		e.gone("lost")
		if after := e.addressed("ours"); after != before {
			t.Errorf("the address moved from %s to %s", before, after)
		}
	})
}

// with lets helpers report to a subtest.
func (e *env) with(t *testing.T) *env {
	sub := *e
	sub.t = t
	return &sub
}

// outage breaks NetBox for a while: what is assigned stays, pools elsewhere
// work, and who waited catches up.
func (e *env) outage(name string, fault netboxtest.Fault) {
	e.t.Helper()
	before := e.addressed("ours")
	remove := e.netbox.Inject(fault)
	e.service("waits-"+name, "bm-ccm.io/netbox")
	e.told("waits-"+name, "NetBox")
	if after := e.addressed("ours"); after != before {
		e.t.Errorf("an assigned address moved from %s to %s", before, after)
	}
	// The pool tells of it too; its recovery wakes who waits.
	e.eventually(func(ctx context.Context) error { return e.poolSays(ctx, "netbox", "Ready", `"status":"False"`) })
	remove()
	e.addressed("waits-" + name)
	e.remove("waits-" + name)
	e.gone("waits-" + name)
}

// gone waits until a Service and its record are gone.
func (e *env) gone(name string) {
	e.t.Helper()
	e.eventually(func(ctx context.Context) error {
		if _, err := e.kube.CoreV1().Services("default").Get(ctx, name, metav1.GetOptions{}); err == nil {
			return fmt.Errorf("service %s is still there", name)
		}
		if n := e.records()[cluster+"/default/"+name+"/ipv4"]; n != 0 {
			return fmt.Errorf("NetBox still has %d records of %s", n, name)
		}
		return nil
	})
}

// examples applies what users are shown, for the API server to judge.
func (e *env) examples() {
	e.t.Helper()
	product, err := lab.ProductDir()
	if err != nil {
		e.t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(product, "deploy", "examples", "*.yaml"))
	if err != nil || len(files) == 0 {
		e.t.Fatal("no examples", err)
	}
	if _, err := e.Kubectl(e.t.Context(), "create", "namespace", "bm-ccm-system"); err != nil {
		e.t.Fatal(err)
	}
	slices.Sort(files)
	for _, f := range files {
		if _, err := e.Kubectl(e.t.Context(), "apply", "--dry-run=server", "-f", f); err != nil {
			e.t.Errorf("%s: %v", filepath.Base(f), err)
		}
	}
}

// A custom field with the wrong filter or without uniqueness would hand out
// addresses twice, so nothing is claimed until it is set right.
func TestWrongCustomField(t *testing.T) {
	fields := netboxtest.ClaimFields()
	fields[0].Unique = false
	fields[1].FilterLogic = "loose"
	e := newEnv(t, fields)
	e.service("web", "bm-ccm.io/netbox")
	e.told("web", "k8s_lb_claim", "unique")
	e.service("inline", "bm-ccm.io/inline")
	e.addressed("inline")
	if n := len(e.records()); n != 0 {
		t.Errorf("%d claims were made all the same", n)
	}
}
