// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/bm-ccm/bm-ccm/conformance/lab"
	"github.com/bm-ccm/bm-ccm/conformance/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/netboxtest"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/schema"
)

const (
	cluster   = "crash"
	namespace = "default"
	v4Prefix  = "198.51.100.0/24"
	v6Prefix  = "2001:db8:7::/120"
	// timeout is the controller's for a request to NetBox.
	timeout = time.Second
	token   = "fedcba9876543210fedcba9876543210fedcba98"
)

const (
	// envNetBox set to "real" makes the tests run against a real NetBox.
	envNetBox = "NETBOX"
	// envLog names a file for the controller's log.
	envLog = "CRASH_LOG"
)

// harness is a control plane, a NetBox, a proxy before each, and the controller.
type harness struct {
	t    *testing.T
	kube kubernetes.Interface
	dir  string

	// store is NetBox itself, for the tests to look into.
	store  netbox.Target
	memory *netboxtest.Server // nil where NetBox is real
	token  string             // the controller's

	blade    *guillotine
	api, ipx *proxy
	binary   string
	args     []string

	controller *controller
}

// controller is the one that runs, if any.
type controller struct {
	mu      sync.Mutex
	process *process
	starts  int
	births  chan func()
}

// parent calls start on a thread that lives as long as this process: a
// controller must not outlive a test that panics, and the kernel takes the
// thread for its parent.
func (c *controller) parent(start func() error) error {
	if c.births == nil {
		c.births = make(chan func())
		go func() {
			runtime.LockOSThread()
			for birth := range c.births {
				birth()
			}
		}()
	}
	done := make(chan error)
	c.births <- func() { done <- start() }
	return <-done
}

// process is a running controller.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

func newHarness(t *testing.T) *harness {
	t.Helper()
	w := &harness{t: t, dir: t.TempDir(), controller: &controller{}}
	w.blade = &guillotine{kill: w.controller.kill, left: -1}
	w.startNetBox()
	cp, err := lab.StartControlPlane(t.Context(), lab.ControlPlaneOptions{Log: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cp.Close(); err != nil {
			t.Error(err)
		}
	})
	config, err := cp.AdminConfig()
	if err != nil {
		t.Fatal(err)
	}
	if w.kube, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	rt, err := rest.TransportFor(config)
	if err != nil {
		t.Fatal(err)
	}
	w.api = newProxy(t, "Kubernetes", config.Host, rt, w.blade, writesOnServices)
	w.install(cp)
	w.configure(cp)
	t.Cleanup(w.controller.kill)
	t.Cleanup(w.showLog)
	return w
}

// startNetBox starts the NetBox that the environment asks for.
func (w *harness) startNetBox() {
	w.t.Helper()
	if os.Getenv(envNetBox) == "real" {
		w.startRealNetBox()
	} else {
		w.memory = netboxtest.New(netboxtest.Options{Seed: &netboxtest.Seed{
			ClaimFields: true,
			Prefixes:    []netboxtest.SeedPrefix{{Prefix: v4Prefix}, {Prefix: v6Prefix}},
			Tokens: []netboxtest.Token{
				{User: "admin", Key: netboxtest.DefaultToken, Superuser: true},
				{User: "crash", Key: token, Permissions: netboxtest.FencedPermissions(cluster)},
			},
		}})
		server := httptest.NewServer(w.memory)
		w.t.Cleanup(server.Close)
		w.store, w.token = netbox.Target{URL: server.URL, Token: netboxtest.DefaultToken, Client: server.Client()}, token
	}
	w.ipx = newProxy(w.t, "NetBox", w.store.URL, w.store.Client.Transport, w.blade, writes)
	w.ipx.patience = timeout
}

