// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
)

// answering returns a client of a NetBox that always gives the same answer.
func answering(t testing.TB, body string) *Client {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }))
	t.Cleanup(srv.Close)
	c, err := NewClient(Options{URL: srv.URL, Token: "abc"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestListEnds also where NetBox does not page by id, as it does not where it
// ignores the filter.
func TestListEnds(t *testing.T) {
	for body, want := range map[string]int{
		`{"count":2,"results":[{"id":1},{"id":2}]}`: 2,
		`{"count":0,"results":[]}`:                  0,
		`{"count":7,"results":[]}`:                  0,
		`{"count":3,"results":[{"id":1},{"id":2}]}`: -1, // again and again
		`{"count":2,"results":[{"id":2},{"id":1}]}`: -1,
		`{"count":1,"results":[{"id":0}]}`:          -1,
		`{"count":1,"results":[{"id":"one"}]}`:      -1,
	} {
		query := url.Values{"name": {"x"}}
		got, err := List(t.Context(), answering(t, body), Request{Doing: "listing", Path: "ipam/vrfs/", Query: query}, ObjectID.Key, nil)
		if want < 0 != errors.As(err, new(*UnavailableError)) || len(got) != max(want, 0) {
			t.Errorf("%s: %v, %v", body, got, err)
		}
		if len(query) != 1 {
			t.Errorf("the caller's query was changed: %v", query)
		}
	}
}

func TestFindOne(t *testing.T) {
	c := answering(t, `{"count":3,"results":[{"id":1,"name":"a"},{"id":2,"name":"b"},{"id":3,"name":"b"}]}`)
	for name, want := range map[string]int64{"a": 1, "b": 2, "c": 0} {
		got, err := FindOne(t.Context(), c, "ipam/vrfs/", "VRF "+name, nil, func(o NamedObject) bool { return o.Name == name })
		if err != nil || IDOf(got) != want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func FuzzPage(f *testing.F) {
	f.Add([]byte(`{"count":1,"next":null,"results":[{"id":1,"name":"a","display":7}]}`))
	f.Add([]byte(`{"results":null}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var page Page[*NamedObject]
		if json.Unmarshal(data, &page) != nil {
			return
		}
		for _, o := range page.Results {
			_, _ = IDOf(o), NameOf(o) // also of a null
		}
	})
}
