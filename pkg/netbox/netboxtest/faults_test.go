// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/bm-ccm/bm-ccm/pkg/netbox/netboxtest"
)

func TestFaults(t *testing.T) {
	const wait = netboxtest.Duration(50 * time.Millisecond)
	tests := []struct {
		name   string
		fault  netboxtest.Fault
		status int    // of the answer; 0 is a broken connection
		text   string // in the answer's body
		header string // "Name: value" of the answer
		made   int    // addresses made
	}{
		{name: "status", fault: netboxtest.Fault{Status: 503, Header: map[string]string{"Retry-After": "7"}}, status: 503, header: "Retry-After: 7", text: "Service Unavailable"},
		{name: "status with body", fault: netboxtest.Fault{Status: 409, Body: `{"detail":"x"}`}, status: 409, text: `{"detail":"x"}`},
		{name: "proxy's page", fault: netboxtest.Fault{Status: 502, HTMLBody: true}, status: 502, header: "Content-Type: text/html", text: "<h1>502 Bad Gateway</h1>"},
		{name: "page with 200, after it was done", fault: netboxtest.Fault{HTMLBody: true}, status: 200, text: "<html>", made: 1},
		{name: "reset", fault: netboxtest.Fault{Reset: true}},
		{name: "answer lost", fault: netboxtest.Fault{LoseAnswerAfterCommit: true}, made: 1},
		{name: "body cut", fault: netboxtest.Fault{Truncate: true}, made: 1},
		{name: "hang before", fault: netboxtest.Fault{HangBeforeCommit: true}},
		{name: "hang after", fault: netboxtest.Fault{HangAfterCommit: true}, made: 1},
		{name: "slow", fault: netboxtest.Fault{Latency: wait}, status: 201, made: 1},
		{name: "slow and failing", fault: netboxtest.Fault{Latency: wait, Status: 500}, status: 500},
		{name: "other method", fault: netboxtest.Fault{Method: "DELETE", Status: 500}, status: 201, made: 1},
		{name: "other path", fault: netboxtest.Fault{Path: "/ip-ranges/", Status: 500}, status: 201, made: 1},
		{name: "path", fault: netboxtest.Fault{Path: "/prefixes/[0-9]+/available-ips/$", Status: 500}, status: 500},
		{name: "no match", fault: netboxtest.Fault{Match: func(*http.Request) bool { return false }, Status: 500}, status: 201, made: 1},
		{name: "not yet", fault: netboxtest.Fault{Skip: 1, Status: 500}, status: 201, made: 1},
		{name: "nothing", fault: netboxtest.Fault{}, status: 201, made: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := start(t, claimOpts("", "10.0.0.0/24"))
			a.srv.Inject(tt.fault)
			// Only the faults that hang make the client wait so long.
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			r, err := a.try(ctx, "POST", claims, obj{})
			switch {
			case err == nil && r.status != tt.status:
				t.Errorf("status %d, want %d", r.status, tt.status)
			case err != nil && tt.status != 0:
				t.Errorf("error %v, want status %d", err, tt.status)
			}
			if r != nil {
				name, want, _ := strings.Cut(tt.header, ": ")
				if !strings.Contains(r.text, tt.text) || r.header.Get(name) != want {
					t.Errorf("body %s, header %s %q, want %s, %s", r.text, name, r.header.Get(name), tt.text, tt.header)
				}
			}
			if n := len(a.srv.Addresses()); n != tt.made {
				t.Errorf("%d addresses were made, want %d", n, tt.made)
			}
		})
	}
}

func TestFaultCounts(t *testing.T) {
	a := start(t, claimOpts("", "10.0.0.0/24"))
	a.srv.Inject(netboxtest.Fault{Skip: 1, Times: 2, Status: 500})
	a.srv.Inject(netboxtest.Fault{Skip: 1, Times: 1, Status: 503}) // when the first is through
	remove := a.srv.Inject(netboxtest.Fault{Method: "DELETE", Status: 502})
	var got []int
	for range 6 {
		got = append(got, a.do("GET", "/api/status/", nil).status)
	}
	want := []int{200, 500, 500, 503, 200, 200}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("statuses %v, want %v", got, want)
		}
	}
	a.want(502, "DELETE", addresses+"1/", nil)
	remove()
	a.want(404, "DELETE", addresses+"1/", nil)
}

