// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox/contracttest"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/netboxtest"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/schema"
)

// envModelSeed makes TestModel play the games of a run that printed it.
const envModelSeed = "MODEL_SEED"

// TestModel plays the controller, its users and an engineer against the
// allocator, with crashes and faults, and compares what NetBox has with a
// simple model.
func TestModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv(envModelSeed); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s=%d", envModelSeed, seed)
	games := uint64(200)
	if testing.Short() {
		games = 20
	}
	versions := []string{"4.4", "4.5", "4.6", "4.7"}
	for i := range games {
		g := newGame(t, seed+i, versions[i%4])
		g.play(30)
		if t.Failed() {
			t.Fatalf("%s=%d, NetBox %s; what was done:\n%s", envModelSeed, seed+i, versions[i%4], strings.Join(g.story, "\n"))
		}
	}
}

// modelled is a Service as its users and the API server know it.
type modelled struct {
	name string
	// uid is empty while there is no Service of this name.
	uid string
	// leaving: it is deleted, but its claim is not released yet.
	leaving, retain bool
	asked, status   netip.Addr
	// kept is what NetBox keeps for this name while there is no Service: retained,
	// or written by the engineer, whose records outlive the Service.
	kept netip.Addr
	// byHand tells that the record of kept is the engineer's.
	byHand bool
	// moving: NetBox has two records of it, since its status names its new address
	// and the former one is not yet released, or the engineer wants it elsewhere.
	// Retain keeps the one that holds the key itself.
	moving bool
	// wish is where the engineer wants to have it, other than where it is.
	wish int64
}

func (s *modelled) there() bool { return s.uid != "" && !s.leaving }

// game is one play. Users may ask the first half of the Services for addresses,
// the engineer writes about the others.
type game struct {
	t         *testing.T
	dice      *rand.Rand
	netbox    *netboxtest.Server
	target    contracttest.Target
	allocator *netbox.Allocator
	services  []*modelled
	story     []string
	uids      int
	// notes are descriptions that the engineer has written, by id.
	notes map[int64]string
}

func newGame(t *testing.T, seed uint64, version string) *game {
	t.Helper()
	srv := netboxtest.New(netboxtest.Options{Version: version, Seed: seed4model(), Tokens: []netboxtest.Token{
		{User: "lab", Key: fencedToken, Permissions: netboxtest.FencedPermissions("lab")},
	}})
	hs := httptest.NewServer(srv)
	t.Cleanup(hs.Close)
	g := &game{
		t: t, dice: rand.New(rand.NewPCG(seed, 0)), netbox: srv, notes: map[int64]string{},
		target: contracttest.Target{URL: hs.URL, TokenFile: writeToken(t, fencedToken)},
	}
	for i := range 8 {
		g.services = append(g.services, &modelled{name: fmt.Sprintf("s%d", i)})
	}
	g.restart()
	return g
}

func seed4model() *netboxtest.Seed {
	return &netboxtest.Seed{ClaimFields: true, Prefixes: []netboxtest.SeedPrefix{{Prefix: "203.0.113.0/24"}}}
}

func (g *game) tell(format string, args ...any) {
	g.story = append(g.story, fmt.Sprintf(format, args...))
}

func (g *game) wrong(format string, args ...any) {
	g.t.Helper()
	g.tell("WRONG: "+format, args...)
	g.t.Errorf(format, args...)
}

// restart is what a crash is to NetBox.
func (g *game) restart() {
	g.t.Helper()
	g.netbox.ClearFaults()
	g.allocator = newAllocator(g.t, g.target)
}

// play makes moves, then ends what is open and compares.
func (g *game) play(moves int) {
	g.t.Helper()
	for range moves {
		g.move()
		g.recorded()
		if g.t.Failed() {
			return
		}
	}
	g.restart()
	g.grant()
	// Once for what is open, once more for what waits until a status is written.
	for range 2 {
		for _, s := range g.services {
			g.sync(s)
			if s.uid != "" && (s.leaving || !s.status.IsValid()) {
				g.wrong("%s: left waiting without faults", s.name)
			}
		}
	}
	g.compare()
}

