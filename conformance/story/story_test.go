// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package story_test

import (
	"os"
	"testing"

	"github.com/bm-ccm/bm-ccm/conformance/lab"
	"github.com/bm-ccm/bm-ccm/conformance/lab/labtest"
	"github.com/bm-ccm/bm-ccm/conformance/story"
)

// The same story with an in-memory NetBox and with a real one.
func TestStory(t *testing.T) {
	labtest.Require(t)
	backends := map[string]func(*testing.T, *lab.Lab) (*story.IPAM, error){
		"NetBox in memory": func(_ *testing.T, l *lab.Lab) (*story.IPAM, error) {
			ipam, _, err := story.MemoryNetBox(l)
			return ipam, err
		},
		"real NetBox": func(t *testing.T, l *lab.Lab) (*story.IPAM, error) {
			return story.RealNetBox(t.Context(), l, os.Stderr)
		},
	}
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			s := start(t, open)
			if err := s.Install(t.Context()); err != nil {
				t.Fatalf("%v\n%s", err, s.Diagnose())
			}
			if err := s.Play(t.Context()); err != nil {
				t.Fatalf("%v\n%s", err, s.Diagnose())
			}
		})
	}
}

// start brings a lab and a NetBox up that end with the test.
func start(t *testing.T, open func(*testing.T, *lab.Lab) (*story.IPAM, error)) *story.Story {
	t.Helper()
	l := labtest.Start(t, lab.Options{Product: true, Log: os.Stderr})
	ipam, err := open(t, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ipam.Close(); err != nil {
			t.Error(err)
		}
	})
	s, err := story.New(l, ipam, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
