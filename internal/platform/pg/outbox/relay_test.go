package outbox_test

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/platform/pg/outbox"
	"github.com/novacron/novacron/internal/platform/pg/pgtest"
)

// never is an interval at which the relay does nothing of itself while a test runs.
const never = time.Hour

func startRelay(t *testing.T, pool *pgxpool.Pool, b bus.Bus, cfg outbox.Config) *outbox.Relay {
	t.Helper()
	cfg.Log = slog.New(slog.DiscardHandler)
	r := outbox.NewRelay(pool, b, cfg)
	for range 2 { // the second changes nothing
		if err := r.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { stopRelay(t, r) })
	return r
}

func stopRelay(t *testing.T, r *outbox.Relay) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// insert adds a row that nobody is notified of.
func insert(t *testing.T, pool *pgxpool.Pool, subject string) uuid.UUID {
	t.Helper()
	id := uuid.New()
	if _, err := pool.Exec(t.Context(), "INSERT INTO outbox (id, subject, payload) VALUES ($1, $2, '1')", id, subject); err != nil {
		t.Fatal(err)
	}
	return id
}

// eventually polls the database.
func eventually(t *testing.T, what string, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var ok bool
		if err := pool.QueryRow(t.Context(), sql, args...).Scan(&ok); err == nil && ok {
			return
		}
		select {
		case <-deadline.C:
			t.Fatalf("it did not happen: %s", what)
		case <-tick.C:
		}
	}
}

const allPublished = "SELECT count(*) = count(published_at) FROM outbox"

func TestRelayPublishesInOrder(t *testing.T) {
	pool, b := newPool(t), newRecorder()
	var want []uuid.UUID
	for n := range 5 { // before it starts
		want = append(want, write(t, pool, "thing.events", map[string]int{"n": n}))
	}
	startRelay(t, pool, b, outbox.Config{Interval: never})
	b.awaitIDs(t, want)
	for n := range 600 { // more than a batch; a notification wakes it
		want = append(want, write(t, pool, "thing.events", n))
	}
	b.awaitIDs(t, want)
	eventually(t, "all are marked", pool, allPublished)
	m := b.await(t, "", func([]bus.Message) bool { return true })
	if len(m) != len(want) {
		t.Errorf("%d messages for %d events", len(m), len(want))
	}
	if got := m[1]; got.Subject != "thing.events" || string(got.Data) != `{"n":1}` || got.Header[outbox.HeaderSource] != "events" || got.Header[outbox.HeaderSeq] != "2" {
		t.Errorf("got %+v", got)
	}
}

func TestRelayFindsWhatNobodyToldIt(t *testing.T) {
	pool, b := newPool(t), newRecorder()
	r := startRelay(t, pool, b, outbox.Config{Interval: never})
	want := []uuid.UUID{write(t, pool, "thing.events", 1)}
	b.awaitIDs(t, want)
	eventually(t, "it is marked", pool, allPublished)
	want = append(want, insert(t, pool, "thing.events"))
	r.Kick()
	b.awaitIDs(t, want)
	stopRelay(t, r)
	startRelay(t, pool, b, outbox.Config{Interval: 20 * time.Millisecond})
	want = append(want, insert(t, pool, "thing.events"))
	b.awaitIDs(t, want)
}

func TestRelayKeepsWhatTheBusRefuses(t *testing.T) {
	pool, b := newPool(t), newRecorder()
	broken := errors.New("broken")
	var want []uuid.UUID
	for n := range 10 {
		want = append(want, write(t, pool, "thing.events", n))
	}
	attempts := 0
	b.setRefuse(func(m bus.Message) error {
		if m.Header[outbox.HeaderSeq] == "4" {
			if attempts++; attempts <= 3 {
				return broken
			}
		}
		return nil
	})
	startRelay(t, pool, b, outbox.Config{Interval: 20 * time.Millisecond})
	b.awaitIDs(t, want)
	if got := b.await(t, "", func([]bus.Message) bool { return true }); len(got) != len(want) {
		t.Errorf("%d messages for %d events: what was published before the failure was repeated", len(got), len(want))
	}
}

func TestRelaySkipsImpossibleSubjects(t *testing.T) {
	pool, b := newPool(t), newRecorder()
	b.setRefuse(func(m bus.Message) error {
		if strings.Contains(m.Subject, "*") {
			return bus.ErrInvalidSubject
		}
		return nil
	})
	insert(t, pool, "bad.*")
	good := insert(t, pool, "thing.events")
	startRelay(t, pool, b, outbox.Config{Interval: never})
	b.awaitIDs(t, []uuid.UUID{good})
	eventually(t, "both are done with", pool, allPublished)
}

