// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/controllers/service"
	"k8s.io/cloud-provider/fake"
	"k8s.io/component-base/featuregate"
	controllersmetrics "k8s.io/component-base/metrics/prometheus/controllers"

	"github.com/bm-ccm/bm-ccm/conformance/bench/backlog"
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
	c, err := backlog.Start(ctx)
	if err != nil {
		return result{}, err
	}
	defer c.Close()
	if err := c.CreateServices(ctx, n, nil); err != nil {
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
	wait := c.WatchAddressed(ctx, n)
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
	c, err := backlog.Start(ctx)
	if err != nil {
		return result{}, restarted{}, err
	}
	defer c.Close()
	if err := c.Prepare(ctx, manifests); err != nil {
		return result{}, restarted{}, err
	}
	class := "bm-ccm.io/bench"
	if err := c.CreateServices(ctx, n, &class); err != nil {
		return result{}, restarted{}, err
	}
	before, err := c.Settled(ctx)
	if err != nil {
		return result{}, restarted{}, err
	}
	watchCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	wait := c.WatchAddressed(watchCtx, n)
	p, err := c.Run(ctx, binary, "")
	if err != nil {
		return result{}, restarted{}, err
	}
	first, last, err := wait()
	if err != nil {
		return result{}, restarted{}, p.WithLog(err)
	}
	after, err := c.Settled(ctx)
	p.Stop()
	if err != nil {
		return result{}, restarted{}, err
	}
	r := result{rate: float64(n-1) / last.Sub(first).Seconds(), writesPerService: (after - before) / float64(n)}
	again, err := restart(ctx, c, n, binary)
	return r, again, err
}

// restart measures the writes of a restart with nothing to do, and how soon
// after another start a waiting Service is served.
func restart(ctx context.Context, c *backlog.Cluster, n int, binary string) (restarted, error) {
	before, err := c.Settled(ctx)
	if err != nil {
		return restarted{}, err
	}
	p, err := c.Run(ctx, binary, "")
	if err != nil {
		return restarted{}, err
	}
	time.Sleep(backlog.Quiet) // it has to list and look at every Service
	after, err := c.Settled(ctx)
	p.Stop()
	if err != nil {
		return restarted{}, err
	}
	class := "bm-ccm.io/bench"
	if err := c.CreateService(ctx, "next", &class); err != nil {
		return restarted{}, err
	}
	watchCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	wait := c.WatchAddressed(watchCtx, n+1)
	begin := time.Now()
	p, err = c.Run(ctx, binary, "")
	if err != nil {
		return restarted{}, err
	}
	defer p.Stop()
	_, last, err := wait()
	if err != nil {
		return restarted{}, p.WithLog(err)
	}
	return restarted{writes: after - before, ready: last.Sub(begin)}, nil
}
