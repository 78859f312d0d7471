// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/controllers/service"
	"k8s.io/cloud-provider/fake"
	"k8s.io/component-base/featuregate"
	controllersmetrics "k8s.io/component-base/metrics/prometheus/controllers"

	"github.com/bm-ccm/bm-ccm/conformance/lab"
)

const (
	patience = 5 * time.Minute
	// quiet is how long no write must be seen for a restart to count as over.
	quiet = 3 * time.Second
)

// result is one backlog worked off.
type result struct {
	rate             float64 // Services per second
	writesPerService float64
}

// restarted is what a restart cost.
type restarted struct {
	writes float64
	ready  time.Duration
}

// cluster is an API server with a client.
type cluster struct {
	*lab.ControlPlane
	client kubernetes.Interface
}

func startCluster(ctx context.Context) (*cluster, error) {
	cp, err := lab.StartControlPlane(ctx, lab.ControlPlaneOptions{Log: os.Stderr})
	if err != nil {
		return nil, err
	}
	config, err := cp.AdminConfig()
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	c := &cluster{cp, client}
	return c, c.createNode(ctx)
}

// createNode creates a node: without any, upstream warns at each Service.
func (c *cluster) createNode(ctx context.Context) error {
	node, err := c.client.CoreV1().Nodes().Create(ctx, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: corev1.NodeSpec{ProviderID: "bench://n1"},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("creating a node: %w", err)
	}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	if _, err := c.client.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("making the node ready: %w", err)
	}
	return nil
}

// createServices creates n Services of type LoadBalancer, eight at a time.
func (c *cluster) createServices(ctx context.Context, n int, class *string) error {
	numbers := make(chan int)
	errs := make(chan error, 8)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range numbers {
				if err := c.createService(ctx, fmt.Sprintf("s%05d", i), class); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	for i := range n {
		select {
		case numbers <- i:
		case err := <-errs:
			return err
		}
	}
	close(numbers)
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

func (c *cluster) createService(ctx context.Context, name string, class *string) error {
	no := false
	_, err := c.client.CoreV1().Services("default").Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: class, AllocateLoadBalancerNodePorts: &no,
			Ports: []corev1.ServicePort{{Port: 80}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("creating Service %s: %w", name, err)
	}
	return nil
}

// watchAddressed reports when the first and the last of n Services got an address.
func (c *cluster) watchAddressed(ctx context.Context, n int) func() (first, last time.Time, err error) {
	var mu sync.Mutex
	seen := map[string]bool{}
	var first time.Time
	done := make(chan time.Time, 1)
	note := func(obj any) {
		svc, ok := obj.(*corev1.Service)
		if !ok || len(svc.Status.LoadBalancer.Ingress) == 0 {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if seen[svc.Name] {
			return
		}
		seen[svc.Name] = true
		if len(seen) == 1 {
			first = time.Now()
		}
		if len(seen) == n {
			done <- time.Now()
		}
	}
	factory := informers.NewSharedInformerFactory(c.client, 0)
	informer := factory.Core().V1().Services().Informer()
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: note, UpdateFunc: func(_, cur any) { note(cur) }})
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	return func() (time.Time, time.Time, error) {
		if err != nil {
			return first, first, err
		}
		select {
		case last := <-done:
			return first, last, nil
		case <-ctx.Done():
			return first, first, ctx.Err()
		case <-time.After(patience):
			mu.Lock()
			defer mu.Unlock()
			return first, first, fmt.Errorf("only %d of %d Services have an address after %v", len(seen), n, patience)
		}
	}
}

var requestTotal = regexp.MustCompile(`(?m)^apiserver_request_total\{[^}]*verb="(?:POST|PUT|PATCH|DELETE)"[^}]*\} (\S+)$`)

// reviews are questions, though they are asked by POST.
var reviews = regexp.MustCompile(`resource="(?:tokenreviews|subjectaccessreviews)"`)

// writes counts the writes that the API server has answered so far.
func (c *cluster) writes(ctx context.Context) (float64, error) {
	metrics, err := c.client.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return 0, fmt.Errorf("reading the API server's metrics: %w", err)
	}
	total := 0.0
	for _, m := range requestTotal.FindAllSubmatch(metrics, -1) {
		if reviews.Match(m[0]) {
			continue
		}
		v, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			return 0, fmt.Errorf("reading the API server's metrics: %w", err)
		}
		total += v
	}
	return total, nil
}

// settled waits until no write has been seen for a while and returns the count.
func (c *cluster) settled(ctx context.Context) (float64, error) {
	last, err := c.writes(ctx)
	for since := time.Now(); err == nil && time.Since(since) < quiet; {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
		var now float64
		if now, err = c.writes(ctx); now != last {
			last, since = now, time.Now()
		}
	}
	return last, err
}

// freeBalancer is an allocator that costs nothing.
type freeBalancer struct {
	fake.Cloud
	mu   sync.Mutex
	next int
	ips  map[string]string
}

func (f *freeBalancer) LoadBalancer() (cloudprovider.LoadBalancer, bool) { return f, true }

func (f *freeBalancer) EnsureLoadBalancer(_ context.Context, _ string, svc *corev1.Service, _ []*corev1.Node) (*corev1.LoadBalancerStatus, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ip, ok := f.ips[svc.Name]
	if !ok {
		f.next++
		ip = fmt.Sprintf("10.250.%d.%d", f.next/256, f.next%256)
		f.ips[svc.Name] = ip
	}
	vip := corev1.LoadBalancerIPModeVIP
	return &corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: ip, IPMode: &vip}}}, nil
}

