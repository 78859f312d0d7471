// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/bm-ccm/bm-ccm/pkg/netbox/netboxtest"
)

const addressConflict = "bm-ccm.io/AddressConflict"

// What Services share and leave behind, and what an engineer changes in NetBox.
func TestSharedRetainedAndMoved(t *testing.T) {
	e := newEnv(t, netboxtest.ClaimFields())
	e.apply(`
apiVersion: bm-ccm.io/v1alpha1
kind: AddressPool
metadata: {name: big}
spec: {netbox: {prefixes: [{prefix: 198.51.100.0/24}]}}
---
apiVersion: bm-ccm.io/v1alpha1
kind: LoadBalancerClass
metadata: {name: big}
spec: {pools: [big]}
`)
	t.Run("sharing", func(t *testing.T) { e.with(t).sharing() })
	t.Run("retain", func(t *testing.T) { e.with(t).retain() })
	// A controller that is started in a subtest ends with it: these are none.
	e.moved()
	e.duplicated()
	e.restartIsQuiet()
	e.defaultGoes()
}

func annotate(key, value string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Annotations["bm-ccm.io/"+key] = value }
}

func port(n int32) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.Ports[0].Port = n }
}

func (e *env) sharing() {
	e.t.Helper()
	key := annotate("sharing-key", "front")
	e.service("share-a", "bm-ccm.io/big", key, port(80))
	shared := e.addressed("share-a")
	e.service("share-b", "bm-ccm.io/big", key, port(443))
	if ip := e.addressed("share-b"); ip != shared {
		e.t.Errorf("share-a has %s, share-b %s", shared, ip)
	}
	e.service("share-c", "bm-ccm.io/big", key, port(80))
	e.told("share-c", `cannot share "front" with Service "share-a": both have port TCP/80`)
	e.remove("share-a")
	if ip := e.addressed("share-c"); ip != shared {
		e.t.Errorf("share-c took the place of share-a and has %s, not %s", ip, shared)
	}
	// One leaves, the last one takes the address along.
	e.patch("share-b", `{"metadata":{"annotations":{"bm-ccm.io/sharing-key":null}}}`)
	e.eventually(func(ctx context.Context) error {
		if ip, err := e.ip(ctx, "share-b"); err != nil || ip == shared {
			return fmt.Errorf("share-b still has %s (%w)", ip, err)
		}
		return nil
	})
	e.patch("share-c", `{"metadata":{"annotations":{"bm-ccm.io/sharing-key":null}}}`)
	e.eventually(func(context.Context) error {
		if records := e.records(); records[cluster+"/default/share-c/ipv4"] != 1 || records[cluster+"/default/+front/ipv4"] != 0 {
			return fmt.Errorf("records: %v", records)
		}
		return nil
	})
	if ip := e.addressed("share-c"); ip != shared {
		e.t.Errorf("the last one to leave has %s, not %s", ip, shared)
	}
	for _, name := range []string{"share-b", "share-c"} {
		e.remove(name)
		e.gone(name)
	}
}

func (e *env) retain() {
	e.t.Helper()
	e.service("kept", "bm-ccm.io/big", annotate("retain", "true"), annotate("hostname", "Kept.example.org"))
	before := e.addressed("kept")
	e.remove("kept")
	e.eventually(func(ctx context.Context) error {
		if _, err := e.kube.CoreV1().Services("default").Get(ctx, "kept", metav1.GetOptions{}); err == nil {
			return fmt.Errorf("service kept is still there")
		}
		return nil
	})
	if a := e.recordOf(before); a.Status != "reserved" || a.DNSName != "kept.example.org" {
		e.t.Errorf("NetBox has %+v", a)
	}
	e.service("another", "bm-ccm.io/big")
	if ip := e.addressed("another"); ip == before {
		e.t.Error("a retained address was given to another Service")
	}
	e.service("kept", "bm-ccm.io/big")
	if ip := e.addressed("kept"); ip != before {
		e.t.Errorf("the Service came back to %s, not %s", ip, before)
	}
	e.remove("kept")
	e.gone("kept")
}

func (e *env) moved() {
	e.t.Helper()
	before := e.addressed("another")
	claim := cluster + "/default/another/ipv4"
	e.behind(map[string]any{"id": e.recordOf(before).ID, "custom_fields": map[string]any{"k8s_lb_claim": nil}})
	e.behind(map[string]any{"address": "198.51.100.99/32", "custom_fields": map[string]any{"k8s_lb_claim": claim, "k8s_cluster": cluster}})
	e.crash()
	e.start()
	e.conditioned("another", metav1.ConditionTrue, "MovedInNetBox", before, "198.51.100.99")
	e.told("another", "198.51.100.99")
	if ip := e.addressed("another"); ip != before {
		e.t.Errorf("the address moved from %s to %s by itself", before, ip)
	}
	e.patch("another", `{"metadata":{"annotations":{"bm-ccm.io/addresses":"198.51.100.99"}}}`)
	e.conditioned("another", metav1.ConditionFalse, "Resolved", "")
	if ip := e.addressed("another"); ip != "198.51.100.99" {
		e.t.Errorf("the user agreed, but the address is %s", ip)
	}
	// Until then the address in use had a record of its own.
	e.eventually(func(context.Context) error {
		for _, a := range e.netbox.Addresses() {
			if strings.HasPrefix(a.Address, before+"/") {
				return fmt.Errorf("NetBox still has %+v", a)
			}
		}
		return nil
	})
}

