// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"text/template"
	"unicode/utf8"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/netbox"
)

// TestRecordsOfOtherServers: what NetBox adds or leaves out is no error.
func TestRecordsOfOtherServers(t *testing.T) {
	tests := map[string]struct {
		json string
		want record
		ok   bool
	}{
		"site's own status, empty strings": {`{"id":7,"address":"192.0.2.1/24","display":"","status":{"value":"k8s","label":"K8s"},"vrf":{"id":3},"custom_fields":{"k8s_lb_claim":"a/b/c/ipv4","k8s_cluster":null,"other":{"value":1}}}`,
			record{id: 7, addr: netip.MustParseAddr("192.0.2.1"), vrf: 3, status: "k8s", claim: "a/b/c/ipv4"}, true},
		"few fields":       {`{"id":7,"address":"2001:db8::1/128"}`, record{id: 7, addr: netip.MustParseAddr("2001:db8::1")}, true},
		"large id":         {`{"id":5000000000,"address":"192.0.2.1/24"}`, record{id: 5000000000, addr: netip.MustParseAddr("192.0.2.1")}, true},
		"no id":            {`{"address":"192.0.2.1/24"}`, record{}, false},
		"no address":       {`{"id":7}`, record{}, false},
		"not an object":    {`[]`, record{}, false},
		"field of numbers": {`{"id":7,"address":"192.0.2.1/24","custom_fields":{"k8s_cluster":5}}`, record{id: 7, addr: netip.MustParseAddr("192.0.2.1")}, true},
	}
	for name, tt := range tests {
		var got record
		err := got.UnmarshalJSON([]byte(tt.json))
		if (err == nil) != tt.ok || got != tt.want {
			t.Errorf("%s: got %+v, %v; want %+v", name, got, err, tt.want)
		}
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"id":7,"address":"192.0.2.1/24","vrf":{"id":3},"custom_fields":{"k8s_lb_claim":"a/b/c/ipv4"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var r record
		if err := r.UnmarshalJSON(data); err == nil && (r.id <= 0 || !r.addr.IsValid()) {
			t.Errorf("%q became %+v", data, r)
		}
	})
}

// FuzzItemErrors: a list is worked off by item only if NetBox has answered for
// each of its items.
func FuzzItemErrors(f *testing.F) {
	f.Add([]byte(`[{},{"address":["Duplicate IP address found"]}]`), 2)
	f.Add([]byte(`{"detail":"no"}`), 1)
	f.Add([]byte(`[null,{}]`), 3)
	f.Add([]byte(`null`), 0)
	f.Fuzz(func(t *testing.T, body []byte, n int) {
		items, ok := itemErrors(translate(&netbox.AnswerError{Doing: "claiming", Status: 400, Body: body}), n)
		if ok && len(items) != n || !ok && items != nil {
			t.Errorf("%q, %d: %q, %t", body, n, items, ok)
		}
		for _, item := range items {
			isGoodItem(item)
		}
	})
}

// FuzzDescription: NetBox refuses a description of more than 200 characters.
func FuzzDescription(f *testing.F) {
	f.Add("{{.Namespace}}/{{.Service}}", "web")
	f.Add("ä{{.Service}}", strings.Repeat("ü", 300))
	f.Add("{{.Nope}}", "\xff")
	f.Fuzz(func(t *testing.T, text, service string) {
		description, err := template.New("").Parse(text)
		if err != nil || strings.Contains(text, "{{") && !strings.HasPrefix(text, "{{.") {
			return // also what would run for long
		}
		it := item{key: ipam.Key{Cluster: "c", Namespace: "n", Service: service, Family: ipam.IPv4}, record: &Record{Description: description}}
		if got, _ := it.body()["description"].(string); utf8.RuneCountInString(got) > maxDescription {
			t.Errorf("%d characters: %q", utf8.RuneCountInString(got), got)
		}
	})
}

// FuzzByClaimKey: whatever engineers write into the claim field, each record is
// under one key, and the one with the lowest id counts.
func FuzzByClaimKey(f *testing.F) {
	f.Add("c/n/s/ipv4", "c/n/s/ipv4#next")
	f.Add("#next", "#next#next")
	f.Fuzz(func(t *testing.T, first, second string) {
		records := []record{{id: 1, claim: first}, {id: 2, claim: second}, {id: 3, claim: first}}
		byKey := byClaimKey(records)
		for _, r := range records {
			key := strings.TrimSuffix(r.claim, nextSuffix)
			have, ok := byKey[key]
			if !ok || have.empty() || !slices.Contains(claimTexts(key), r.claim) {
				t.Errorf("%q and %q: %+v", first, second, byKey)
			}
			if have.main != nil && have.main.id == 3 || have.next != nil && have.next.id == 3 {
				t.Errorf("%q: the later record counts", first)
			}
		}
	})
}

// TestTranslate: package ipam's errors are what callers get, with NetBox's
// answer still at hand.
func TestTranslate(t *testing.T) {
	forbidden := &netbox.AnswerError{Doing: "claiming", Status: 403, Body: []byte(`{"detail":"You do not have permission."}`)}
	err := translate(forbidden)
	if !errors.As(err, new(*ipam.ConfigError)) || netbox.StatusOf(err) != 403 || !netbox.AnswerSays(err, "permission") || !strings.Contains(err.Error(), "constraint on custom field k8s_cluster") {
		t.Errorf("forbidden: %v", err)
	}
	refused := translate(&netbox.AnswerError{Doing: "claiming", Status: 403, Body: []byte(`{"detail":"Invalid token"}`)})
	if !errors.As(refused, new(*ipam.ConfigError)) || strings.Contains(refused.Error(), "constraint") {
		t.Errorf("bad token: %v", refused)
	}
	var away *ipam.UnavailableError
	if err := translate(&netbox.UnavailableError{Doing: "claiming", Err: errKeyTaken, RetryAfter: 7}); !errors.As(err, &away) || away.RetryAfter != 7 || !errors.Is(err, errKeyTaken) {
		t.Errorf("unavailable: %v", err)
	}
	if err := translate(&netbox.ConfigError{Problem: "netbox.url"}); !errors.As(err, new(*ipam.ConfigError)) {
		t.Errorf("config: %v", err)
	}
	if err := translate(errKeyTaken); !errors.Is(err, errKeyTaken) || translate(nil) != nil {
		t.Errorf("others: %v", err)
	}
}
