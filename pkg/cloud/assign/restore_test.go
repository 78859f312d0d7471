// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package assign

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/service/servicetest"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

func inlinePool(name string, addresses ...string) ipam.Pool {
	return ipam.Pool{Name: name, Spec: v1alpha1.AddressPoolSpec{Addresses: addresses}}
}

func netboxPool(name, prefix string) ipam.Pool {
	return ipam.Pool{Name: name, Spec: v1alpha1.AddressPoolSpec{NetBox: &v1alpha1.NetBoxSource{Prefixes: []v1alpha1.NetBoxPrefix{{Prefix: prefix}}}}}
}

func TestRestored(t *testing.T) {
	age := 0
	assigned := func(name, addr string, edit ...func(*corev1.Service)) *corev1.Service {
		age++
		return servicetest.Served(name, append(edit, func(s *corev1.Service) {
			s.CreationTimestamp = metav1.NewTime(time.Unix(int64(age), 0))
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: addr}}
		})...)
	}
	shares := servicetest.Sharing("k")
	services := []*corev1.Service{
		assigned("a", "192.0.2.1"), assigned("b", "203.0.113.7"), servicetest.Served("c"), assigned("elsewhere", "10.0.0.1"),
		assigned("s1", "192.0.2.2", shares), assigned("s2", "192.0.2.2", shares), assigned("s3", "192.0.2.3", shares),
	}
	listed := inlinePool("listed", "192.0.2.0/28")
	away := netboxPool("away", "198.51.100.0/24")
	away.Problem = errors.New("connection refused")
	common := []string{"lab/default/a/ipv4=192.0.2.1", "lab/default/+k/ipv4=192.0.2.2", "lab/default/+k/ipv4=192.0.2.2", "lab/default/s3/ipv4=192.0.2.3"}
	for name, tt := range map[string]struct {
		pools []ipam.Pool
		want  []string
	}{
		"NetBox tells its own":            {[]ipam.Pool{listed, netboxPool("nb", "203.0.113.0/24")}, append([]string{"lab/default/elsewhere/ipv4=10.0.0.1"}, common...)},
		"while NetBox's are not known":    {[]ipam.Pool{listed, netboxPool("nb", "203.0.113.0/24"), away}, common},
		"an overlap belongs to NetBox":    {[]ipam.Pool{listed, netboxPool("nb", "192.0.2.0/24")}, []string{"lab/default/b/ipv4=203.0.113.7", "lab/default/elsewhere/ipv4=10.0.0.1"}},
		"a pool of any kind may be empty": {nil, append([]string{"lab/default/b/ipv4=203.0.113.7", "lab/default/elsewhere/ipv4=10.0.0.1"}, common...)},
	} {
		claims := Restored("lab", services, tt.pools)
		var got []string
		for _, c := range claims {
			got = append(got, c.Key.String()+"="+c.Addr.String())
		}
		slices.Sort(got)
		slices.Sort(tt.want)
		got, tt.want = slices.Compact(got), slices.Compact(tt.want)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