func (w *harness) startRealNetBox() {
	w.t.Helper()
	server, err := netbox.Start(w.t.Context(), netbox.Options{Dir: filepath.Join(w.dir, "netbox"), Log: w.t.Output()})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			w.t.Error(err)
		}
	})
	w.store = server.Target()
	seeded, err := netbox.Seed(w.t.Context(), w.store, netbox.Spec{Cluster: cluster, Prefixes: []netbox.Prefix{
		{CIDR: netip.MustParsePrefix(v4Prefix)}, {CIDR: netip.MustParsePrefix(v6Prefix)},
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.token = seeded.Token
}

// built is the product, built once for all tests.
var built struct {
	once   sync.Once
	folder string
	err    error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if err := os.RemoveAll(built.folder); err != nil {
		fmt.Fprintln(os.Stderr, "removing the product:", err)
	}
	os.Exit(code)
}

// build builds the product; Go's cache makes that quick after the first time.
func build(product string) (string, error) {
	built.once.Do(func() {
		if built.folder, built.err = os.MkdirTemp("", "bm-ccm-crash-"); built.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-o", built.folder, "./cmd/bm-ccm")
		cmd.Dir = product
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("building bm-ccm: %w\n%s", err, out)
		}
	})
	return filepath.Join(built.folder, "bm-ccm"), built.err
}

// install builds the product and makes its types known.
func (w *harness) install(cp *lab.ControlPlane) {
	w.t.Helper()
	product, err := lab.ProductDir()
	if err != nil {
		w.t.Fatal(err)
	}
	if w.binary, err = build(product); err != nil {
		w.t.Fatal(err)
	}
	if err := cp.ApplyPath(w.t.Context(), filepath.Join(product, "deploy", "crds")); err != nil {
		w.t.Fatal(err)
	}
	if _, err := cp.Kubectl(w.t.Context(), "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"); err != nil {
		w.t.Fatal(err)
	}
}

const manifests = `
apiVersion: bm-ccm.io/v1alpha1
kind: AddressPool
metadata: {name: crash}
spec: {netbox: {prefixes: [{prefix: ` + v4Prefix + `}, {prefix: "` + v6Prefix + `"}]}}
---
apiVersion: bm-ccm.io/v1alpha1
kind: LoadBalancerClass
metadata: {name: crash}
spec: {pools: [crash]}
`

// configure writes the controller's files and what it works on.
func (w *harness) configure(cp *lab.ControlPlane) {
	w.t.Helper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: corev1.NodeSpec{ProviderID: "bm-ccm://node/n1"}}
	if _, err := w.kube.CoreV1().Nodes().Create(w.t.Context(), node, metav1.CreateOptions{}); err != nil {
		w.t.Fatal(err)
	}
	if err := cp.Apply(w.t.Context(), []byte(manifests)); err != nil {
		w.t.Fatal(err)
	}
	kubeconfig := clientcmdapi.NewConfig()
	kubeconfig.Clusters["proxy"] = &clientcmdapi.Cluster{Server: w.api.url}
	kubeconfig.AuthInfos["nobody"] = &clientcmdapi.AuthInfo{}
	kubeconfig.Contexts["proxy"] = &clientcmdapi.Context{Cluster: "proxy", AuthInfo: "nobody"}
	kubeconfig.CurrentContext = "proxy"
	if err := clientcmd.WriteToFile(*kubeconfig, w.file("kubeconfig")); err != nil {
		w.t.Fatal(err)
	}
	w.write("token", w.token)
	w.write("config.yaml", fmt.Sprintf("apiVersion: config.bm-ccm.io/v1alpha1\nkind: CloudConfig\nclusterName: %s\nnetbox: {url: %q, tokenFile: %q, timeout: %s}\n",
		cluster, w.ipx.url, w.file("token"), timeout))
	w.args = []string{"--kubeconfig=" + w.file("kubeconfig"), "--cloud-config=" + w.file("config.yaml"), "--leader-elect=false", "--secure-port=0"}
}

func (w *harness) file(name string) string { return filepath.Join(w.dir, name) }

