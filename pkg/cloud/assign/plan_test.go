// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package assign

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/service"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/service/servicetest"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// The rules in these tables are those of docs/concepts.md, by their numbers.

// class is "public" over some pools.
func class(pools ...string) *v1alpha1.LoadBalancerClass {
	return &v1alpha1.LoadBalancerClass{ObjectMeta: metav1.ObjectMeta{Name: "public"}, Spec: v1alpha1.LoadBalancerClassSpec{Pools: pools}}
}

// about are the facts about a Service of class public over pools a (IPv4), b
// (both families) and hand (only by hand).
func about(svc *corev1.Service, edits ...func(*Facts)) Facts {
	no := false
	hand := inlinePool("hand", "198.51.100.0/28")
	hand.Spec.AutoAssign = &no
	f := Facts{
		Cluster: "lab", Service: svc, Class: class("a", "b", "hand"),
		Pools: map[string]ipam.Pool{"a": inlinePool("a", "192.0.2.0/28"), "b": inlinePool("b", "203.0.113.0/28", "2001:db8::/120"), "hand": hand},
	}
	for _, edit := range edits {
		edit(&f)
	}
	return f
}

// inGroup puts the Service into group k.
func inGroup(shared string, others ...Member) func(*Facts) {
	return func(f *Facts) { f.Group = new(groupOf("k", f.Service, shared, others...)) }
}

// leaves has the Service leave a group.
func leaves(key, shared string, others ...Member) func(*Facts) {
	return func(f *Facts) { f.Former = append(f.Former, groupOf(key, f.Service, shared, others...)) }
}

func groupOf(key string, svc *corev1.Service, shared string, others ...Member) Group {
	g := Group{Group: service.Group{Namespace: svc.Namespace, SharingKey: key}, Addrs: map[ipam.Family]netip.Addr{}, Self: Member{Service: svc, Class: "public"}, Others: others}
	if shared != "" {
		a := netip.MustParseAddr(shared)
		g.Addrs[ipam.FamilyOf(a)] = a
	}
	return g
}

// member is a Service of group k that listens on a port; age orders by creation,
// the higher the older.
func member(name string, port int32, age int, edits ...servicetest.Edit) Member {
	svc := servicetest.Served(name, append([]servicetest.Edit{servicetest.Sharing("k"), servicetest.WithPort(port), aged(age)}, edits...)...)
	return Member{Service: svc, Class: "public"}
}

func aged(age int) servicetest.Edit {
	return func(s *corev1.Service) {
		s.CreationTimestamp = metav1.NewTime(time.Unix(1e9, 0).Add(-time.Duration(age) * time.Minute))
	}
}

// web is the Service that is decided about.
func web(edits ...servicetest.Edit) *corev1.Service {
	return servicetest.Served("web", append([]servicetest.Edit{servicetest.WithPort(80), aged(5)}, edits...)...)
}

func sharing(edits ...servicetest.Edit) *corev1.Service {
	return web(append([]servicetest.Edit{servicetest.Sharing("k")}, edits...)...)
}

func asks(addrs string) servicetest.Edit {
	return servicetest.Annotated(v1alpha1.AnnotationAddresses, addrs)
}

// describe says in a line each what a plan wants.
func describe(p Plan) []string {
	var out []string
	if p.Keep {
		out = append(out, "keep")
	}
	if p.Problem != nil {
		out = append(out, "waits: "+p.Problem.Error())
	}
	if p.Status != nil {
		out = append(out, fmt.Sprintf("left with %d addresses", len(p.Status.Ingress)))
	}
	for _, c := range p.Claims {
		words := []string{"claim", strings.TrimPrefix(c.Key.String(), "lab/default/")}
		for _, pool := range c.Pools {
			words = append(words, pool.Name)
		}
		if c.Addr.IsValid() {
			words = append(words, "asked", c.Addr.String())
		}
		if c.Held.IsValid() {
			words = append(words, "held", c.Held.String())
		}
		for _, f := range c.Former {
			words = append(words, "from", strings.TrimPrefix(f.String(), "lab/default/"))
		}
		if c.Hostname != "" {
			words = append(words, "as", c.Hostname)
		}
		if c.Optional {
			words = append(words, "optional")
		}
		if c.HeldYields {
			words = append(words, "yields")
		}
		out = append(out, strings.Join(words, " "))
	}
	return out
}

