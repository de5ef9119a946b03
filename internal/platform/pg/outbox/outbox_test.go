package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/platform/pg/outbox"
	"github.com/novacron/novacron/internal/platform/pg/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Wrap(m)) }

func migrations() fs.FS {
	return fstest.MapFS{"00001_outbox.sql": {Data: []byte("-- +goose Up\n" + outbox.Schema)}}
}

func newPool(t *testing.T) *pgxpool.Pool {
	t.Helper()
	return pgtest.New(t, pgtest.Schema{Name: "events", Migrations: migrations()}).Pool("events")
}

// write commits one event and gives its id.
func write(t *testing.T, pool *pgxpool.Pool, subject string, payload any) uuid.UUID {
	t.Helper()
	id := uuid.Must(uuid.NewV7())
	err := pg.InTx(t.Context(), pool, func(tx pgx.Tx) error { return outbox.Write(t.Context(), tx, subject, id, payload) })
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestWriteAndRead(t *testing.T) {
	pool := newPool(t)
	ctx := t.Context()
	// The bytes come back as they were, order of names and spaces included.
	raw := []byte(`{"b": 1,  "a": 1.50}`)
	first := write(t, pool, "thing.events", raw)
	write(t, pool, "other.events", map[string]int{"n": 2})
	third := write(t, pool, "thing.events", struct {
		Name string `json:"name"`
	}{"x"})
	undone := errors.New("undone")
	err := pg.InTx(ctx, pool, func(tx pgx.Tx) error {
		if err := outbox.Write(ctx, tx, "thing.events", uuid.New(), 1); err != nil {
			return err
		}
		return undone
	})
	if err != undone {
		t.Fatal(err)
	}
	// A repeated step tells its event once.
	err = pg.InTx(ctx, pool, func(tx pgx.Tx) error { return outbox.Write(ctx, tx, "thing.events", first, raw) })
	if err != nil {
		t.Fatal(err)
	}
	events, err := outbox.Read(ctx, pool, "thing.events", 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	if len(events) != 2 || events[0].ID != first || events[1].ID != third || events[0].Seq >= events[1].Seq {
		t.Fatalf("got %+v", events)
	}
	if string(events[0].Payload) != string(raw) || string(events[1].Payload) != `{"name":"x"}` {
		t.Errorf("payloads %s, %s", events[0].Payload, events[1].Payload)
	}
	if age := time.Since(events[0].CreatedAt); age < -time.Minute || age > time.Hour {
		t.Errorf("made %v ago", age)
	}
	if events, err = outbox.Read(ctx, pool, "thing.events", events[0].Seq, 1); err != nil || len(events) != 1 || events[0].ID != third {
		t.Errorf("after the first: %+v, %v", events, err)
	}
}

func TestWriteRefuses(t *testing.T) {
	pool := newPool(t)
	for _, c := range []struct {
		subject string
		id      uuid.UUID
		payload any
	}{
		{"", uuid.New(), 1}, {"a..b", uuid.New(), 1}, {"a.*", uuid.New(), 1}, {"a.>", uuid.New(), 1}, {"a b", uuid.New(), 1},
		{"a", uuid.Nil, 1}, {"a", uuid.New(), make(chan int)}, {"a", uuid.New(), []byte("{")},
	} {
		err := pg.InTx(t.Context(), pool, func(tx pgx.Tx) error {
			if err := outbox.Write(t.Context(), tx, c.subject, c.id, c.payload); err == nil {
				t.Errorf("%+v was accepted", c)
			}
			// It was refused before it reached the database: the transaction can go on.
			_, err := tx.Exec(t.Context(), "SELECT 1")
			return err
		})
		if err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
	err := outbox.Write(t.Context(), nil, "a.*", uuid.New(), 1)
	if !errors.Is(err, bus.ErrInvalidSubject) {
		t.Errorf("got %v", err)
	}
}

// A transaction that wrote first commits first, so that no reader passes its seq.
func TestSeqFollowsCommits(t *testing.T) {
	pool := newPool(t)
	ctx := t.Context()
	early, err := pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = early.Rollback(context.Background()) }()
	one, two := uuid.New(), uuid.New()
	if err := outbox.Write(ctx, early, "thing.events", one, 1); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		done <- pg.InTx(ctx, pool, func(tx pgx.Tx) error { return outbox.Write(ctx, tx, "thing.events", two, 2) })
	}()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for waiting := 0; waiting == 0; <-tick.C {
		select {
		case err := <-done:
			t.Fatalf("the second transaction overtook the first: %v", err)
		default:
		}
		if err := pool.QueryRow(ctx, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
	if events, err := outbox.Read(ctx, pool, "thing.events", 0, 10); err != nil || len(events) != 0 {
		t.Errorf("visible before the commit: %v, %v", events, err)
	}
	if err := early.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	events, err := outbox.Read(ctx, pool, "thing.events", 0, 10)
	if err != nil || len(events) != 2 || events[0].ID != one || events[1].ID != two {
		t.Errorf("got %+v, %v", events, err)
	}
}

// A reader that follows with a cursor sees every event of many concurrent writers, some of which roll back.
func TestCursorSkipsNothing(t *testing.T) {
	pool := newPool(t)
	ctx := t.Context()
	const writers, each = 5, 30
	undone := errors.New("undone")
	var committed sync.Map
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := range each {
				id := uuid.New()
				err := pg.InTx(ctx, pool, func(tx pgx.Tx) error {
					if err := outbox.Write(ctx, tx, "thing.events", id, n); err != nil {
						return err
					}
					if _, err := tx.Exec(ctx, fmt.Sprintf("SELECT pg_sleep(%f)", rand.Float64()/500)); err != nil {
						return err
					}
					if (w+n)%5 == 0 {
						return undone
					}
					return nil
				})
				if err == nil {
					committed.Store(id, true)
				} else if err != undone {
					t.Error(err)
				}
			}
		})
	}
	finished := make(chan struct{})
	go func() { wg.Wait(); close(finished) }()
	seen := map[uuid.UUID]bool{}
	var cursor int64
	for last := false; ; {
		events, err := outbox.Read(ctx, pool, "thing.events", cursor, 7)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if e.Seq <= cursor || seen[e.ID] {
				t.Fatalf("seq %d after %d", e.Seq, cursor)
			}
			cursor, seen[e.ID] = e.Seq, true
		}
		if last && len(events) == 0 {
			break
		}
		select {
		case <-finished:
			last = true
		default:
		}
	}
	n := 0
	committed.Range(func(id, _ any) bool {
		n++
		if !seen[id.(uuid.UUID)] {
			t.Errorf("event %s was skipped", id)
		}
		return true
	})
	if n != len(seen) || n != writers*each*4/5 {
		t.Errorf("%d committed, %d seen", n, len(seen))
	}
}

func TestExtent(t *testing.T) {
	pool := newPool(t)
	ctx := t.Context()
	check := func(when string, want outbox.Bounds) {
		t.Helper()
		if got, err := outbox.Extent(ctx, pool, "thing.events"); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", when, got, err, want)
		}
	}
	check("empty", outbox.Bounds{First: 1})
	for _, s := range slices.Repeat([]string{"thing.events", "other.events"}, 2) {
		write(t, pool, s, 1)
	}
	check("four events", outbox.Bounds{First: 1, Last: 3})
	if _, err := pool.Exec(ctx, "DELETE FROM outbox WHERE seq < 3"); err != nil {
		t.Fatal(err)
	}
	check("two deleted", outbox.Bounds{First: 3, Last: 3})
	if _, err := pool.Exec(ctx, "DELETE FROM outbox"); err != nil {
		t.Fatal(err)
	}
	check("all deleted", outbox.Bounds{First: 5})
}