// move does one thing.
func (g *game) move() {
	g.t.Helper()
	s := g.services[g.dice.IntN(len(g.services))]
	switch g.dice.IntN(10) {
	case 0, 1:
		g.user(s)
	case 2:
		g.engineer(s)
	case 3:
		g.tell("list")
		if _, err := g.allocator.List(g.t.Context()); err != nil {
			g.failed("list", err)
		}
	case 4:
		g.find(s)
	case 5:
		g.user(s)
		g.crash(s)
	case 6:
		g.user(s)
		g.faulty(s)
	default:
		g.user(s)
		g.sync(s)
	}
}

// user creates, changes or deletes a Service.
func (g *game) user(s *modelled) {
	byName := slices.Index(g.services, s) < len(g.services)/2
	switch {
	case s.leaving: // its user waits
	case s.uid == "":
		g.uids++
		s.uid, s.retain = fmt.Sprintf("uid-%d", g.uids), g.dice.IntN(4) == 0
		if byName && g.dice.IntN(2) == 0 {
			s.asked = g.address(s)
		}
		g.tell("create %s, %s, asks for %v, retain %t", s.name, s.uid, s.asked, s.retain)
	case g.dice.IntN(3) > 0 || !byName:
		if g.dice.IntN(2) == 0 {
			s.leaving = true
			g.tell("delete %s", s.name)
		}
	case g.dice.IntN(3) == 0:
		s.asked = netip.Addr{}
		g.tell("%s asks for nothing", s.name)
	default:
		s.asked = g.address(s)
		g.tell("%s asks for %s", s.name, s.asked)
	}
}

// address is one of three that nobody else asks for, and which are above all
// that NetBox hands out first.
func (g *game) address(s *modelled) netip.Addr {
	n := 100 + 3*slices.Index(g.services, s) + g.dice.IntN(3)
	return netip.AddrFrom4([4]byte{203, 0, 113, byte(n)})
}

// sync is what the controller does when it looks at a Service. It returns
// false when that failed.
func (g *game) sync(s *modelled) bool {
	g.t.Helper()
	key := request(s.name, "").Key
	switch {
	case s.uid == "":
		return true
	case s.leaving:
		return g.end(s, key)
	}
	r := request(s.name, "")
	r.Owner.UID, r.Addr, r.Held = s.uid, s.asked, s.status
	c, err := g.allocator.Claim(g.t.Context(), r)
	g.tell("claim %s, asks for %v, has %v: %v, %v", s.name, r.Addr, r.Held, c.Addr, err)
	var moved *ipam.MovedError
	if errors.As(err, &moved) && s.wish != 0 && moved.Held == s.status {
		return true // the engineer wants it elsewhere, and it stays
	}
	if err != nil {
		g.failed("claim of "+s.name, err)
		return false
	}
	g.granted(s, c.Addr)
	return true
}

// granted checks the address that a Service gets, and writes its status.
func (g *game) granted(s *modelled, addr netip.Addr) {
	g.t.Helper()
	want := s.asked
	if !want.IsValid() {
		want = s.status
	}
	if !want.IsValid() {
		want = s.kept
	}
	if want.IsValid() && addr != want {
		g.wrong("%s got %s, want %s", s.name, addr, want)
	}
	for _, o := range g.services {
		// Who leaves may have been released before the answer was lost.
		if o != s && o.status == addr && !o.leaving {
			g.wrong("%s got %s, which %s has", s.name, addr, o.name)
		}
	}
	s.moving = s.status.IsValid() && s.status != addr
	s.status = addr
	if !s.byHand {
		s.kept = netip.Addr{} // it is in use, and no longer kept
	}
}

