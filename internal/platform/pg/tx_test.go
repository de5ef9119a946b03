package pg_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/platform/pg/pgtest"
)

func TestInTxRetriesSerializationFailures(t *testing.T) {
	pool := pgtest.New(t, pgtest.Schema{Name: "count", Migrations: migrations("CREATE TABLE counter (n int NOT NULL); INSERT INTO counter VALUES (0);")}).Pool("count")
	const workers = 2
	// Both read before either writes, so that one of them has to run again.
	var met sync.WaitGroup
	met.Add(workers)
	failed := make(chan error, workers)
	attempts := make(chan struct{}, 100)
	for range workers {
		go func() {
			first := true
			failed <- pg.InTxWith(t.Context(), pool, pgx.TxOptions{IsoLevel: pgx.Serializable}, func(tx pgx.Tx) error {
				attempts <- struct{}{}
				var n int
				if err := tx.QueryRow(t.Context(), "SELECT n FROM counter").Scan(&n); err != nil {
					return err
				}
				if first {
					first = false
					met.Done()
					met.Wait()
				}
				_, err := tx.Exec(t.Context(), "UPDATE counter SET n = $1", n+1)
				return err
			})
		}()
	}
	for range workers {
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	}
	var n int
	if err := pool.QueryRow(t.Context(), "SELECT n FROM counter").Scan(&n); err != nil || n != workers {
		t.Errorf("counter is %d, %v", n, err)
	}
	if len(attempts) <= workers {
		t.Errorf("%d attempts: nothing was retried, the test proves nothing", len(attempts))
	}
}

func TestInTxGivesUp(t *testing.T) {
	pool := pgtest.New(t, pgtest.Schema{Name: "vain", Migrations: migrations("SELECT 1;")}).Pool("vain")
	attempts := 0
	err := pg.InTx(t.Context(), pool, func(tx pgx.Tx) error {
		attempts++
		_, err := tx.Exec(t.Context(), "DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$")
		return err
	})
	if !errors.Is(err, pg.ErrContention) || attempts != 6 {
		t.Errorf("%d attempts, then %v", attempts, err)
	}
}

func TestInTxRollsBack(t *testing.T) {
	pool := pgtest.New(t, pgtest.Schema{Name: "undo", Migrations: migrations("CREATE TABLE thing (id int);")}).Pool("undo")
	ctx := t.Context()
	insert := func(tx pgx.Tx) {
		if _, err := tx.Exec(ctx, "INSERT INTO thing VALUES (1)"); err != nil {
			t.Error(err)
		}
	}
	mine := errors.New("mine")
	if err := pg.InTx(ctx, pool, func(tx pgx.Tx) error { insert(tx); return mine }); err != mine {
		t.Errorf("got %v", err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = pg.InTx(ctx, pool, func(tx pgx.Tx) error { insert(tx); panic("mine") })
	}()
	ended, cancel := context.WithCancel(ctx)
	err := pg.InTx(ended, pool, func(tx pgx.Tx) error { insert(tx); cancel(); return ended.Err() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	var n int
	if err := pool.QueryRow(ctx, "SELECT count(*) FROM thing").Scan(&n); err != nil || n != 0 {
		t.Errorf("%d rows stayed, %v", n, err)
	}
	if n := pool.Stat().AcquiredConns(); n != 0 {
		t.Errorf("%d connections are still out", n)
	}
}

func TestViolation(t *testing.T) {
	pool := pgtest.New(t, pgtest.Schema{Name: "rules", Migrations: migrations(`
		CREATE TABLE parent (id int CONSTRAINT parent_pk PRIMARY KEY);
		CREATE TABLE child (
			id int CONSTRAINT child_unique UNIQUE,
			parent int CONSTRAINT child_parent REFERENCES parent,
			size int NOT NULL CONSTRAINT child_size CHECK (size > 0),
			span int4range, CONSTRAINT child_span EXCLUDE USING gist (span WITH &&));
		INSERT INTO child VALUES (1, NULL, 1, '[1,5)');`)}).Pool("rules")
	for _, c := range []struct {
		values     string
		constraint string
		kind       pg.ViolationKind
	}{
		{"1, NULL, 1, NULL", "child_unique", pg.Unique},
		{"2, 7, 1, NULL", "child_parent", pg.ForeignKey},
		{"2, NULL, 0, NULL", "child_size", pg.Check},
		{"2, NULL, NULL, NULL", "size", pg.NotNull},
		{"2, NULL, 1, '[4,6)'", "child_span", pg.Exclusion},
		{"'x', NULL, 1, NULL", "", pg.NoViolation},
	} {
		_, err := pool.Exec(t.Context(), "INSERT INTO child VALUES ("+c.values+")")
		constraint, kind := pg.Violation(err)
		if err == nil || constraint != c.constraint || kind != c.kind {
			t.Errorf("%s: got %q %q, %v", c.values, constraint, kind, err)
		}
		if pg.Map(err) != err {
			t.Errorf("%s: Map changed the error", c.values)
		}
	}
}