// Removing a fault breaks the connections that hang on it.
func TestRemovedHang(t *testing.T) {
	a := start(t, claimOpts("", "10.0.0.0/24"))
	remove := a.srv.Inject(netboxtest.Fault{HangBeforeCommit: true})
	done := make(chan error, 1)
	go func() {
		_, err := a.try(t.Context(), "POST", claims, obj{})
		done <- err
	}()
	for len(a.srv.Pending()) == 0 {
		time.Sleep(time.Millisecond)
	}
	remove()
	if err := <-done; err == nil {
		t.Error("the request was answered")
	}
}

func TestRequestLog(t *testing.T) {
	a := start(t, claimOpts("", "10.0.0.0/24"))
	a.create(claims, obj{"description": "x"})
	a.get(addresses + "1/?fields=id")
	a.do("GET", addresses+"2/", nil)
	reqs := a.srv.Requests()
	if len(reqs) != 3 {
		t.Fatalf("%d requests, want 3", len(reqs))
	}
	if r := reqs[0]; r.Method != http.MethodPost || r.Path != claims || r.Body != `{"description":"x"}` || r.Status != 201 {
		t.Errorf("first request %+v", r)
	}
	if r := reqs[2]; r.Status != 404 {
		t.Errorf("third request %+v", r)
	}
	counts := a.srv.RequestCounts()
	if counts["GET /api/ipam/ip-addresses/<id>/"] != 2 || counts["POST /api/ipam/prefixes/<id>/available-ips/"] != 1 {
		t.Errorf("counts %v", counts)
	}
	a.srv.ResetRequests()
	if len(a.srv.Requests())+len(a.srv.RequestCounts()) != 0 {
		t.Error("the log was not reset")
	}
}

func TestControl(t *testing.T) {
	a := start(t, claimOpts("", "10.0.0.0/24"))
	c := a.as("") // no token needed
	r := c.want(201, "POST", "/_control/faults", obj{"method": "GET", "status": 503, "header": obj{"Retry-After": "1"}, "latency": "1ms"})
	a.want(503, "GET", "/api/status/", nil)
	if l := c.get("/_control/faults").list(); len(l) != 1 || l[0].(obj)["seen"] != 1.0 || l[0].(obj)["latency"] != "1ms" {
		t.Errorf("faults %v", l)
	}
	c.want(204, "DELETE", "/_control/faults/"+itoa(r.id()), nil)
	c.want(404, "DELETE", "/_control/faults/"+itoa(r.id()), nil)
	a.get("/api/status/")
	c.want(204, "PUT", "/_control/faults", []obj{{"status": 500}, {"status": 502}})
	a.want(500, "GET", "/api/status/", nil)
	c.want(204, "DELETE", "/_control/faults", nil)
	a.get("/api/status/")
	for _, bad := range []obj{{"latncy": "1s"}, {"path": "("}, {"status": 7}, {"latency": "soon"}} {
		c.want(400, "POST", "/_control/faults", bad)
	}
	c.want(201, "POST", "/_control/ui", obj{"address": "10.0.0.9/24"})
	c.want(400, "POST", "/_control/ui", obj{"address": "x"})
	c.want(204, "POST", "/_control/seed", obj{"prefixes": []obj{{"prefix": "10.7.0.0/24"}}})
	c.want(400, "POST", "/_control/seed", obj{"prefixes": []obj{{"prefix": "10.7.0.0/24"}}})
	if n := len(c.get("/_control/requests").obj()["requests"].([]any)); n != 4 {
		t.Errorf("%d requests, want the 4 of the API", n)
	}
	c.want(204, "DELETE", "/_control/requests", nil)
	c.want(404, "GET", "/_control/nope", nil)
}

func TestPage(t *testing.T) {
	a := start(t, netboxtest.Options{Seed: fullSeed()})
	a.srv.Inject(netboxtest.Fault{Path: "nothing"})
	a.create("/api/ipam/ip-addresses/", obj{"address": "10.9.9.9", "description": "<b>"})
	r := a.as("").want(200, "GET", "/", nil)
	for _, want := range []string{"10.0.0.0/24", "10.0.0.1/24", "blue", "node1", "vm1", "k8s_cluster = c1", "&lt;b&gt;", "1 faults are injected"} {
		if !strings.Contains(r.text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	a.want(404, "GET", "/nope", nil)
	a.want(405, "POST", "/", nil)
}