func TestOneRelayWorksAndAnotherTakesOver(t *testing.T) {
	d := pgtest.New(t, pgtest.Schema{Name: "events", Migrations: migrations()})
	pool := d.Pool("events")
	other, err := pg.Open(t.Context(), pg.Config{URL: d.URL, Schema: "events"})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	one, two := newRecorder(), newRecorder()
	first := startRelay(t, pool, one, outbox.Config{Interval: 20 * time.Millisecond})
	want := []uuid.UUID{write(t, pool, "thing.events", 0)}
	one.awaitIDs(t, want)
	second := startRelay(t, other, two, outbox.Config{Interval: 20 * time.Millisecond})
	for n := range 20 {
		want = append(want, write(t, pool, "thing.events", n))
	}
	one.awaitIDs(t, want)
	stopRelay(t, first)
	if m := two.await(t, "", func([]bus.Message) bool { return true }); len(m) != 0 {
		t.Errorf("the second relay published %d messages beside the first", len(m))
	}
	late := write(t, pool, "thing.events", 21)
	two.awaitIDs(t, []uuid.UUID{late})
	stopRelay(t, second)
}

func TestRelaySurvivesTheDatabase(t *testing.T) {
	c := pgtest.NewCluster(t)
	pool := c.New(t, pgtest.Schema{Name: "events", Migrations: migrations()}).Pool("events")
	b := newRecorder()
	startRelay(t, pool, b, outbox.Config{Interval: 50 * time.Millisecond})
	want := []uuid.UUID{write(t, pool, "thing.events", 1)}
	b.awaitIDs(t, want)
	eventually(t, "it is marked", pool, allPublished)
	var before time.Time
	if err := pool.QueryRow(t.Context(), "SELECT pg_postmaster_start_time()").Scan(&before); err != nil {
		t.Fatal(err)
	}
	c.Kill(t)
	// Sessions of a killed server may answer for a moment still.
	eventually(t, "the server is back", pool, "SELECT pg_postmaster_start_time() > $1", before)
	pool.Reset() // what is still in it are connections to the old server
	want = append(want, write(t, pool, "thing.events", 2))
	b.awaitIDs(t, want)
	c.Stop(t)
	c.Start(t)
	eventually(t, "the server is back", pool, "SELECT true")
	pool.Reset()
	want = append(want, write(t, pool, "thing.events", 3))
	b.awaitIDs(t, want)
}

func TestRelayDeletesWhatIsOld(t *testing.T) {
	pool, b := newPool(t), newRecorder()
	for range 4 {
		write(t, pool, "thing.events", 1)
	}
	if _, err := pool.Exec(t.Context(), "UPDATE outbox SET created_at = now() - interval '8 days' WHERE seq < 4"); err != nil {
		t.Fatal(err)
	}
	b.setRefuse(func(m bus.Message) error {
		if n, err := strconv.Atoi(m.Header[outbox.HeaderSeq]); err != nil || n >= 3 {
			return errors.New("broken")
		}
		return nil
	})
	r := startRelay(t, pool, b, outbox.Config{Interval: 20 * time.Millisecond})
	eventually(t, "old and published events go; the old one that waits stays", pool,
		"SELECT array_agg(seq ORDER BY seq) = '{3,4}' FROM outbox")
	stopRelay(t, r)
	b.setRefuse(nil)
	startRelay(t, pool, b, outbox.Config{Interval: 20 * time.Millisecond, Retention: -1})
	eventually(t, "all are marked", pool, allPublished)
	eventually(t, "with a negative retention all stay", pool, "SELECT count(*) = 2 FROM outbox")
}

func TestRelayNeedsItsTable(t *testing.T) {
	d := pgtest.New(t)
	if err := pg.Bootstrap(t.Context(), d.URL, pg.Module{Schema: "bare", Migrations: migrations()}, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	pool := d.Pool("bare")
	if _, err := pool.Exec(t.Context(), "DROP TABLE outbox"); err != nil {
		t.Fatal(err)
	}
	r := outbox.NewRelay(pool, newRecorder(), outbox.Config{})
	if err := r.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "outbox") {
		t.Errorf("got %v", err)
	}
	stopRelay(t, r)
}
