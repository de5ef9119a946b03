package statuscache

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/novacron/novacron/internal/platform/cache"
	"github.com/novacron/novacron/internal/platform/cache/redistest"
	"github.com/novacron/novacron/internal/vm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rows stands for the table: a row for each virtual machine, and a gate that readings wait at once they have read.
type rows struct {
	mu    sync.Mutex // guards what follows
	state map[uuid.UUID]vm.Status
	fail  error
	gate  chan struct{}
	reads atomic.Int64
	at    chan struct{} // a reading waits at the gate
}

func (r *rows) set(status vm.Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state[status.ID] = status
}

func (r *rows) remove(id uuid.UUID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.state, id)
}

// hold makes the next reading wait once it has read.
func (r *rows) hold() (release func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	gate := make(chan struct{})
	r.gate, r.at = gate, make(chan struct{})
	return sync.OnceFunc(func() { close(gate) })
}

func (r *rows) read(_ context.Context, ids []uuid.UUID) (list []vm.Status, err error) {
	r.reads.Add(1)
	r.mu.Lock()
	for _, id := range ids {
		if status, ok := r.state[id]; ok {
			status.AsOf = time.Now()
			list = append(list, status)
		}
	}
	gate, at := r.gate, r.at
	r.gate, r.at, err = nil, nil, r.fail
	r.mu.Unlock()
	if gate != nil {
		close(at)
		<-gate
	}
	return list, err
}

type counts struct{ hits, misses, failures atomic.Int64 }

func (c *counts) Read(hits, misses int) {
	c.hits.Add(int64(hits))
	c.misses.Add(int64(misses))
}
func (c *counts) CacheFailed() { c.failures.Add(1) }

// bundle is a table and two caches of it, as two processes have them, on one shared cache.
type bundle struct {
	*rows
	kept       cache.Cache
	one, other *Cache
	counts
}

// on runs a test on both kinds of a shared cache.
func on(t *testing.T, test func(t *testing.T, b *bundle)) {
	for name, open := range map[string]func(*testing.T) cache.Cache{
		"memory": func(*testing.T) cache.Cache { return cache.NewMemory(1000) },
		"redis": func(t *testing.T) cache.Cache {
			c, err := cache.NewRedis(redistest.Start(t).URL())
			if err != nil {
				t.Fatal(err)
			}
			return c
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := &bundle{rows: &rows{state: map[uuid.UUID]vm.Status{}}, kept: open(t)}
			t.Cleanup(func() { _ = b.kept.Close() })
			cfg := Config{Kept: b.kept, Read: b.read, Recorder: &b.counts, Log: slog.New(slog.DiscardHandler)}
			b.one, b.other = New(cfg), New(cfg)
			test(t, b)
		})
	}
}

func status(revision int64, state vm.State) vm.Status {
	return vm.Status{ID: uuid.New(), Revision: revision, State: state, DesiredState: vm.DesiredRunning}
}

func (b *bundle) shows(t *testing.T, c *Cache, id uuid.UUID, want vm.State) {
	t.Helper()
	found, err := c.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if found[id].State != want {
		t.Errorf("it is %q, want %q", found[id].State, want)
	}
}

func TestOneFillsForTheOther(t *testing.T) {
	on(t, func(t *testing.T, b *bundle) {
		s := status(1, vm.StateRunning)
		b.set(s)
		b.shows(t, b.one, s.ID, vm.StateRunning)
		b.shows(t, b.other, s.ID, vm.StateRunning)
		if b.reads.Load() != 1 || b.hits.Load() != 1 || b.misses.Load() != 1 || b.failures.Load() != 0 {
			t.Errorf("%d readings, %d hits, %d misses, %d failures", b.reads.Load(), b.hits.Load(), b.misses.Load(), b.failures.Load())
		}
		s.Revision, s.State = 2, vm.StateStopped
		b.set(s)
		b.one.Renew(t.Context(), s.ID)
		b.shows(t, b.other, s.ID, vm.StateStopped)
		if b.reads.Load() != 2 {
			t.Errorf("%d readings", b.reads.Load())
		}
	})
}

// What was read before a change and is written after it does not undo the change.
func TestLateWriterLoses(t *testing.T) {
	on(t, func(t *testing.T, b *bundle) {
		s := status(7, vm.StateRunning)
		b.set(s)
		release := b.hold()
		defer release()
		at := b.at
		late := make(chan error, 1)
		go func() {
			_, err := b.one.Get(t.Context(), s.ID)
			late <- err
		}()
		<-at // it has read revision 7
		s.Revision, s.State = 8, vm.StateStopped
		b.set(s)
		b.other.Renew(t.Context(), s.ID)
		release()
		if err := <-late; err != nil {
			t.Fatal(err)
		}
		before := b.reads.Load()
		b.shows(t, b.one, s.ID, vm.StateStopped)
		b.shows(t, b.other, s.ID, vm.StateStopped)
		if b.reads.Load() != before {
			t.Error("the newer status was not kept")
		}
	})
}