// measureStock works a backlog off with the stock service controller.
func measureStock(ctx context.Context, n int) (result, error) {
	c, err := startCluster(ctx)
	if err != nil {
		return result{}, err
	}
	defer c.Close()
	if err := c.createServices(ctx, n, nil); err != nil {
		return result{}, err
	}
	config, err := c.AdminConfig()
	if err != nil {
		return result{}, err
	}
	config.QPS, config.Burst = 1000, 2000
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return result{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wait := c.watchAddressed(ctx, n)
	factory := informers.NewSharedInformerFactory(client, 0)
	controller, err := service.New(&freeBalancer{ips: map[string]string{}}, client, factory.Core().V1().Services(), factory.Core().V1().Nodes(), "stock", featuregate.NewFeatureGate())
	if err != nil {
		return result{}, err
	}
	factory.Start(ctx.Done())
	go controller.Run(ctx, 10, controllersmetrics.NewControllerManagerMetrics("stock"))
	first, last, err := wait()
	if err != nil {
		return result{}, err
	}
	return result{rate: float64(n-1) / last.Sub(first).Seconds()}, nil
}

const manifests = `
apiVersion: bm-ccm.io/v1alpha1
kind: AddressPool
metadata: {name: bench}
spec: {addresses: ["10.250.0.0/16"]}
---
apiVersion: bm-ccm.io/v1alpha1
kind: LoadBalancerClass
metadata: {name: bench}
spec: {pools: [bench]}
`

// measureOurs works a backlog off with bm-ccm, and restarts it afterwards.
func measureOurs(ctx context.Context, n int, binary string) (result, restarted, error) {
	c, err := startCluster(ctx)
	if err != nil {
		return result{}, restarted{}, err
	}
	defer c.Close()
	if err := c.prepare(ctx, n); err != nil {
		return result{}, restarted{}, err
	}
	before, err := c.settled(ctx)
	if err != nil {
		return result{}, restarted{}, err
	}
	watchCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	wait := c.watchAddressed(watchCtx, n)
	p, err := startBinary(ctx, c, binary)
	if err != nil {
		return result{}, restarted{}, err
	}
	first, last, err := wait()
	if err != nil {
		return result{}, restarted{}, withLog(err, p)
	}
	after, err := c.settled(ctx)
	p.stop()
	if err != nil {
		return result{}, restarted{}, err
	}
	r := result{rate: float64(n-1) / last.Sub(first).Seconds(), writesPerService: (after - before) / float64(n)}
	again, err := c.restart(ctx, n, binary)
	return r, again, err
}

// prepare installs the objects and creates the backlog.
func (c *cluster) prepare(ctx context.Context, n int) error {
	if err := c.ApplyPath(ctx, "deploy/crds"); err != nil {
		return err
	}
	if _, err := c.Kubectl(ctx, "wait", "--for=condition=Established", "crd", "--all"); err != nil {
		return err
	}
	if err := c.Apply(ctx, []byte(manifests)); err != nil {
		return err
	}
	class := "bm-ccm.io/bench"
	return c.createServices(ctx, n, &class)
}

// restart measures the writes of a restart with nothing to do, and how soon
// after another start a waiting Service is served.
func (c *cluster) restart(ctx context.Context, n int, binary string) (restarted, error) {
	before, err := c.settled(ctx)
	if err != nil {
		return restarted{}, err
	}
	p, err := startBinary(ctx, c, binary)
	if err != nil {
		return restarted{}, err
	}
	time.Sleep(quiet) // it has to list and look at every Service
	after, err := c.settled(ctx)
	p.stop()
	if err != nil {
		return restarted{}, err
	}
	class := "bm-ccm.io/bench"
	if err := c.createService(ctx, "next", &class); err != nil {
		return restarted{}, err
	}
	watchCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	wait := c.watchAddressed(watchCtx, n+1)
	begin := time.Now()
	p, err = startBinary(ctx, c, binary)
	if err != nil {
		return restarted{}, err
	}
	defer p.stop()
	_, last, err := wait()
	if err != nil {
		return restarted{}, withLog(err, p)
	}
	return restarted{writes: after - before, ready: last.Sub(begin)}, nil
}

// process is a running bm-ccm.
type process struct {
	cmd *exec.Cmd
	log *bytes.Buffer
}

func startBinary(ctx context.Context, c *cluster, binary string) (*process, error) {
	config := c.Kubeconfig() + ".cloud-config"
	if err := os.WriteFile(config, []byte("apiVersion: config.bm-ccm.io/v1alpha1\nkind: CloudConfig\nclusterName: bench\n"), 0o600); err != nil {
		return nil, err
	}
	p := &process{log: &bytes.Buffer{}}
	p.cmd = exec.CommandContext(ctx, binary, "--kubeconfig="+c.Kubeconfig(), "--cloud-config="+config,
		"--leader-elect=false", "--secure-port=0")
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", binary, err)
	}
	return p, nil
}

// stop kills, as a crash would.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	_ = p.cmd.Wait()
}

// withLog adds the end of the log to an error.
func withLog(err error, p *process) error {
	p.stop()
	tail := p.log.Bytes()
	return fmt.Errorf("%w; the end of bm-ccm's log:\n%s", err, tail[max(0, len(tail)-2000):])
}