func (w *harness) write(name, content string) {
	w.t.Helper()
	if err := os.WriteFile(w.file(name), []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// start starts the controller unless it runs.
func (w *harness) start() {
	w.t.Helper()
	c := w.controller
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != nil && c.process.alive() {
		return
	}
	log, err := os.OpenFile(w.file("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		w.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(w.binary, w.args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.parent(cmd.Start); err != nil {
		w.t.Fatal(err)
	}
	p := &process{cmd: cmd, ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // it says that it was killed
		close(p.ended)
	}()
	c.process = p
	c.starts++
}

func (p *process) alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// running reports whether the controller runs.
func (c *controller) running() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.process != nil && c.process.alive()
}

// kill ends the controller as a power cut would.
func (c *controller) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == nil {
		return
	}
	_ = c.process.cmd.Process.Kill() // it may be dead already
	<-c.process.ended
}

// pid is the process id of the controller.
func (c *controller) pid() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.process.cmd.Process.Pid
}

// log is what the controllers have printed.
func (w *harness) log() string {
	b, err := os.ReadFile(w.file("log"))
	if err != nil && !os.IsNotExist(err) {
		w.t.Error(err)
	}
	return string(b)
}

func (w *harness) showLog() {
	if keep := os.Getenv(envLog); keep != "" {
		if err := os.WriteFile(keep, []byte(w.log()), 0o600); err != nil {
			w.t.Error(err)
		}
	}
	if !w.t.Failed() {
		return
	}
	log := w.log()
	w.t.Logf("the end of the controller's log:\n%s", log[max(0, len(log)-4000):])
	if w.memory == nil {
		return
	}
	var asked []string
	for _, r := range w.memory.Requests() {
		if r.Query != recordsQuery {
			asked = append(asked, fmt.Sprintf("%s %s?%s %s -> %d", r.Method, r.Path, r.Query, r.Body, r.Status))
		}
	}
	w.t.Logf("the last requests to NetBox:\n%s", strings.Join(asked[max(0, len(asked)-30):], "\n"))
}

// record is an address in NetBox.
type record struct {
	ID      int64             `json:"id"`
	Address string            `json:"address"`
	Fields  map[string]string `json:"-"`
	Raw     map[string]any    `json:"custom_fields"`
}

func (r record) String() string {
	return fmt.Sprintf("%s (NetBox address %d, claim %q, Service UID %q)", r.Address, r.ID, r.Fields[schema.FieldClaim], r.Fields[schema.FieldServiceUID])
}

func (r record) addr() netip.Addr {
	p, err := netip.ParsePrefix(r.Address)
	if err != nil {
		return netip.Addr{}
	}
	return p.Addr()
}

// recordsQuery is what records asks for, unlike any query of the controller's.
const recordsQuery = "limit=1000&fields=id,address,custom_fields"

// records reads all addresses from NetBox, past the proxy.
func (w *harness) records(ctx context.Context) ([]record, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.store.URL+"/api/ipam/ip-addresses/?"+recordsQuery, nil)
	if err != nil {
		return nil, err
	}
	keyword := "Token "
	if strings.HasPrefix(w.store.Token, "nbt_") {
		keyword = "Bearer "
	}
	req.Header.Set("Authorization", keyword+w.store.Token)
	res, err := w.store.Client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var page struct {
		Count   int      `json:"count"`
		Results []record `json:"results"`
	}
	if err := json.NewDecoder(res.Body).Decode(&page); err != nil || res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("listing NetBox's addresses: %s, %w", res.Status, err)
	}
	if page.Count != len(page.Results) {
		return nil, fmt.Errorf("NetBox has %d addresses and listed %d", page.Count, len(page.Results))
	}
	for i := range page.Results {
		r := &page.Results[i]
		r.Fields = map[string]string{}
		for name, v := range r.Raw {
			r.Fields[name], _ = v.(string)
		}
	}
	slices.SortFunc(page.Results, func(a, b record) int { return int(a.ID - b.ID) })
	return page.Results, nil
}