// end lets a deleted Service go.
func (g *game) end(s *modelled, key ipam.Key) bool {
	g.t.Helper()
	free, name := g.allocator.Release, "release"
	if s.retain {
		free, name = g.allocator.Retain, "retain"
	}
	err := free(g.t.Context(), key)
	g.tell("%s %s: %v", name, s.name, err)
	if err != nil {
		g.failed(name+" of "+s.name, err)
		return false
	}
	switch records := g.recordsOf(key.String()); {
	case s.wish != 0:
		s.kept, s.byHand, s.wish = g.addressOf(s.wish), true, 0
	case s.byHand: // it stays as it was
	case s.retain && s.status.IsValid() && !s.moving:
		s.kept = s.status
	case s.retain && len(records) == 1: // the controller died before it told of it, or in the middle of a move
		s.kept = g.addressOf(records[0].ID)
	default:
		s.kept = netip.Addr{}
	}
	s.uid, s.leaving, s.moving, s.status, s.asked = "", false, false, netip.Addr{}, netip.Addr{}
	return true
}

// failed wants errors only where there are reasons. Some of them end with the
// process: a open circuit stays closed for half a second, and what NetBox's
// set-up lacks is remembered for a second, for which no test has the time.
func (g *game) failed(what string, err error) {
	g.t.Helper()
	var away *ipam.UnavailableError
	isAway := errors.As(err, &away)
	if !isAway && !errors.As(err, new(*ipam.ConfigError)) {
		g.wrong("%s: %v", what, err)
	}
	if !isAway || away.RetryAfter > 0 || g.dice.IntN(4) == 0 {
		g.tell("restart")
		g.restart()
	}
}

// recorded wants every address in use to be recorded, at every moment.
func (g *game) recorded() {
	g.t.Helper()
	for _, s := range g.services {
		if !s.there() || !s.status.IsValid() {
			continue
		}
		records := g.recordsOf(request(s.name, "").Key.String())
		if !slices.ContainsFunc(records, func(a netboxtest.Address) bool { return netip.MustParsePrefix(a.Address).Addr() == s.status }) {
			g.wrong("%s has %s, and NetBox records %v", s.name, s.status, records)
		}
	}
}

// find wants what the Service has to be found.
func (g *game) find(s *modelled) {
	g.t.Helper()
	found, err := g.allocator.Find(g.t.Context(), "default", s.name)
	g.tell("find %s: %v, %v", s.name, found, err)
	if err != nil {
		g.failed("find", err)
		return
	}
	if s.there() && s.status.IsValid() && s.wish == 0 && len(found) != 1 {
		g.wrong("find of %s, which has %s: %v", s.name, s.status, found)
	}
}

// crash lets the process die at some request of a sync, done or not done.
func (g *game) crash(s *modelled) {
	g.t.Helper()
	step := g.dice.IntN(8)
	death := netboxtest.Fault{Reset: true}
	if g.dice.IntN(2) == 0 {
		death = netboxtest.Fault{LoseAnswerAfterCommit: true, Times: 1}
	}
	death.Skip = step
	g.netbox.Inject(death)
	g.netbox.Inject(netboxtest.Fault{Skip: step, Reset: true}) // the dead send nothing
	g.tell("crash at request %d, done %t:", step, death.LoseAnswerAfterCommit)
	g.sync(s)
	g.tell("restart")
	g.restart()
}

// faulty lets one or two requests of a sync fail.
func (g *game) faulty(s *modelled) {
	g.t.Helper()
	faults := []netboxtest.Fault{
		{Status: http.StatusServiceUnavailable}, {Status: http.StatusBadGateway, HTMLBody: true}, {Status: http.StatusForbidden},
		{LoseAnswerAfterCommit: true}, {Reset: true}, {Truncate: true}, {HTMLBody: true},
	}
	f := faults[g.dice.IntN(len(faults))]
	f.Skip, f.Times = g.dice.IntN(4), 1+g.dice.IntN(2)
	if g.dice.IntN(2) == 0 {
		f.Method = []string{http.MethodPost, http.MethodPatch, http.MethodDelete, http.MethodGet}[g.dice.IntN(4)]
	}
	g.tell("fault %+v:", f)
	g.netbox.Inject(f)
	g.sync(s)
	g.netbox.ClearFaults()
}

