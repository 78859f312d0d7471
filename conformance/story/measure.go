// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package story

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/bm-ccm/bm-ccm/conformance/bench"
	"github.com/bm-ccm/bm-ccm/conformance/lab"
)

// rounds is how many Services Measure creates, one after the other.
const rounds = 20

// Measure creates Services one by one in front of running pods and takes the
// time until the status is set and until a client outside the cluster gets the
// first byte.
func (s *Story) Measure(ctx context.Context) ([]bench.Figure, error) {
	config, err := s.Lab.AdminConfig()
	if err != nil {
		return nil, fmt.Errorf("building a client: %w", err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("building a client: %w", err)
	}
	s.say("── measuring: %d Services, one after the other", rounds)
	if err := errors.Join(s.expose(ctx), s.reach(ctx)); err != nil {
		return nil, err
	}
	var status, firstByte []time.Duration
	for i := range rounds {
		assigned, reached, err := s.measureOne(ctx, client, fmt.Sprintf("measure-%02d", i))
		if err != nil {
			return nil, fmt.Errorf("measuring Service %d of %d: %w", i+1, rounds, err)
		}
		status, firstByte = append(status, assigned), append(firstByte, reached)
	}
	if _, err := s.Lab.Kubectl(ctx, "delete", "-f", s.example("kiada.yaml")); err != nil {
		return nil, err
	}
	note := fmt.Sprintf("median of %d, lab idle", rounds)
	if !s.IPAM.InMemory {
		// A NetBox's own pace is not ours to set a target for.
		return []bench.Figure{
			bench.Reference("Service created to status set", ms(bench.Median(status)), "ms", note),
			bench.Reference("Service created to first byte at the client", ms(bench.Median(firstByte)), "ms", note),
		}, nil
	}
	return []bench.Figure{
		bench.Below("Service created to status set", ms(bench.Median(status)), "ms", 50, note),
		bench.Below("Service created to first byte at the client", ms(bench.Median(firstByte)), "ms", 500, note),
	}, nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// measureOne creates a Service, waits for it to answer and deletes it.
func (s *Story) measureOne(ctx context.Context, client kubernetes.Interface, name string) (assigned, reached time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	services := client.CoreV1().Services("default")
	watch, err := services.Watch(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()})
	if err != nil {
		return 0, 0, fmt.Errorf("watching: %w", err)
	}
	defer watch.Stop()
	begin := time.Now()
	if _, err := services.Create(ctx, measured(name), metav1.CreateOptions{}); err != nil {
		return 0, 0, fmt.Errorf("creating: %w", err)
	}
	for event := range watch.ResultChan() {
		svc, ok := event.Object.(*corev1.Service)
		if !ok || len(svc.Status.LoadBalancer.Ingress) == 0 {
			continue
		}
		assigned = time.Since(begin)
		err := firstByte(ctx, s.Lab.Client(), svc.Status.LoadBalancer.Ingress[0].IP)
		reached = time.Since(begin)
		return assigned, reached, errors.Join(err, deleteAndSettle(ctx, services, name, watch))
	}
	return 0, 0, errors.Join(fmt.Errorf("no address: %w", ctx.Err()), services.Delete(context.WithoutCancel(ctx), name, metav1.DeleteOptions{}))
}

// settled is how long the kube-proxies of the lab go on working after a Service
// is gone. What is measured is a Service in an idle cluster.
const settled = 500 * time.Millisecond

// deleteAndSettle deletes a Service and waits until all is quiet again.
func deleteAndSettle(ctx context.Context, services typedcorev1.ServiceInterface, name string, watch apiwatch.Interface) error {
	if err := services.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return fmt.Errorf("deleting: %w", err)
	}
	for event := range watch.ResultChan() {
		if event.Type != apiwatch.Deleted {
			continue
		}
		select {
		case <-time.After(settled):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fmt.Errorf("waiting until Service %s is gone: %w", name, ctx.Err())
}

// firstByte waits until the address answers HTTP at the host. It connects anew
// every few milliseconds: a connection that begins before the route is there
// would only be tried again by TCP after a second.
func firstByte(ctx context.Context, from *lab.Host, ip string) error {
	dial := dialFrom(from)
	for {
		try, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		err := askHTTP(try, dial, net.JoinHostPort(ip, "80"))
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", ip, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// askHTTP sends a request and reads one byte of the answer.
func askHTTP(ctx context.Context, dial dialFunc, address string) error {
	conn, err := dial(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, 1))
	return err
}

// measured is a Service in front of the kiada pods.
func measured(name string) *corev1.Service {
	class := class
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: &class,
			Selector: map[string]string{"app": kiada},
			Ports:    []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: httpPort}},
		},
	}
}
