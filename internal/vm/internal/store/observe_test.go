package store

import (
	"io/fs"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/db"
	"github.com/novacron/novacron/internal/platform/pg/pgtest"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func migrations(t testing.TB) fs.FS {
	t.Helper()
	files, err := db.Migrations("vm")
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// Reports and answers to commands tell of one change with times that differ, and arrive in any order.
func TestObserveInAnyOrder(t *testing.T) {
	s, node, ids := machines(t, 1)
	id, ctx := ids[0], t.Context()
	now := time.Now().UTC().Truncate(time.Microsecond)
	address := []nodeapi.Address{{MAC: "52:54:00:00:00:00", IP: "10.0.0.9"}}
	for _, step := range []struct {
		name    string
		epoch   int64
		status  nodeapi.Status
		state   vm.State
		address bool
	}{
		{"the answer to the start, stamped late", 0, nodeapi.Status{Observed: nodeapi.ObservedRunning, At: now}, vm.StateRunning, false},
		{"the report of the same, stamped early", 3, nodeapi.Status{Observed: nodeapi.ObservedRunning, At: now.Add(-time.Second)}, vm.StateRunning, false},
		{"its address, stamped like the report", 3, nodeapi.Status{Observed: nodeapi.ObservedRunning, At: now.Add(-time.Second), Addresses: address}, vm.StateRunning, true},
		{"an older state", 3, nodeapi.Status{Observed: nodeapi.ObservedStopped, At: now.Add(-time.Minute)}, vm.StateRunning, true},
		{"a report of a node role that was replaced", 2, nodeapi.Status{Observed: nodeapi.ObservedStopped, At: now.Add(time.Minute)}, vm.StateRunning, true},
		{"a newer state, which has no address", 3, nodeapi.Status{Observed: nodeapi.ObservedStopped, At: now.Add(time.Second)}, vm.StateStopped, false},
	} {
		step.status.VMID = id
		if known, err := s.Observe(ctx, node, step.epoch, step.status); err != nil || !known {
			t.Fatalf("%s: %v %v", step.name, known, err)
		}
		r, err := s.GetVM(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if r.State != step.state || len(r.Networks[0].Addresses) > 0 != step.address {
			t.Errorf("after %s it is %s with %v", step.name, r.State, r.Networks[0].Addresses)
		}
	}
	ready, later := now.Add(time.Minute), now.Add(time.Hour)
	for _, step := range []struct {
		name   string
		status nodeapi.Status
		ready  *time.Time
	}{
		{"a node that tells no boot", nodeapi.Status{At: now.Add(2 * time.Second), ReadyAt: &ready}, &ready},
		{"one that tells it", nodeapi.Status{At: now.Add(3 * time.Second), Boot: "k/1"}, &ready},
		{"the same boot, told again", nodeapi.Status{At: now.Add(4 * time.Second), Boot: "k/1", ReadyAt: &later}, &ready},
		{"another boot", nodeapi.Status{At: now.Add(5 * time.Second), Boot: "k/2"}, nil},
		{"the boot before, late", nodeapi.Status{At: now.Add(4 * time.Second), Boot: "k/1", ReadyAt: &ready}, nil},
		{"it is ready", nodeapi.Status{At: now.Add(6 * time.Second), Boot: "k/2", ReadyAt: &later}, &later},
		{"another one that is ready when it is first told", nodeapi.Status{At: now.Add(7 * time.Second), Boot: "k/3", ReadyAt: &ready}, &ready},
	} {
		step.status.VMID, step.status.Observed = id, nodeapi.ObservedRunning
		if _, err := s.Observe(ctx, node, 3, step.status); err != nil {
			t.Fatal(err)
		}
		r, err := s.GetVM(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if (r.ReadyAt == nil) != (step.ready == nil) || r.ReadyAt != nil && !r.ReadyAt.Equal(*step.ready) {
			t.Errorf("after %s it is ready at %v, want %v", step.name, r.ReadyAt, step.ready)
		}
	}
	later = now.Add(2 * time.Hour)
	for _, step := range []struct {
		name   string
		status nodeapi.Status
		left   int
	}{
		{"the same boot", nodeapi.Status{Boot: "k/3"}, 1},
		{"a node that tells no boot", nodeapi.Status{}, 1},
		{"saved to disk", nodeapi.Status{Observed: nodeapi.ObservedStopped, Saved: true}, 1},
		{"going on from there", nodeapi.Status{Boot: "k/4"}, 1},
		{"another boot", nodeapi.Status{Boot: "k/5"}, 0},
	} {
		r, err := s.GetVM(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.SetPending(ctx, id, r.Generation, []vm.Pending{{Field: "watchdog"}}); err != nil {
			t.Fatal(err)
		}
		later = later.Add(time.Second)
		step.status.VMID, step.status.At = id, later
		if step.status.Observed == "" {
			step.status.Observed = nodeapi.ObservedRunning
		}
		if _, err := s.Observe(ctx, node, 3, step.status); err != nil {
			t.Fatal(err)
		}
		if r, err = s.GetVM(ctx, id); err != nil || len(r.Pending) != step.left {
			t.Errorf("after %s %+v is pending: %v", step.name, r.Pending, err)
		}
	}
	if known, err := s.Observe(ctx, uuid.New(), 9, nodeapi.Status{VMID: id}); err != nil || known {
		t.Errorf("a node that does not have it: %v %v", known, err)
	}
}