func TestDecide(t *testing.T) {
	gold := &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "gold"}}
	local := func(app string) servicetest.Edit {
		return func(s *corev1.Service) {
			s.Spec.ExternalTrafficPolicy, s.Spec.Selector = corev1.ServiceExternalTrafficPolicyLocal, map[string]string{"app": app}
		}
	}
	has := servicetest.WithAddrs
	admitted := func(m Member) Member { m.Admitted = true; return m }
	changed := func(m Member) Member { m.Admitted, m.Changed = true, true; return m }
	lab := func(m Member) Member { m.Class = "lab"; return m }
	selfChanged := func(f *Facts) { f.Group.Self = changed(f.Group.Self) }
	tests := []struct {
		rule  string
		facts Facts
		want  []string // each is a beginning
	}{
		{"C2 a class that does not exist", about(web(), func(f *Facts) { f.ClassProblem = errors.New("there is no class") }), []string{"waits: there is no class"}},
		{"C3 no class and no default", about(web(), func(f *Facts) { f.ClassProblem = ErrNoDefault }), []string{"waits: the Service names no class"}},
		{"C4 the default that it had its address from is gone", about(web(has("192.0.2.1")), func(f *Facts) { f.ClassProblem = ErrNoDefault }), []string{"keep"}},
		{"C5 the pools in the order of the class", about(web()), []string{"claim web/ipv4 a b"}},
		{"C6 missing, invalid and unavailable pools are passed over", about(web(), func(f *Facts) {
			f.Class = class("nope", "bad", "away", "a")
			f.Pools["bad"] = inlinePool("bad", "192.0.2.0")
			away := ipam.Pool{Name: "away", Spec: v1alpha1.AddressPoolSpec{NetBox: &v1alpha1.NetBoxSource{Selector: &v1alpha1.NetBoxSelector{}}}}
			away.Problem = &ipam.UnavailableError{Doing: "listing prefixes", Err: errors.New("refused")}
			f.Pools["away"] = away
		}), []string{"claim web/ipv4 a"}},
		{"C7 a pool for other namespaces", about(web(), func(f *Facts) {
			p := f.Pools["a"]
			p.Spec.NamespaceSelector = gold
			f.Pools["a"] = p
		}), []string{"claim web/ipv4 b"}},
		{"C7 a class for other namespaces", about(web(), func(f *Facts) { f.Class.Spec.NamespaceSelector = gold }), []string{`waits: LoadBalancerClass "public" is not for this namespace`}},
		{"C7 a class for this namespace", about(web(), func(f *Facts) {
			f.Class.Spec.NamespaceSelector, f.NamespaceLabels = gold, map[string]string{"tier": "gold"}
		}), []string{"claim web/ipv4 a b"}},
		{"C8 a pool that is used by hand, named", about(web(servicetest.Annotated(v1alpha1.AnnotationPool, "hand"))), []string{"claim web/ipv4 hand"}},
		{"C8 a pool that is used by hand, by address", about(web(asks("198.51.100.3"))), []string{"claim web/ipv4 hand asked 198.51.100.3"}},
		{"C9 a named pool and no other one", about(web(servicetest.Annotated(v1alpha1.AnnotationPool, "b"))), []string{"claim web/ipv4 b"}},
		{"C10 a pool that the class does not list", about(web(servicetest.Annotated(v1alpha1.AnnotationPool, "gold"))), []string{`waits: annotation bm-ccm.io/pool names pool "gold"`}},
		{"C11 one address for each family", about(web(servicetest.DualStack(corev1.IPFamilyPolicyRequireDualStack))), []string{"claim web/ipv4 a b", "claim web/ipv6 b"}},
		{"C11 a family that no pool has", about(web(servicetest.DualStack(corev1.IPFamilyPolicyRequireDualStack)), func(f *Facts) { f.Class = class("a") }), []string{`waits: LoadBalancerClass "public" has no pool with ipv6`}},
		{"C12 the second family is optional", about(web(servicetest.DualStack(corev1.IPFamilyPolicyPreferDualStack))), []string{"claim web/ipv4 a b", "claim web/ipv6 b optional"}},
		{"C12 and done without where no pool has it", about(web(servicetest.DualStack(corev1.IPFamilyPolicyPreferDualStack)), func(f *Facts) { f.Class = class("a") }), []string{"claim web/ipv4 a"}},
		{"C13 an asked-for address of one of the pools", about(web(asks("203.0.113.5"))), []string{"claim web/ipv4 b asked 203.0.113.5"}},
		{"C13 an asked-for address of no pool", about(web(asks("10.0.0.1"))), []string{"waits: address 10.0.0.1 is in none of the pools"}},
		{"C15 another address than the one it has", about(web(has("192.0.2.1"), asks("192.0.2.7"))), []string{"claim web/ipv4 a asked 192.0.2.7 held 192.0.2.1"}},
		{"C16 an annotation that cannot be read", about(web(has("192.0.2.1"), asks("soon"))), []string{`waits: annotation bm-ccm.io/addresses: "soon" is not`}},
		{"G2 what it has is what it is to keep", about(web(has("192.0.2.1"))), []string{"claim web/ipv4 a b held 192.0.2.1"}},
		{"N5 also where no pool has it any more", about(web(has("10.0.0.1"))), []string{"claim web/ipv4 a b held 10.0.0.1"}},

		{"S1 the group's claim, not its own", about(sharing(), inGroup("192.0.2.1", member("old", 443, 9, has("192.0.2.1")))), []string{"claim +k/ipv4 a b held 192.0.2.1"}},
		{"S2 the same port as an older one", about(sharing(), inGroup("", member("old", 80, 9))), []string{`waits: annotation bm-ccm.io/sharing-key: cannot share "k" with Service "old": both have port TCP/80`}},
		{"S2 the same port, another protocol", about(sharing(), inGroup("", member("old", 80, 9, func(s *corev1.Service) { s.Spec.Ports[0].Protocol = corev1.ProtocolUDP }))), []string{"claim +k/ipv4 a b from web/ipv4"}},
		{"S3 another class", about(sharing(), inGroup("", lab(member("old", 443, 9)))), []string{`waits: annotation bm-ccm.io/sharing-key: cannot share "k" with Service "old": its LoadBalancerClass is "lab"`}},
		{"S4 Cluster and Local", about(sharing(local("x")), inGroup("", member("old", 443, 9))), []string{`waits: annotation bm-ccm.io/sharing-key: cannot share "k" with Service "old": its spec.externalTrafficPolicy is Cluster`}},
		{"S4 Local and one selector", about(sharing(local("x")), inGroup("", member("old", 443, 9, local("x")))), []string{"claim +k/ipv4 a b from web/ipv4"}},
		{"S5 two addresses", about(sharing(asks("192.0.2.7")), inGroup("", member("old", 443, 9, asks("192.0.2.8")))), []string{`waits: annotation bm-ccm.io/sharing-key: cannot share "k" with Service "old": it has or asks for 192.0.2.8`}},
		{"S5 what another one asks for counts for all", about(sharing(), inGroup("", member("new", 443, 1, asks("192.0.2.8")))), []string{"claim +k/ipv4 a asked 192.0.2.8 from web/ipv4"}},
		{"S6 and names the other one", about(sharing(), inGroup("192.0.2.1", member("x", 80, 1, has("192.0.2.1")))), []string{`waits: annotation bm-ccm.io/sharing-key: cannot share "k" with Service "x"`}},
		{"S7 the current holder, though it is younger", about(sharing(), inGroup("192.0.2.1", member("young", 80, 1, has("192.0.2.1")))), []string{"waits: "}},
		{"S7 the current holder, though its status does not show it yet", about(sharing(), inGroup("192.0.2.1", admitted(member("young", 80, 1)))), []string{"waits: "}},
		{"S8 the holder that has not changed", about(sharing(has("192.0.2.1")), inGroup("192.0.2.1", changed(member("old", 80, 9, has("192.0.2.1"))))), []string{"claim +k/ipv4 a b held 192.0.2.1"}},
		{"S9 the older one of two", about(sharing(), inGroup("", member("young", 80, 1))), []string{"claim +k/ipv4 a b from web/ipv4"}},
		{"S10 it changed its port to one that another one has", about(sharing(has("192.0.2.1")), inGroup("192.0.2.1", member("old", 80, 1, has("192.0.2.1"))), selfChanged), []string{"waits: ", "left with 0 addresses"}},
		{"S10 it keeps an address of its own", about(sharing(has("203.0.113.9")), inGroup("192.0.2.1", member("old", 80, 1, has("192.0.2.1")))), []string{"waits: "}},
		{"S10 it keeps the shared one where no port is in the way", about(sharing(has("192.0.2.1"), asks("192.0.2.9")), inGroup("192.0.2.1", member("old", 443, 1, has("192.0.2.1")))), []string{"waits: "}},
		{"S13 it brings its address along", about(sharing(has("192.0.2.3")), inGroup("", member("new", 443, 1)), func(f *Facts) {
			f.Own = []ipam.Claim{{Key: service.ClaimKey("lab", f.Service, ipam.IPv4), Addr: netip.MustParseAddr("192.0.2.3")}}
		}), []string{"claim +k/ipv4 a b held 192.0.2.3 from web/ipv4 yields"}},
		{"S13 it keeps an address that is not known to be its own", about(sharing(has("192.0.2.3")), inGroup("", member("new", 443, 1))), []string{"claim +k/ipv4 a b held 192.0.2.3 from web/ipv4"}},
		{"S14 it gives up its own", about(sharing(has("192.0.2.3")), inGroup("192.0.2.1", member("old", 443, 9, has("192.0.2.1")))), []string{"claim +k/ipv4 a b held 192.0.2.1"}},
		{"S15 it leaves others behind", about(web(has("192.0.2.1")), leaves("k", "192.0.2.1", member("old", 443, 9, has("192.0.2.1")))), []string{"claim web/ipv4 a b"}},
		{"S16 it is the last one", about(web(has("192.0.2.1")), leaves("k", "192.0.2.1")), []string{"claim web/ipv4 a b held 192.0.2.1 from +k/ipv4 yields"}},
		{"S16 it takes the address of one group to another", about(sharing(has("192.0.2.1")), leaves("l", "192.0.2.1"), inGroup("")), []string{"claim +k/ipv4 a b held 192.0.2.1 from +l/ipv4 from web/ipv4"}},
		{"S17 one asks for another address", about(sharing(has("192.0.2.1")), inGroup("192.0.2.1", member("new", 443, 1, has("192.0.2.1"), asks("192.0.2.7")))), []string{"claim +k/ipv4 a b held 192.0.2.1"}},
		{"S17 all ask for another address", about(sharing(has("192.0.2.1"), asks("192.0.2.7")), inGroup("192.0.2.1", member("new", 443, 1, has("192.0.2.1"), asks("192.0.2.7")))), []string{"claim +k/ipv4 a asked 192.0.2.7 held 192.0.2.1"}},
		{"S18 the name of the oldest one that gives one", about(sharing(servicetest.Annotated(v1alpha1.AnnotationHostname, "web.example.org")),
			inGroup("", member("oldest", 443, 9), member("young", 8080, 1, servicetest.Annotated(v1alpha1.AnnotationHostname, "young.example.org")))),
			[]string{"claim +k/ipv4 a b from web/ipv4 as web.example.org"}},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			got := describe(Decide(tt.facts))
			if len(got) != len(tt.want) {
				t.Fatalf("got %q, want %q", got, tt.want)
			}
			for i, want := range tt.want {
				exact := strings.HasPrefix(want, "claim")
				if exact && got[i] != want || !strings.HasPrefix(got[i], want) {
					t.Errorf("got %q, want %q", got[i], want)
				}
			}
		})
	}
}

