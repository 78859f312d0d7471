// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// envRounds is how many rounds TestChurn has.
	envRounds     = "CRASH_ROUNDS"
	defaultRounds = 10
	// envSeed makes the dice of TestChurn fall as in a run that printed it. What
	// happens between processes still differs from run to run.
	envSeed = "CRASH_SEED"
	// patienceAlone is longer than the period of the comparison with the cluster, which is what finds
	// the rest of a change that failed where nobody waits for it.
	patienceAlone = 6 * time.Minute
	// crowd is how many names Services have in TestChurn.
	crowd = 30
)

func fromEnv(t *testing.T, name string, fallback uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return fallback
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s=%s: want a number", name, text)
	}
	return n
}

// churn is what users, crashes and faults do to a crowd of Services.
type churn struct {
	*harness
	dice *rand.Rand
	seen *witness
	// crashes counts the kills, changes what users did, byChance those kills
	// that came at a time of their own and not at a write.
	crashes, changes, byChance int
	naturally                  []time.Duration
}

// TestChurn lets users create, change and delete Services for some rounds, with
// crashes at random writes and times, and a NetBox that fails in all ways.
// After each round all must be as it should be, without the help of that comparison.
func TestChurn(t *testing.T) {
	seed := fromEnv(t, envSeed, uint64(time.Now().UnixNano()))
	rounds := int(fromEnv(t, envRounds, defaultRounds))
	t.Logf("%s=%d %s=%d", envSeed, seed, envRounds, rounds)
	w := newHarness(t)
	c := &churn{harness: w, dice: rand.New(rand.NewPCG(seed, seed)), seen: w.watch()}
	begin := time.Now()
	for i := range rounds {
		c.round(i)
		if t.Failed() {
			t.Fatalf("in round %d; %s=%d", i, envSeed, seed)
		}
	}
	t.Logf("%d rounds in %v: %d changes by users, %d crashes (%d of them between writes), faults of NetBox %v; healed without a restart in %v",
		rounds, time.Since(begin).Round(time.Second), c.changes, c.crashes, c.byChance, w.ipx.hitCounts(), c.naturally)
	if c.crashes < rounds/2 {
		t.Errorf("only %d crashes in %d rounds: this shows little", c.crashes, rounds)
	}
}

// mixes are the ways in which NetBox fails; a round has one of them.
var mixes = []faultMix{
	nil,
	{slow: 30},
	{down: 30, slow: 10},
	{refused: 30},
	{lost: 30},
	{reset: 30},
	{slow: 10, down: 8, refused: 8, reset: 8, lost: 8},
}

// round is some seconds of trouble, then peace until all is well.
func (c *churn) round(n int) {
	c.t.Helper()
	mix := mixes[n%len(mixes)]
	c.ipx.hurt(mix)
	c.rearm()
	for range 20 + c.dice.IntN(20) {
		if !c.controller.running() {
			c.crashes++
			c.start()
			c.rearm()
		}
		c.change(fmt.Sprintf("s%02d", c.dice.IntN(crowd)))
		time.Sleep(time.Duration(c.dice.IntN(40)) * time.Millisecond)
		if c.dice.IntN(25) == 0 {
			c.controller.kill()
			c.byChance++
		}
	}
	c.peace(mix)
	if wrongs := c.seen.take(); len(wrongs) > 0 {
		c.t.Errorf("round %d, NetBox %v: %q", n, mix, wrongs)
	}
}

// peace ends the faults and waits. After a crash the controller looks at
// everything at once; left alone after faults, it comes back to what failed
// when the wait is over that it has set itself: some rounds see to that.
func (c *churn) peace(mix faultMix) {
	c.t.Helper()
	struck, _ := c.blade.disarm()
	c.ipx.hurt(nil)
	c.ipx.busy.Wait()
	if struck != "" && !c.controller.running() {
		c.crashes++
	}
	healsAlone := mix != nil && c.dice.IntN(10) == 0
	if mix != nil && !healsAlone {
		c.controller.kill()
		c.crashes++
		c.byChance++
	}
	begin := time.Now()
	if !healsAlone {
		c.converge()
	} else {
		c.convergeWithin(patienceAlone)
		c.naturally = append(c.naturally, time.Since(begin).Round(time.Second))
	}
}

// rearm lets the controller die at one of its next writes, mostly.
func (c *churn) rearm() {
	when := before
	if c.dice.IntN(2) == 0 {
		when = after
	}
	n := c.dice.IntN(40)
	if c.dice.IntN(10) == 0 {
		n = 1 << 20 // never
	}
	c.blade.arm(n, when)
}

// change does to a Service what a user might.
func (c *churn) change(name string) {
	c.t.Helper()
	svc, err := c.kube.CoreV1().Services(namespace).Get(c.t.Context(), name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		err = c.create(name, c.shape(name))
	case err != nil:
	case svc.DeletionTimestamp != nil:
		return // its user waits
	default:
		err = c.alter(svc)
	}
	// Somebody was faster, or asked for what the API server does not allow.
	if err != nil && !apierrors.IsAlreadyExists(err) && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		c.t.Fatalf("a user's change of Service %s: %v", name, err)
	}
	c.changes++
}

// shape is how a new Service looks.
func (c *churn) shape(name string) func(*corev1.Service) {
	policies := []corev1.IPFamilyPolicy{
		corev1.IPFamilyPolicySingleStack, corev1.IPFamilyPolicySingleStack, corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack,
	}
	policy := policies[c.dice.IntN(len(policies))]
	asks := c.dice.IntN(4) == 0
	v6 := c.dice.IntN(4) == 0
	addr := c.address(name)
	return func(s *corev1.Service) {
		s.Spec.IPFamilyPolicy = &policy
		if v6 && policy == corev1.IPFamilyPolicySingleStack {
			s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol}
			return
		}
		if asks {
			asking(addr)(s)
		}
	}
}

// address is one of three that nobody else asks for; what the controller picks
// by itself is below them.
func (c *churn) address(name string) string {
	n, err := strconv.Atoi(name[1:])
	if err != nil {
		c.t.Fatal(err)
	}
	return fmt.Sprintf("198.51.100.%d", 150+3*n+c.dice.IntN(3))
}

func (c *churn) alter(svc *corev1.Service) error {
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
		if c.dice.IntN(4) == 0 {
			return c.delete(svc.Name)
		}
		return c.update(svc.Name, ofType(corev1.ServiceTypeLoadBalancer))
	}
	isV4 := svc.Spec.IPFamilies[0] == corev1.IPv4Protocol
	switch n := c.dice.IntN(12); {
	case n < 3:
		return c.delete(svc.Name)
	case n < 6:
		return c.recreate(svc.Name)
	case n < 7:
		return c.update(svc.Name, ofType(corev1.ServiceTypeClusterIP))
	case n < 9 && isV4:
		return c.update(svc.Name, asking(c.address(svc.Name)))
	case n < 10:
		return c.update(svc.Name, asking(""))
	case len(svc.Spec.IPFamilies) == 1:
		return c.update(svc.Name, families(corev1.IPFamilyPolicyRequireDualStack))
	default:
		return c.update(svc.Name, families(corev1.IPFamilyPolicySingleStack))
	}
}

// recreate deletes a Service and creates one of its name as soon as that goes.
func (c *churn) recreate(name string) error {
	if err := c.delete(name); err != nil {
		return err
	}
	shape := c.shape(name)
	var err error
	for range 40 {
		if !c.controller.running() {
			return nil
		}
		if err = c.create(name, shape); !apierrors.IsAlreadyExists(err) {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
	return err
}