// Of one that is to be deleted nothing is served that is kept, and nobody brings back what is gone.
func TestDeleted(t *testing.T) {
	on(t, func(t *testing.T, b *bundle) {
		s := status(3, vm.StateRunning)
		b.set(s)
		b.shows(t, b.one, s.ID, vm.StateRunning)
		release := b.hold()
		defer release()
		at := b.at
		late := make(chan error, 1)
		go func() {
			_, err := b.one.load.get(t.Context(), []uuid.UUID{s.ID})
			late <- err
		}()
		<-at // it has read revision 3, and keeps it in the end
		s.Revision, s.DesiredState = 4, vm.DesiredDeleted
		b.set(s)
		b.other.Renew(t.Context(), s.ID)
		release()
		if err := <-late; err != nil {
			t.Fatal(err)
		}
		b.shows(t, b.one, s.ID, vm.StateRunning)
		b.remove(s.ID)
		for _, c := range []*Cache{b.one, b.other} { // before anybody has said that it is gone
			b.shows(t, c, s.ID, "")
		}
		b.other.Renew(t.Context(), s.ID)
		if kept, err := b.kept.GetVersioned(t.Context(), key(s.ID)); err != nil || kept[0].Version != math.MaxInt64 || len(kept[0].Value) != 0 {
			t.Errorf("kept is %+v %v", kept, err)
		}
	})
}

func TestManyAsksAreOneReading(t *testing.T) {
	on(t, func(t *testing.T, b *bundle) {
		ids := make([]uuid.UUID, 20)
		for i := range ids {
			s := status(1, vm.StateRunning)
			b.set(s)
			ids[i] = s.ID
		}
		release := b.hold()
		defer release()
		at := b.at
		var asking sync.WaitGroup
		ask := func() {
			if found, err := b.one.Get(t.Context(), ids...); err != nil || len(found) != len(ids) {
				t.Errorf("%d found: %v", len(found), err)
			}
		}
		asking.Go(ask)
		<-at
		const more = 50
		for range more {
			asking.Go(ask)
		}
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for b.misses.Load() < int64(len(ids)*(1+more)) { // until all have looked in vain
			<-tick.C
		}
		release()
		asking.Wait()
		if n := b.reads.Load(); n > 10 { // the first, the next, and some that were between their look and their turn
			t.Errorf("%d readings", n)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := b.one.load.get(gone, ids); !errors.Is(err, context.Canceled) {
			t.Errorf("who does not wait is told %v", err)
		}
	})
}

// What is older than it may be is not served, though the cache still has it; nor is what cannot be read.
func TestOldAndOddAreNotServed(t *testing.T) {
	on(t, func(t *testing.T, b *bundle) {
		s := status(5, vm.StateStopped)
		b.set(s)
		old := s
		old.State, old.AsOf = vm.StateRunning, time.Now().Add(-TTL-time.Second)
		text, err := json.Marshal(old)
		if err != nil {
			t.Fatal(err)
		}
		for _, value := range [][]byte{text, []byte("{"), []byte(`{"id":"nobody's"}`), []byte(`{}`)} {
			if err := b.kept.SetNewer(t.Context(), time.Minute, cache.Versioned{Key: key(s.ID), Version: 5, Value: value}); err != nil {
				t.Fatal(err)
			}
			b.shows(t, b.one, s.ID, vm.StateStopped)
		}
	})
}

func TestDatabaseAway(t *testing.T) {
	on(t, func(t *testing.T, b *bundle) {
		b.fail = errors.New("away")
		if found, err := b.one.Get(t.Context(), uuid.New()); !errors.Is(err, b.fail) {
			t.Errorf("got %v %v", found, err)
		}
	})
}

// brokenCache stands for one that is away.
type brokenCache struct{}

func (brokenCache) SetNewer(context.Context, time.Duration, ...cache.Versioned) error {
	return cache.ErrUnavailable
}

func (brokenCache) GetVersioned(context.Context, ...string) ([]cache.Versioned, error) {
	return nil, cache.ErrUnavailable
}

func TestCacheAway(t *testing.T) {
	r, count := &rows{state: map[uuid.UUID]vm.Status{}}, &counts{}
	c := New(Config{Kept: brokenCache{}, Read: r.read, Recorder: count, Log: slog.New(slog.DiscardHandler)})
	s := status(1, vm.StateRunning)
	r.set(s)
	for i := range int64(3) {
		found, err := c.Get(t.Context(), s.ID)
		if err != nil || found[s.ID].State != vm.StateRunning || r.reads.Load() != i+1 {
			t.Errorf("got %v %v after %d readings", found, err, r.reads.Load())
		}
	}
	if count.failures.Load() == 0 || count.misses.Load() != 3 {
		t.Errorf("%d failures and %d misses are counted", count.failures.Load(), count.misses.Load())
	}
}