func TestClassOf(t *testing.T) {
	named := func(name string, isDefault bool) *v1alpha1.LoadBalancerClass {
		return &v1alpha1.LoadBalancerClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.LoadBalancerClassSpec{Default: isDefault}}
	}
	of := func(class string) *corev1.Service {
		svc := web()
		svc.Annotations[service.ClassAnnotation] = class
		return svc
	}
	public, lab, second := named("public", false), named("lab", true), named("second", true)
	for _, tt := range []struct {
		rule    string
		svc     *corev1.Service
		classes []*v1alpha1.LoadBalancerClass
		want    string
		problem string
	}{
		{"C1 by its name", of("bm-ccm.io/public"), []*v1alpha1.LoadBalancerClass{lab, public}, "public", ""},
		{"C2 there is none of that name", of("bm-ccm.io/nope"), []*v1alpha1.LoadBalancerClass{public, lab}, "", `there is no LoadBalancerClass "nope": create it, or recreate the Service with one that exists (bm-ccm.io/lab, bm-ccm.io/public)`},
		{"C2 there is none at all", of("bm-ccm.io/nope"), nil, "", "(there is none yet)"},
		{"C3 the default", of(""), []*v1alpha1.LoadBalancerClass{public, lab}, "lab", ""},
		{"C3 two defaults", of(""), []*v1alpha1.LoadBalancerClass{second, public, lab}, "", "mark one class as default"},
		{"C3 no default", of(""), []*v1alpha1.LoadBalancerClass{public}, "", "mark one class as default"},
	} {
		class, err := ClassOf(tt.svc, tt.classes)
		switch {
		case err != nil && (tt.problem == "" || !strings.Contains(err.Error(), tt.problem)):
			t.Errorf("%s: %v", tt.rule, err)
		case err == nil && class.Name != tt.want:
			t.Errorf("%s: %s, want %s", tt.rule, class.Name, tt.want)
		}
	}
}

