// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package podsetup

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCapabilities(t *testing.T) {
	usual := Capabilities(nil, nil)
	for _, c := range []struct {
		name      string
		add, drop []string
		want      []uint8
	}{
		{"all dropped", nil, []string{"ALL"}, []uint8{}},
		{"one kept of all", []string{"NET_ADMIN"}, []string{"ALL"}, []uint8{unix.CAP_NET_ADMIN}},
		{"with the prefix", []string{"CAP_NET_RAW"}, []string{"all"}, []uint8{unix.CAP_NET_RAW}},
		{"one dropped", nil, []string{"CHOWN"}, slices.DeleteFunc(slices.Clone(usual), func(n uint8) bool { return n == unix.CAP_CHOWN })},
		{"unknown", []string{"NO_SUCH"}, nil, usual},
	} {
		if got := Capabilities(c.add, c.drop); got == nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	if got := Capabilities([]string{"ALL"}, []string{"SYS_ADMIN"}); len(got) != len(numbers)-1 || slices.Contains(got, unix.CAP_SYS_ADMIN) {
		t.Errorf("all but one: %v", got)
	}
	if slices.Contains(usual, unix.CAP_NET_ADMIN) || !slices.Contains(usual, unix.CAP_NET_BIND_SERVICE) {
		t.Errorf("the usual capabilities: %v", usual)
	}
}
