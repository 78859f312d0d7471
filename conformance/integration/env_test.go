// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/bm-ccm/bm-ccm/conformance/lab"
	"github.com/bm-ccm/bm-ccm/conformance/lab/labtest"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/netboxtest"
)

const (
	cluster = "it"
	token   = "fedcba9876543210fedcba9876543210fedcba98"
	// patience is longer than the controller's longest wait for a retry.
	patience = 75 * time.Second
)

// env is a control plane, a NetBox and a running controller.
type env struct {
	*lab.ControlPlane
	t      *testing.T
	kube   kubernetes.Interface
	netbox *netboxtest.Server
	url    string
	binary string
	dir    string
	// kubeconfig is the controller's; empty means that of the control plane.
	kubeconfig string

	process *exec.Cmd
	log     *lockedBuffer
}

// lockedBuffer may be read while a process writes to it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newEnv starts everything; fields are NetBox's custom fields.
func newEnv(t *testing.T, fields []netboxtest.CustomField) *env {
	t.Helper()
	cp, err := lab.StartControlPlane(t.Context(), lab.ControlPlaneOptions{Log: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cp.Close(); err != nil {
			t.Error(err)
		}
	})
	e := &env{ControlPlane: cp, t: t, dir: t.TempDir(), log: &lockedBuffer{}}
	config, err := cp.AdminConfig()
	if err != nil {
		t.Fatal(err)
	}
	if e.kube, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	e.netbox = netboxtest.New(netboxtest.Options{Seed: &netboxtest.Seed{
		CustomFields: fields,
		Prefixes:     []netboxtest.SeedPrefix{{Prefix: "203.0.113.0/29"}, {Prefix: "198.51.100.0/24"}},
		Tokens: []netboxtest.Token{
			{User: "admin", Key: netboxtest.DefaultToken, Superuser: true},
			{User: "it", Key: token, Permissions: netboxtest.FencedPermissions(cluster)},
		},
	}})
	server := httptest.NewServer(e.netbox)
	t.Cleanup(server.Close)
	e.url = server.URL
	e.build()
	e.prepare()
	e.start()
	return e
}

// build builds the product; Go's cache makes that quick after the first time.
func (e *env) build() {
	e.t.Helper()
	product, err := lab.ProductDir()
	if err != nil {
		e.t.Fatal(err)
	}
	e.binary = filepath.Join(e.dir, "bm-ccm")
	cmd := exec.CommandContext(e.t.Context(), "go", "build", "-o", e.binary, "./cmd/bm-ccm")
	cmd.Dir = product
	if out, err := cmd.CombinedOutput(); err != nil {
		e.t.Fatalf("building bm-ccm: %v\n%s", err, out)
	}
	if err := e.ApplyPath(e.t.Context(), filepath.Join(product, "deploy", "crds")); err != nil {
		e.t.Fatal(err)
	}
	if _, err := e.Kubectl(e.t.Context(), "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"); err != nil {
		e.t.Fatal(err)
	}
}

// prepare creates a node and the classes and pools of the tests.
func (e *env) prepare() {
	e.t.Helper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: corev1.NodeSpec{ProviderID: "bm-ccm://node/n1"}}
	if _, err := e.kube.CoreV1().Nodes().Create(e.t.Context(), node, metav1.CreateOptions{}); err != nil {
		e.t.Fatal(err)
	}
	e.apply(`
apiVersion: bm-ccm.io/v1alpha1
kind: AddressPool
metadata: {name: netbox}
spec: {netbox: {prefixes: [{prefix: 203.0.113.0/29}]}}
---
apiVersion: bm-ccm.io/v1alpha1
kind: LoadBalancerClass
metadata: {name: netbox}
spec: {pools: [netbox]}
---
apiVersion: bm-ccm.io/v1alpha1
kind: AddressPool
metadata: {name: inline}
spec: {addresses: [192.0.2.0/31]}
---
apiVersion: bm-ccm.io/v1alpha1
kind: LoadBalancerClass
metadata: {name: inline}
spec: {pools: [inline]}
`)
	config := fmt.Sprintf("apiVersion: config.bm-ccm.io/v1alpha1\nkind: CloudConfig\nclusterName: %s\nnetbox: {url: %q, tokenFile: %q, timeout: 2s}\n",
		cluster, e.url, e.file("token"))
	e.write("token", token)
	e.write("config.yaml", config)
}