// result says in a line each what an outcome is.
func result(o Outcome) []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if o.Status != nil {
		words := []string{"status"}
		for _, in := range o.Status.Ingress {
			words = append(words, in.IP)
		}
		add("%s", strings.Join(words, " "))
	}
	if o.Event != "" {
		add("event %s", o.Event)
	}
	if o.Waiting != nil {
		add("waits %v", o.Waiting)
	}
	if o.Unasked != nil {
		add("unasked")
	}
	if o.Moved != "" {
		add("moved %s", o.Moved)
	}
	for _, m := range o.NotRetained {
		add("not retained %s", m)
	}
	if o.Release.Own {
		add("release its own but %d", len(o.Release.Except))
	}
	for _, g := range o.Release.Leave {
		add("leave %s", g.SharingKey)
	}
	if o.Release.Shrink {
		add("shrink")
	}
	return out
}

func TestConclude(t *testing.T) {
	has, both := servicetest.WithAddrs, servicetest.DualStack(corev1.IPFamilyPolicyPreferDualStack)
	addr := netip.MustParseAddr
	away := &ipam.UnavailableError{Doing: "claiming", Err: errors.New("refused")}
	full := &ipam.ExhaustedError{Family: ipam.IPv6, Pools: []string{"pool b is full"}}
	moved := &ipam.MovedError{Held: addr("192.0.2.1"), Recorded: addr("192.0.2.9"), Where: "NetBox address 17"}
	taken := &ipam.ConflictError{Addr: addr("192.0.2.7"), Holder: "claim lab/default/db/ipv4"}
	claim := func(pool, a string) ipam.Claim {
		return ipam.Claim{Pool: pool, Addr: addr(a)}
	}
	second := ipam.Claim{Key: service.ClaimKey("lab", web(), ipam.IPv6), Addr: addr("2001:db8::1")}
	reserved := second
	reserved.Reserved = true
	type answer struct {
		claim ipam.Claim
		err   error
	}
	got := func(pool, a string) answer { return answer{claim: claim(pool, a)} }
	tests := []struct {
		rule    string
		facts   Facts
		answers []answer
		own     []ipam.Claim
		want    []string
	}{
		{"C5 a new address", about(web()), []answer{got("a", "192.0.2.1")}, nil, []string{"status 192.0.2.1", `event Assigned 192.0.2.1 from pool "a" (class "public")`}},
		{"C11 one for each family", about(web(both)), []answer{got("a", "192.0.2.1"), got("b", "2001:db8::1")}, nil, []string{"status 192.0.2.1 2001:db8::1", "event Assigned 192.0.2.1 from pool \"a\" and 2001:db8::1 from pool \"b\" (class \"public\")"}},
		{"C12 no second one is free", about(web(both)), []answer{got("a", "192.0.2.1"), {err: full}}, nil, []string{"status 192.0.2.1", `event Assigned 192.0.2.1 from pool "a" (class "public")`}},
		{"C12 no first one is free", about(web()), []answer{{err: full}}, nil, []string{"waits pool b is full"}},
		{"C14 somebody else has it", about(web(has("192.0.2.1"), asks("192.0.2.7"))), []answer{{err: taken}}, nil, []string{"waits address 192.0.2.7 is taken by claim lab/default/db/ipv4"}},
		{"C15 it moves", about(web(has("192.0.2.1"), asks("192.0.2.7"))), []answer{got("a", "192.0.2.7")}, nil, []string{"status 192.0.2.7", "event Assigned", "release its own but 1"}},
		{"C16 a request that cannot be met", about(web(has("192.0.2.1"), asks("10.0.0.1"))), nil, nil, []string{"waits address 10.0.0.1 is in none"}},
		{"G2 NetBox is away", about(web(has("192.0.2.1"))), []answer{{err: away}}, nil, []string{"status 192.0.2.1", "unasked"}},
		{"G2 NetBox is away, and it has no address", about(web()), []answer{{err: away}}, nil, []string{"waits claiming: refused"}},
		{"G2 NetBox is away, and it wants another one", about(web(has("192.0.2.1"), asks("192.0.2.7"))), []answer{{err: away}}, nil, []string{"waits claiming: refused"}},
		{"G3 it gave up a family", about(web(has("192.0.2.1", "2001:db8::1"))), []answer{got("a", "192.0.2.1")}, nil, []string{"status 192.0.2.1", "event Assigned", "release its own but 1"}},
		{"G3 it gave up a family that no status named", about(web(has("192.0.2.1"))), []answer{got("a", "192.0.2.1")}, []ipam.Claim{second}, []string{"status 192.0.2.1", "event Assigned", "release its own but 1"}},
		{"G3 what is only reserved for it stays", about(web(has("192.0.2.1"))), []answer{got("a", "192.0.2.1")}, []ipam.Claim{reserved}, []string{"status 192.0.2.1", "event Assigned"}},
		{"N2 N3 N4 NetBox gives it another one", about(web(has("192.0.2.1"))), []answer{{err: moved}}, nil, []string{"status 192.0.2.1", "event Assigned 192.0.2.1 (class", "moved this Service has 192.0.2.1 and keeps it, but NetBox address 17 gives it 192.0.2.9"}},
		{"S12 S14 it joined with an address of its own", about(sharing(has("192.0.2.3")), inGroup("192.0.2.1", member("old", 443, 9, has("192.0.2.1")))), []answer{got("a", "192.0.2.1")}, nil, []string{"status 192.0.2.1", "event Assigned", "release its own but 1", "shrink"}},
		{"S15 it left a group", about(web(has("192.0.2.1")), leaves("k", "192.0.2.1", member("old", 443, 9, has("192.0.2.1")))), []answer{got("a", "192.0.2.2")}, nil, []string{"status 192.0.2.2", "event Assigned", "release its own but 1", "leave k"}},
		{"a pool that cannot retain", about(web(servicetest.Annotated(v1alpha1.AnnotationRetain, "true"))), []answer{got("a", "192.0.2.1")}, nil, []string{"status 192.0.2.1", "event Assigned", `not retained 192.0.2.1 will not stay reserved (annotation bm-ccm.io/retain): pool "a"`}},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			plan := Decide(tt.facts)
			out, settled := plan.Settled()
			claimed := Claimed{Own: tt.own}
			for i, a := range tt.answers {
				wanted := plan.Claims[i]
				a.claim.Key = wanted.Key
				if err := claimed.Add(wanted, service.Addr(tt.facts.Service, wanted.Key.Family), a.claim, a.err); err != nil {
					out, settled = Failed(tt.facts.Service, err), true
				}
			}
			if !settled {
				out = plan.Conclude(claimed)
			}
			got := result(out)
			if len(got) != len(tt.want) {
				t.Fatal(cmp.Diff(tt.want, got))
			}
			for i, want := range tt.want {
				if !strings.HasPrefix(got[i], want) {
					t.Errorf("got %q, want %q", got[i], want)
				}
			}
		})
	}
}
