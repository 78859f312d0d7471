// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package backlog

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/bm-ccm/bm-ccm/conformance/lab"
)

const (
	patience = 5 * time.Minute
	// Quiet is how long no write must be seen for Settled: longer than bm-ccm
	// waits between two rounds of status writes, 5 s.
	Quiet = 6 * time.Second
)

// Cluster is an API server with a client.
type Cluster struct {
	*lab.ControlPlane
	Client kubernetes.Interface
}

// Start starts an API server, with a node.
func Start(ctx context.Context) (*Cluster, error) {
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
	c := &Cluster{cp, client}
	return c, c.createNode(ctx)
}

// createNode creates a node: without any, upstream warns at each Service.
func (c *Cluster) createNode(ctx context.Context) error {
	node, err := c.Client.CoreV1().Nodes().Create(ctx, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: corev1.NodeSpec{ProviderID: "bench://n1"},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("creating a node: %w", err)
	}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	if _, err := c.Client.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("making the node ready: %w", err)
	}
	return nil
}

// CreateServices creates n Services of type LoadBalancer, eight at a time.
func (c *Cluster) CreateServices(ctx context.Context, n int, class *string) error {
	numbers := make(chan int)
	errs := make(chan error, 8)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range numbers {
				if err := c.CreateService(ctx, fmt.Sprintf("s%05d", i), class); err != nil {
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

// CreateService creates one. Class may be nil.
func (c *Cluster) CreateService(ctx context.Context, name string, class *string) error {
	no := false
	_, err := c.Client.CoreV1().Services("default").Create(ctx, &corev1.Service{
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

// WatchAddressed reports when the first and the last of n Services got an address.
func (c *Cluster) WatchAddressed(ctx context.Context, n int) func() (first, last time.Time, err error) {
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
	factory := informers.NewSharedInformerFactory(c.Client, 0)
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

// Prepare installs the CRDs of the product and what manifests has.
func (c *Cluster) Prepare(ctx context.Context, manifests string) error {
	product, err := lab.ProductDir()
	if err != nil {
		return err
	}
	if err := c.ApplyPath(ctx, filepath.Join(product, "deploy", "crds")); err != nil {
		return err
	}
	if _, err := c.Kubectl(ctx, "wait", "--for=condition=Established", "crd", "--all"); err != nil {
		return err
	}
	return c.Apply(ctx, []byte(manifests))
}
