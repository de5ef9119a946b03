package node

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm"
)

// TestRoomForGuests: requests of a machine, of a tenant and of all are bounded, one tenant's leave room for others, and nothing is kept of
// those that have ended.
func TestRoomForGuests(t *testing.T) {
	g, now := newGuests(), time.Now()
	var leave []func()
	// fill lets requests in until there is no more room, of a new machine each time where id is nil.
	fill := func(id, tenant uuid.UUID) (n int) {
		t.Helper()
		for ; n < 1000; n++ {
			of := id
			if of == uuid.Nil {
				of = uuid.New()
			}
			_, done, err := g.enter(of, tenant, now)
			if errors.Is(err, vm.ErrAgentBusy) {
				return n
			}
			if err != nil {
				t.Fatal(err)
			}
			leave = append(leave, done)
		}
		return n
	}
	tenant := uuid.New()
	if n := fill(uuid.New(), tenant); n != guestsAtOnceOfAVM {
		t.Errorf("%d requests of a machine", n)
	}
	if n := fill(uuid.Nil, tenant); n != guestsAtOnceOfATenant-guestsAtOnceOfAVM {
		t.Errorf("%d more requests of a tenant", n)
	}
	for len(leave) < guestsAtOnce {
		if fill(uuid.Nil, uuid.New()) == 0 {
			t.Fatalf("no room beside %d", len(leave))
		}
	}
	if n := fill(uuid.Nil, uuid.New()); n != 0 {
		t.Errorf("%d more than there is room for", n)
	}
	for _, done := range leave {
		done()
	}
	one, done, err := g.enter(uuid.New(), tenant, now.Add(2*silenceKept))
	if err != nil || g.all != 1 || len(g.tenants) != 1 || len(g.vms) != 1 {
		t.Fatalf("%v; there are %d requests of %d tenants and %d machines", err, g.all, len(g.tenants), len(g.vms))
	}
	defer done()

	// An agent that is silent again and again is left alone for longer, up to a bound, and for no time once it has answered.
	for i, want := range []time.Duration{1, 2, 4, 4, 4} {
		g.answered(one, true, now, time.Second)
		if !g.isSilent(one, now.Add(want*time.Second-1)) || g.isSilent(one, now.Add(want*time.Second)) {
			t.Errorf("after %d silences it is left alone until %v", i+1, one.silent.Sub(now))
		}
		now = now.Add(want * time.Second)
	}
	g.answered(one, false, now, time.Second)
	g.answered(one, true, now, time.Second)
	if got := one.silent.Sub(now); got != time.Second {
		t.Errorf("after an answer it is left alone for %v", got)
	}
}
