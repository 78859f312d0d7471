// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/record"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/klog/v2"

	"github.com/bm-ccm/bm-ccm/pkg/announce"
	"github.com/bm-ccm/bm-ccm/pkg/api/client"
)

const (
	// nodeNameEnv is set from spec.nodeName in the DaemonSet. The host's name would
	// not do: kubelet may register a Node under another one.
	nodeNameEnv = "NODE_NAME"
	// agentQPS and agentBurst bound the requests to the API server, per second. An
	// agent writes one small object now and then; a thousand of them must not be
	// noticed by the API server.
	agentQPS   = 5
	agentBurst = 10
	// shutdownTimeout bounds how long a scrape in progress may delay the exit.
	shutdownTimeout = time.Second
	// agentGCPercent trades a little time for memory: the agent runs on every
	// node, and what it allocates it mostly allocates once, at its start.
	agentGCPercent = 50
)

// agentOptions are the flags of the agent. There is no configuration file: all
// that concerns the cluster is in API objects, which every agent sees alike.
type agentOptions struct {
	nodeName    string
	kubeconfig  string
	metricsAddr string
	proxyHealth string
	logs        *logsapi.LoggingConfiguration
}

// newAgentCommand returns the command that runs the node agent.
func newAgentCommand() *cobra.Command {
	o := &agentOptions{logs: logsapi.NewLoggingConfiguration()}
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Announce load-balancer addresses from this node over BGP",
		Long: `The agent runs on every node. It announces the addresses of Services of type
LoadBalancer to the routers that BGPPeer objects name, and reports what it does
in the NodeAnnouncement of its node. It needs no NetBox and no other agent, and
goes on announcing while the API server is away.`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// kubelet ends a container with SIGTERM. SIGKILL does no harm either:
			// the routers then keep the routes for the restart time.
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
			defer stop()
			return o.run(ctx)
		},
	}
	o.addFlags(cmd.Flags())
	return cmd
}

func (o *agentOptions) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.nodeName, "node-name", os.Getenv(nodeNameEnv),
		"name of the Node to announce for; default is the environment variable "+nodeNameEnv)
	f.StringVar(&o.kubeconfig, "kubeconfig", "",
		"path of a kubeconfig file; without it the service account of the pod is used")
	// The agent is on the host's network, and what it serves has no authentication:
	// by default only the host itself can ask.
	f.StringVar(&o.metricsAddr, "metrics-address", "127.0.0.1:9617",
		"host:port that serves /metrics, /healthz and /readyz, without authentication; \":9617\" serves them on all addresses of the host, empty serves nothing")
	f.StringVar(&o.proxyHealth, "kube-proxy-health", "http://127.0.0.1:10256/healthz",
		"URL that answers 200 while kube-proxy on this node can forward; the node announces nothing while it does not; empty for clusters without kube-proxy")
	logsapi.AddFlags(o.logs, f)
}

// validate collects every mistake in the flags, so that they can be mended at once:
// the agent is started by a DaemonSet, and each try is a restart on every node.
func (o *agentOptions) validate() error {
	var errs []error
	if o.nodeName == "" {
		errs = append(errs, fmt.Errorf("the node's name is not known: set --node-name or the environment variable %s", nodeNameEnv))
	}
	if o.metricsAddr != "" {
		if _, _, err := net.SplitHostPort(o.metricsAddr); err != nil {
			// Not the error's own text: it repeats the address, unquoted.
			problem := err.Error()
			if bad := (*net.AddrError)(nil); errors.As(err, &bad) {
				problem = bad.Err
			}
			errs = append(errs, fmt.Errorf("--metrics-address %q is not host:port: %s", o.metricsAddr, problem))
		}
	}
	if o.proxyHealth != "" {
		u, err := url.Parse(o.proxyHealth)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			errs = append(errs, fmt.Errorf("--kube-proxy-health %q is not an http URL", o.proxyHealth))
		}
	}
	return oneLine(errs)
}

// oneLine joins errors so that they are logged as one line.
func oneLine(errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	texts := make([]string, len(errs))
	for i, err := range errs {
		texts[i] = err.Error()
	}
	return errors.New(strings.Join(texts, "; "))
}

// run runs the agent until the context ends or something of it fails: then the rest
// is stopped too, and kubelet starts it anew.
func (o *agentOptions) run(ctx context.Context) error {
	if err := o.validate(); err != nil {
		return err
	}
	// Before the first line is logged: its format is one of these flags.
	if err := logsapi.ValidateAndApply(o.logs, utilfeature.DefaultFeatureGate); err != nil {
		return fmt.Errorf("logging flags: %w", err)
	}
	// An operator who sets GOGC means it.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(agentGCPercent)
	}
	config, err := o.clientConfig()
	if err != nil {
		return err
	}
	kube, api, err := agentClients(config)
	if err != nil {
		return err
	}
	events, stop := agentEvents(ctx, kube, o.nodeName)
	defer stop()
	agent, err := announce.New(announce.Config{
		Node: o.nodeName, Kube: kube, API: api, ProxyHealth: o.proxyHealth, Events: events,
	})
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return serve(ctx, o.metricsAddr, agent.Handler()) })
	group.Go(func() error { return agent.Run(ctx) })
	klog.FromContext(ctx).Info("Agent started", "node", o.nodeName)
	return group.Wait()
}

// clientConfig finds the API server as kubectl in a pod does. The user agent tells
// agents and controller apart in the audit log and in API priority and fairness.
func (o *agentOptions) clientConfig() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("finding the API server (set --kubeconfig outside a cluster): %w", err)
	}
	config.QPS, config.Burst = agentQPS, agentBurst
	config.UserAgent = rest.DefaultKubernetesUserAgent() + "/agent"
	return config, nil
}

// agentClients makes a client for the objects of Kubernetes, in protobuf, which
// halves the cost of the first lists, and one for ours, which are JSON only.
func agentClients(config *rest.Config) (kubernetes.Interface, *client.Client, error) {
	core := rest.CopyConfig(config)
	core.ContentType = runtime.ContentTypeProtobuf
	core.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	kube, err := kubernetes.NewForConfig(core)
	if err != nil {
		return nil, nil, fmt.Errorf("building the Kubernetes client: %w", err)
	}
	api, err := client.New(config)
	if err != nil {
		return nil, nil, err
	}
	return kube, api, nil
}

// agentEvents returns a recorder of Events that come from this node. It combines
// repeated ones, drops what is too much, and never blocks the agent.
func agentEvents(ctx context.Context, kube kubernetes.Interface, node string) (record.EventRecorder, func()) {
	b := record.NewBroadcaster(record.WithContext(ctx))
	b.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: kube.CoreV1().Events("")})
	return b.NewRecorder(client.Scheme, corev1.EventSource{Component: "bm-ccm-agent", Host: node}), b.Shutdown
}

// serve answers HTTP requests until the context ends. An address that is taken is
// an error at the start: probes of kubelet would reach another agent.
func serve(ctx context.Context, addr string, h http.Handler) error {
	if addr == "" {
		<-ctx.Done()
		return nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("serving --metrics-address: %w", err)
	}
	// Without a limit a client that sends no request could hold a connection for
	// ever; the port may be open to the network.
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		_ = s.Shutdown(grace)
	})
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving --metrics-address: %w", err)
	}
	return nil
}
