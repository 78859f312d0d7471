// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"strings"
	"testing"
)

// A class is ours exactly if it has the prefix, and its name is the rest: what
// is ours must not depend on whether a LoadBalancerClass could have that name.
func FuzzClassName(f *testing.F) {
	for _, seed := range []string{"", "bm-ccm.io/", "bm-ccm.io/public", "bm-ccm.io/a/b", "bm-ccm.iopublic", "example.com/public", "BM-CCM.IO/x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		name, ok := ClassName(text)
		if ok != strings.HasPrefix(text, ClassPrefix) {
			t.Errorf("%q: ok is %t", text, ok)
		}
		if ok && ClassPrefix+name != text {
			t.Errorf("%q: name %q", text, name)
		}
	})
}
