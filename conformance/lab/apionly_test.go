// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"os"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// TestControlPlane needs no root: the API answers, RBAC decides, and Close
// leaves neither process nor file.
func TestControlPlane(t *testing.T) {
	begin := time.Now()
	cp, err := StartControlPlane(t.Context(), ControlPlaneOptions{Log: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	defer func() {
		if !closed {
			t.Error(cp.Close())
		}
	}()
	t.Logf("ready in %v", time.Since(begin))
	config, err := cp.AdminConfig()
	if err != nil {
		t.Fatal(err)
	}
	namespaces, err := kubernetes.NewForConfigOrDie(config).CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{})
	if err != nil || len(namespaces.Items) == 0 {
		t.Fatalf("namespaces: %v, %v", namespaces, err)
	}
	path, err := cp.UserKubeconfig("nobody")
	if err != nil {
		t.Fatal(err)
	}
	user, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kubernetes.NewForConfigOrDie(user).CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{}); err == nil {
		t.Error("a user without a role may list namespaces")
	}
	closed = true
	if err := cp.Close(); err != nil {
		t.Error(err)
	}
	for _, d := range cp.api.daemons {
		if d.alive() {
			t.Errorf("%s still runs", d.Name)
		}
	}
	if _, err := os.Stat(cp.api.dir); !os.IsNotExist(err) {
		t.Errorf("the folder is still there: %v", err)
	}
}