// poolSays returns nil once a condition of a pool has some texts.
func (e *env) poolSays(ctx context.Context, pool, condition string, parts ...string) error {
	out, err := e.Kubectl(ctx, "get", "addresspool", pool, "-o", fmt.Sprintf("jsonpath={.status.conditions[?(@.type==%q)]}", condition))
	if err != nil {
		return err
	}
	if !containsAll(out, parts) {
		return fmt.Errorf("pool %s says %q", pool, out)
	}
	return nil
}

func (e *env) duplicated() {
	e.t.Helper()
	e.behind(map[string]any{"address": "198.51.100.99/32", "description": "by hand"})
	e.crash()
	e.start()
	e.conditioned("another", metav1.ConditionTrue, "DuplicateAddress", "198.51.100.99 several times")
	e.eventually(func(ctx context.Context) error {
		return e.poolSays(ctx, "big", "Conflict", `"status":"True"`, "198.51.100.99 several times")
	})
	if ip := e.addressed("another"); ip != "198.51.100.99" {
		e.t.Errorf("the address became %s", ip)
	}
}

// restartIsQuiet compares all that the controller could write.
func (e *env) restartIsQuiet() {
	e.t.Helper()
	before := e.versions()
	e.crash()
	e.start()
	e.service("after", "bm-ccm.io/big") // once it is served, so have been the others
	e.addressed("after")
	e.remove("after")
	e.gone("after")
	after := e.versions()
	for name, version := range before {
		if after[name] != version {
			e.t.Errorf("%s was written: version %s became %s", name, version, after[name])
		}
	}
}

// versions returns the resourceVersions of all Services.
func (e *env) versions() map[string]string {
	e.t.Helper()
	list, err := e.kube.CoreV1().Services(metav1.NamespaceAll).List(e.t.Context(), metav1.ListOptions{})
	if err != nil {
		e.t.Fatal(err)
	}
	out := map[string]string{}
	for _, svc := range list.Items {
		out[svc.Namespace+"/"+svc.Name] = svc.ResourceVersion
	}
	return out
}

func (e *env) defaultGoes() {
	e.t.Helper()
	class := "{apiVersion: bm-ccm.io/v1alpha1, kind: LoadBalancerClass, metadata: {name: big}, spec: {pools: [big], default: %v}}"
	e.apply(fmt.Sprintf(class, true))
	e.service("classless", "")
	before := e.addressed("classless")
	e.apply(fmt.Sprintf(class, false))
	e.service("classless-later", "")
	e.crash()
	e.start()
	e.service("named", "bm-ccm.io/big")
	e.addressed("named")
	if ip := e.addressed("classless"); ip != before {
		e.t.Errorf("the address moved from %s to %s", before, ip)
	}
	if ip, err := e.ip(e.t.Context(), "classless-later"); err != nil || ip != "" {
		e.t.Errorf("a Service of no class has %q, %v", ip, err)
	}
	e.remove("classless")
	e.gone("classless")
}

func (e *env) patch(name, data string) {
	e.t.Helper()
	if _, err := e.kube.CoreV1().Services("default").Patch(e.t.Context(), name, types.MergePatchType, []byte(data), metav1.PatchOptions{}); err != nil {
		e.t.Fatal(err)
	}
}

// behind writes to NetBox as its web interface does.
func (e *env) behind(data map[string]any) {
	e.t.Helper()
	if _, err := e.netbox.WriteBehindBack(data); err != nil {
		e.t.Fatal(err)
	}
}

// recordOf returns what NetBox has at an address.
func (e *env) recordOf(ip string) netboxtest.Address {
	e.t.Helper()
	for _, a := range e.netbox.Addresses() {
		if p, err := netip.ParsePrefix(a.Address); err == nil && p.Addr().String() == ip {
			return a
		}
	}
	e.t.Fatalf("NetBox does not have %s", ip)
	return netboxtest.Address{}
}

// conditioned waits for the condition AddressConflict of a Service.
func (e *env) conditioned(name string, status metav1.ConditionStatus, reason string, parts ...string) {
	e.t.Helper()
	e.eventually(func(ctx context.Context) error {
		svc, err := e.kube.CoreV1().Services("default").Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		c := meta.FindStatusCondition(svc.Status.Conditions, addressConflict)
		if c == nil || c.Status != status || c.Reason != reason || !containsAll(c.Message, parts) {
			text, err := json.Marshal(svc.Status)
			return fmt.Errorf("the status is %s (%w)", text, err)
		}
		return nil
	})
}