func (e *env) file(name string) string { return filepath.Join(e.dir, name) }

func (e *env) write(name, content string) {
	e.t.Helper()
	if err := os.WriteFile(e.file(name), []byte(content), 0o600); err != nil {
		e.t.Fatal(err)
	}
}

// start starts the controller; it is killed when the test ends.
func (e *env) start() {
	e.t.Helper()
	e.process = exec.Command(e.binary, "--kubeconfig="+cmp.Or(e.kubeconfig, e.Kubeconfig()), "--cloud-config="+e.file("config.yaml"), "--leader-elect=false", "--secure-port=0")
	e.process.Stdout, e.process.Stderr = e.log, e.log
	if err := e.process.Start(); err != nil {
		e.t.Fatal(err)
	}
	process := e.process
	e.t.Cleanup(func() {
		_ = process.Process.Kill() // it may have been stopped before
		_ = process.Wait()
	})
}

// crash ends the controller as a power cut would.
func (e *env) crash() {
	e.t.Helper()
	if err := e.process.Process.Kill(); err != nil {
		e.t.Fatal(err)
	}
	_ = e.process.Wait() // it says that it was killed
}

func (e *env) apply(manifests string) {
	e.t.Helper()
	if err := e.Apply(e.t.Context(), []byte(manifests)); err != nil {
		e.t.Fatal(err)
	}
}

// service creates a Service of a class; "" is none.
func (e *env) service(name, class string, edit ...func(*corev1.Service)) {
	e.t.Helper()
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{}},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}},
	}
	if class != "" {
		svc.Spec.LoadBalancerClass = &class
	}
	for _, f := range edit {
		f(svc)
	}
	if _, err := e.kube.CoreV1().Services("default").Create(e.t.Context(), svc, metav1.CreateOptions{}); err != nil {
		e.t.Fatal(err)
	}
}

func (e *env) remove(name string) {
	e.t.Helper()
	if err := e.kube.CoreV1().Services("default").Delete(e.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		e.t.Fatal(err)
	}
}

// ip is the address of a Service; "" for none.
func (e *env) ip(ctx context.Context, name string) (string, error) {
	svc, err := e.kube.CoreV1().Services("default").Get(ctx, name, metav1.GetOptions{})
	if err != nil || len(svc.Status.LoadBalancer.Ingress) == 0 {
		return "", err
	}
	return svc.Status.LoadBalancer.Ingress[0].IP, nil
}

// addressed waits for the address of a Service and returns it.
func (e *env) addressed(name string) string {
	e.t.Helper()
	var ip string
	e.eventually(func(ctx context.Context) error {
		var err error
		if ip, err = e.ip(ctx, name); err == nil && ip == "" {
			err = fmt.Errorf("no address for Service %s", name)
		}
		return err
	})
	return ip
}

// told waits for a Warning Event on a Service whose text has all the parts.
func (e *env) told(name string, parts ...string) {
	e.t.Helper()
	e.eventually(func(ctx context.Context) error {
		list, err := e.kube.CoreV1().Events("default").List(ctx, metav1.ListOptions{FieldSelector: "type=Warning,involvedObject.kind=Service,involvedObject.name=" + name})
		if err != nil {
			return err
		}
		var texts []string
		for _, event := range list.Items {
			if containsAll(event.Message, parts) {
				return nil
			}
			texts = append(texts, event.Message)
		}
		return fmt.Errorf("no Event of Service %s has %q, only: %q", name, parts, texts)
	})
}

func containsAll(s string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}

// eventually fails the test with the controller's log when it gives up.
func (e *env) eventually(try func(context.Context) error) {
	e.t.Helper()
	defer func() {
		if e.t.Failed() {
			log := e.log.String()
			e.t.Logf("the end of the controller's log:\n%s", log[max(0, len(log)-3000):])
		}
	}()
	labtest.Eventually(e.t, patience, try)
}

// records returns the claims that NetBox holds, key to number of addresses.
func (e *env) records() map[string]int {
	out := map[string]int{}
	for _, a := range e.netbox.Addresses() {
		if key, _ := a.CustomFields["k8s_lb_claim"].(string); key != "" {
			out[key]++
		}
	}
	return out
}
