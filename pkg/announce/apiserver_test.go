// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package announce

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/bm-ccm/bm-ccm/pkg/api/client"
	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
)

// apiServer serves our API objects: fixed lists of classes and peers, whose
// watches never send an event, and one NodeAnnouncement that can be written.
type apiServer struct {
	*httptest.Server
	classes []v1alpha1.LoadBalancerClass
	peers   []v1alpha1.BGPPeer

	mu           sync.Mutex
	announcement *v1alpha1.NodeAnnouncement
	writes       []string // "POST", "PUT"
	version      int
}

func newAPIServer(t testing.TB) *apiServer {
	t.Helper()
	a := &apiServer{}
	mux := http.NewServeMux()
	base := "/apis/bm-ccm.io/v1alpha1/"
	mux.HandleFunc("GET "+base+"loadbalancerclasses", func(w http.ResponseWriter, r *http.Request) {
		listOrWatch(w, r, &v1alpha1.LoadBalancerClassList{
			TypeMeta: typeMeta("LoadBalancerClassList"), ListMeta: metav1.ListMeta{ResourceVersion: "1"}, Items: a.classes,
		})
	})
	mux.HandleFunc("GET "+base+"bgppeers", func(w http.ResponseWriter, r *http.Request) {
		listOrWatch(w, r, &v1alpha1.BGPPeerList{
			TypeMeta: typeMeta("BGPPeerList"), ListMeta: metav1.ListMeta{ResourceVersion: "1"}, Items: a.peers,
		})
	})
	mux.HandleFunc("GET "+base+"nodeannouncements/{name}", a.get)
	mux.HandleFunc("POST "+base+"nodeannouncements", a.write)
	mux.HandleFunc("PUT "+base+"nodeannouncements/{name}/status", a.write)
	a.Server = httptest.NewServer(mux)
	t.Cleanup(a.stop)
	return a
}

// stop ends the server with all its watches.
func (a *apiServer) stop() {
	_ = a.Config.Close()
	a.Close()
}

func typeMeta(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: kind}
}

func (a *apiServer) client(t testing.TB) *client.Client {
	t.Helper()
	c, err := client.New(&rest.Config{Host: a.URL, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func listOrWatch(w http.ResponseWriter, r *http.Request, list any) {
	if r.URL.Query().Get("sendInitialEvents") == "true" {
		// Informers fall back to a list when this is refused.
		status(w, apierrors.NewBadRequest("no streaming lists here"))
		return
	}
	if r.URL.Query().Get("watch") != "" {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return
	}
	answer(w, list)
}

func answer(w http.ResponseWriter, obj any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(obj)
}

func status(w http.ResponseWriter, err *apierrors.StatusError) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(err.ErrStatus.Code))
	_ = json.NewEncoder(w).Encode(err.ErrStatus)
}

func (a *apiServer) get(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.announcement == nil || a.announcement.Name != r.PathValue("name") {
		status(w, apierrors.NewNotFound(schema.GroupResource{Resource: "nodeannouncements"}, r.PathValue("name")))
		return
	}
	answer(w, a.announcement)
}

// write creates the object without its status, or replaces its status, as the
// status subresource has it.
func (a *apiServer) write(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var got v1alpha1.NodeAnnouncement
	if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
		status(w, apierrors.NewBadRequest(err.Error()))
		return
	}
	if r.Method == http.MethodPut {
		if got.ResourceVersion != a.announcement.ResourceVersion {
			status(w, apierrors.NewConflict(schema.GroupResource{Resource: "nodeannouncements"}, got.Name, fmt.Errorf("changed")))
			return
		}
		got.ObjectMeta = a.announcement.ObjectMeta
	} else {
		got.Status = v1alpha1.NodeAnnouncementStatus{}
	}
	a.version++
	got.ResourceVersion = fmt.Sprint(a.version)
	got.TypeMeta = typeMeta("NodeAnnouncement")
	a.announcement = &got
	a.writes = append(a.writes, r.Method)
	answer(w, &got)
}

// stored returns the NodeAnnouncement and the writes so far, as "POST PUT PUT".
func (a *apiServer) stored() (*v1alpha1.NodeAnnouncement, string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.announcement.DeepCopy(), strings.Join(a.writes, " ")
}