// engineer writes into NetBox by hand.
func (g *game) engineer(s *modelled) {
	g.t.Helper()
	key := request(s.name, "").Key.String()
	half := len(g.services) / 2
	switch records := g.recordsOf(key); {
	case slices.Index(g.services, s) >= half && s.uid == "" && !s.kept.IsValid() && len(records) == 0:
		s.kept, s.byHand = g.address(s), true
		g.tell("the engineer gives %s to %s", s.kept, s.name)
		g.hand(map[string]any{"address": s.kept.String() + "/32", "custom_fields": map[string]any{schema.FieldClaim: key, schema.FieldCluster: "lab"}})
	case slices.Index(g.services, s) >= half && s.there() && s.status.IsValid() && !s.byHand && s.wish == 0 && len(records) == 1:
		g.displace(s, records[0].ID)
	case len(records) == 1:
		id := records[0].ID
		g.notes[id] = fmt.Sprintf("note %d", len(g.story))
		g.tell("the engineer describes record %d of %s", id, s.name)
		g.hand(map[string]any{"id": id, "description": g.notes[id]})
	}
}

// displace gives the record of a Service another address, and lets the
// controller see that.
func (g *game) displace(s *modelled, id int64) {
	g.t.Helper()
	addr := g.address(s)
	if addr == s.status {
		return
	}
	g.tell("the engineer gives record %d of %s the address %s", id, s.name, addr)
	g.hand(map[string]any{"id": id, "address": addr.String() + "/32"})
	s.wish, s.moving = id, true
	g.restart() // it has seen nothing yet, so it will see this
	g.sync(s)
}

// grant has the engineer give up where the Service is not moved.
func (g *game) grant() {
	g.t.Helper()
	for _, s := range g.services {
		if s.wish != 0 {
			g.tell("the engineer clears the claim of record %d", s.wish)
			g.hand(map[string]any{"id": s.wish, "custom_fields": map[string]any{schema.FieldClaim: nil}})
			s.wish = 0
		}
	}
}

func (g *game) hand(data map[string]any) {
	g.t.Helper()
	if _, err := g.netbox.WriteBehindBack(data); err != nil {
		g.wrong("the engineer cannot write %v: %v", data, err)
	}
}

// recordsOf are the records of a claim, with their addresses.
func (g *game) recordsOf(key string) []netboxtest.Address {
	var out []netboxtest.Address
	for _, a := range g.netbox.Addresses() {
		if claim, _ := a.CustomFields[schema.FieldClaim].(string); claim == key || claim == key+"#next" {
			out = append(out, a)
		}
	}
	return out
}

// addressOf is the address of a record; invalid if that is gone.
func (g *game) addressOf(id int64) netip.Addr {
	for _, a := range g.netbox.Addresses() {
		if a.ID == id {
			return netip.MustParsePrefix(a.Address).Addr()
		}
	}
	return netip.Addr{}
}

// compare wants NetBox to have what the model has, and nothing else.
func (g *game) compare() {
	g.t.Helper()
	want := map[string]string{}
	for _, s := range g.services {
		addr := s.status
		if s.uid == "" {
			addr = s.kept
		}
		if addr.IsValid() {
			want[request(s.name, "").Key.String()] = fmt.Sprintf("%s of %q", addr, s.uid)
		}
	}
	for _, a := range g.netbox.Addresses() {
		text := func(field string) string { s, _ := a.CustomFields[field].(string); return s }
		claim := text(schema.FieldClaim)
		if text(schema.FieldServiceUID) == "" {
			// Retained in the middle of a move; the next claim makes it the key's.
			claim = strings.TrimSuffix(claim, "#next")
		}
		has := fmt.Sprintf("%s of %q", netip.MustParsePrefix(a.Address).Addr(), text(schema.FieldServiceUID))
		if claim != "" && want[claim] != has {
			g.wrong("record %d: claim %s has %s, want %s", a.ID, claim, has, want[claim])
		}
		if note := g.notes[a.ID]; note != "" && a.Description != note {
			g.wrong("record %d: the description is %q, want %q", a.ID, a.Description, note)
		}
		if claim == "" && text(schema.FieldServiceUID) != "" {
			g.wrong("record %d, %s, has an owner and no claim", a.ID, a.Address)
		}
		delete(want, claim)
	}
	for claim, has := range want {
		g.wrong("claim %s is not recorded, want %s", claim, has)
	}
}
