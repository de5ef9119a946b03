package idempotency_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/novacron/novacron/internal/platform/httpx/idempotent"
	"github.com/novacron/novacron/internal/platform/pg/idempotency"
	"github.com/novacron/novacron/internal/platform/pg/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Wrap(m)) }

func migrations() fs.FS {
	return fstest.MapFS{"00001_idempotency.sql": {Data: []byte("-- +goose Up\n" + idempotency.Schema)}}
}

func newStore(t *testing.T) (*idempotency.Store, *pgxpool.Pool) {
	t.Helper()
	pool := pgtest.New(t, pgtest.Schema{Name: "keys", Migrations: migrations()}).Pool("keys")
	return idempotency.New(pool), pool
}

func exec(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

func newID() idempotent.ID {
	return idempotent.ID{Principal: uuid.New(), Route: "POST /api/v1/things", Key: "k-1"}
}

func fresh(t *testing.T, s *idempotency.Store, id idempotent.ID, hash string) uuid.UUID {
	t.Helper()
	r, err := s.Begin(t.Context(), id, []byte(hash))
	if err != nil || r.Answer != nil || r.Lock == uuid.Nil {
		t.Fatalf("not fresh: %+v, %v", r, err)
	}
	return r.Lock
}

func TestAnswerIsRemembered(t *testing.T) {
	s, _ := newStore(t)
	ctx, id := t.Context(), newID()
	lock := fresh(t, s, id, "a")
	if _, err := s.Begin(ctx, id, []byte("a")); !errors.Is(err, idempotent.ErrInProgress) {
		t.Errorf("while it is carried out: %v", err)
	}
	if _, err := s.Begin(ctx, id, []byte("b")); !errors.Is(err, idempotent.ErrMismatch) {
		t.Errorf("another body while it is carried out: %v", err)
	}
	want := idempotent.Answer{Status: 202, Header: http.Header{"Location": {"/x"}, "Vary": {"a", "b"}}, Body: []byte("{\"a\":1}\n\x00\xff")}
	if err := s.Finish(ctx, id, lock, want); err != nil {
		t.Fatal(err)
	}
	r, err := s.Begin(ctx, id, []byte("a"))
	if err != nil || r.Answer == nil {
		t.Fatalf("repetition: %+v, %v", r, err)
	}
	got := *r.Answer
	if got.Status != want.Status || got.Header.Get("Location") != "/x" || len(got.Header["Vary"]) != 2 || !bytes.Equal(got.Body, want.Body) {
		t.Errorf("got %+v", got)
	}
	if _, err := s.Begin(ctx, id, []byte("b")); !errors.Is(err, idempotent.ErrMismatch) {
		t.Errorf("another body: %v", err)
	}
	for name, other := range map[string]idempotent.ID{
		"principal": {Principal: uuid.New(), Route: id.Route, Key: id.Key},
		"route":     {Principal: id.Principal, Route: "POST /other", Key: id.Key},
		"key":       {Principal: id.Principal, Route: id.Route, Key: "k-2"},
	} {
		t.Run("other "+name, func(t *testing.T) { fresh(t, s, other, "b") })
	}
}

func TestAbandonedIsForgotten(t *testing.T) {
	s, _ := newStore(t)
	id := newID()
	lock := fresh(t, s, id, "a")
	if err := s.Abandon(t.Context(), id, lock); err != nil {
		t.Fatal(err)
	}
	fresh(t, s, id, "b")
}

func TestLockOfADeadProcessRunsOut(t *testing.T) {
	s, pool := newStore(t)
	ctx, id := t.Context(), newID()
	first := fresh(t, s, id, "a")
	exec(t, pool, `UPDATE idempotency_keys SET locked_until = clock_timestamp() - interval '1 second'`)
	if _, err := s.Begin(ctx, id, []byte("b")); !errors.Is(err, idempotent.ErrMismatch) {
		t.Errorf("another body after the lock ran out: %v", err)
	}
	second := fresh(t, s, id, "a")
	// The first was only slow. It must not touch what is the second's now.
	if err := s.Finish(ctx, id, first, idempotent.Answer{Status: 200}); err == nil {
		t.Error("finished with a lock that ran out")
	}
	if err := s.Abandon(ctx, id, first); err == nil {
		t.Error("abandoned with a lock that ran out")
	}
	if err := s.Renew(ctx, id, first); err == nil {
		t.Error("renewed a lock that ran out")
	}
	exec(t, pool, `UPDATE idempotency_keys SET locked_until = clock_timestamp() - interval '1 second'`)
	if err := s.Renew(ctx, id, second); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Begin(ctx, id, []byte("a")); !errors.Is(err, idempotent.ErrInProgress) {
		t.Errorf("after a renewal: %v", err)
	}
	if err := s.Finish(ctx, id, second, idempotent.Answer{Status: 200}); err != nil {
		t.Error(err)
	}
}

func TestKeysAreForgottenAfterADay(t *testing.T) {
	s, pool := newStore(t)
	ctx, old, young, busy := t.Context(), newID(), newID(), newID()
	for _, id := range []idempotent.ID{old, young} {
		if err := s.Finish(ctx, id, fresh(t, s, id, "a"), idempotent.Answer{Status: 200}); err != nil {
			t.Fatal(err)
		}
	}
	lock := fresh(t, s, busy, "a")
	const age = `UPDATE idempotency_keys SET created_at = clock_timestamp() - interval '24 hours 1 second' WHERE principal_id = ANY($1)`
	exec(t, pool, age, []uuid.UUID{old.Principal, busy.Principal})
	// Before anything has swept, the key is free already, also for another body; one that is at work is not.
	relock := fresh(t, s, old, "b")
	if _, err := s.Begin(ctx, busy, []byte("a")); !errors.Is(err, idempotent.ErrInProgress) {
		t.Errorf("at work for a day: %v", err)
	}
	if err := s.Finish(ctx, old, relock, idempotent.Answer{Status: 201}); err != nil {
		t.Fatal(err)
	}
	exec(t, pool, age, []uuid.UUID{old.Principal, busy.Principal})
	if err := s.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	var left []uuid.UUID
	if err := pool.QueryRow(ctx, `SELECT array_agg(principal_id) FROM idempotency_keys`).Scan(&left); err != nil {
		t.Fatal(err)
	}
	if len(left) != 2 {
		t.Errorf("%d keys are left, want the young and the busy one", len(left))
	}
	if err := s.Finish(ctx, busy, lock, idempotent.Answer{Status: 200}); err != nil {
		t.Error(err)
	}
}

func TestOneOfManyIsFresh(t *testing.T) {
	s, _ := newStore(t)
	id := newID()
	results := make(chan error, 20)
	var wg sync.WaitGroup
	for range cap(results) {
		wg.Go(func() {
			r, err := s.Begin(context.Background(), id, []byte("a"))
			if err == nil && r.Answer != nil {
				err = errors.New("an answer that nobody gave")
			}
			results <- err
		})
	}
	wg.Wait()
	close(results)
	freshOnes := 0
	for err := range results {
		switch {
		case err == nil:
			freshOnes++
		case !errors.Is(err, idempotent.ErrInProgress):
			t.Error(err)
		}
	}
	if freshOnes != 1 {
		t.Errorf("%d requests are fresh", freshOnes)
	}
}
