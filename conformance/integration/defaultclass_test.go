// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/bm-ccm/bm-ccm/pkg/netbox/netboxtest"
)

// slowStatus is how long the API server takes for the status of a Service here.
// A claim of an inline pool is recorded nowhere else, so until then it is known
// to the process alone.
const slowStatus = 1500 * time.Millisecond

// The default class goes and comes back while Services are being served: in the
// end each has an address, and no two the same.
func TestDefaultComesAndGoes(t *testing.T) {
	e := newEnv(t, netboxtest.ClaimFields())
	e.crash()
	e.kubeconfig = e.slowServer()
	e.start()
	e.apply(`
apiVersion: bm-ccm.io/v1alpha1
kind: AddressPool
metadata: {name: toggled}
spec: {addresses: [198.18.7.0/26]}
---
apiVersion: bm-ccm.io/v1alpha1
kind: LoadBalancerClass
metadata: {name: toggled}
spec: {pools: [toggled]}
`)
	const services = 40
	for i := range services {
		class := ""
		if i%2 == 0 {
			class = "bm-ccm.io/toggled"
		}
		// At each step some are being claimed or written, or wait for a default.
		e.service(fmt.Sprintf("toggled-%d", i), class)
		e.defaultClass(i%4 > 1)
		time.Sleep(50 * time.Millisecond)
	}
	e.defaultClass(true)
	holder := map[string]string{}
	for i := range services {
		name := fmt.Sprintf("toggled-%d", i)
		ip := e.addressed(name)
		if other, taken := holder[ip]; taken {
			t.Errorf("%s and %s both have %s", other, name, ip)
		}
		holder[ip] = name
	}
	for i := range services {
		e.remove(fmt.Sprintf("toggled-%d", i))
	}
	for i := range services {
		e.gone(fmt.Sprintf("toggled-%d", i))
	}
}

// defaultClass makes class "comes-and-goes" the default, or not.
func (e *env) defaultClass(isDefault bool) {
	e.t.Helper()
	e.apply(fmt.Sprintf("{apiVersion: bm-ccm.io/v1alpha1, kind: LoadBalancerClass, metadata: {name: comes-and-goes}, spec: {pools: [toggled], default: %t}}", isDefault))
}

// slowServer is the API server, but for the status of Services, which takes a
// while. It returns a kubeconfig for it.
func (e *env) slowServer() string {
	e.t.Helper()
	config, err := e.AdminConfig()
	if err != nil {
		e.t.Fatal(err)
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		e.t.Fatal(err)
	}
	target, err := url.Parse(config.Host)
	if err != nil {
		e.t.Fatal(err)
	}
	through := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, Transport: transport, FlushInterval: -1}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPatch && strings.Contains(r.URL.Path, "/services/toggled") && strings.HasSuffix(r.URL.Path, "/status") {
			time.Sleep(slowStatus)
		}
		through.ServeHTTP(w, r)
	}))
	e.t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	kubeconfig := clientcmdapi.NewConfig()
	kubeconfig.Clusters["slow"] = &clientcmdapi.Cluster{Server: server.URL}
	kubeconfig.AuthInfos["nobody"] = &clientcmdapi.AuthInfo{}
	kubeconfig.Contexts["slow"] = &clientcmdapi.Context{Cluster: "slow", AuthInfo: "nobody"}
	kubeconfig.CurrentContext = "slow"
	if err := clientcmd.WriteToFile(*kubeconfig, e.file("slow.kubeconfig")); err != nil {
		e.t.Fatal(err)
	}
	return e.file("slow.kubeconfig")
}
