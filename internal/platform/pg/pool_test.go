package pg_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/platform/pg/pgtest"
)

func TestUUIDsRoundTrip(t *testing.T) {
	pool := pgtest.New(t, pgtest.Schema{Name: "ids", Migrations: migrations("CREATE TABLE thing (id uuid, maybe uuid, many uuid[]);")}).Pool("ids")
	ctx := t.Context()
	id, maybe, many := uuid.New(), uuid.New(), []uuid.UUID{uuid.New(), uuid.New()}

	if _, err := pool.Exec(ctx, "INSERT INTO thing VALUES ($1, $2, $3)", id, &maybe, many); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(ctx, "INSERT INTO thing VALUES ($1, $2, $3)", id, (*uuid.UUID)(nil), []uuid.UUID{}); err != nil {
		t.Fatal(err)
	}
	rows, err := pool.Query(ctx, "SELECT id, maybe, many, maybe FROM thing WHERE id = ANY($1) ORDER BY maybe NULLS LAST", []uuid.UUID{id})
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		ID    uuid.UUID
		Maybe *uuid.UUID
		Many  []uuid.UUID
		Null  uuid.NullUUID
	}
	got, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 {
		t.Fatalf("%d rows", len(got))
	}
	if r := got[0]; r.ID != id || r.Maybe == nil || *r.Maybe != maybe || len(r.Many) != 2 || r.Many[0] != many[0] || r.Many[1] != many[1] || r.Null.UUID != maybe {
		t.Errorf("got %+v", r)
	}
	if r := got[1]; r.ID != id || r.Maybe != nil || r.Many == nil || len(r.Many) != 0 || r.Null.Valid {
		t.Errorf("got %+v", r)
	}
	// Batches of rows travel in binary form only.
	n, err := pool.CopyFrom(ctx, pgx.Identifier{"thing"}, []string{"id", "maybe", "many"}, pgx.CopyFromRows([][]any{{id, &maybe, many}, {id, nil, nil}}))
	if err != nil || n != 2 {
		t.Errorf("copy: %d, %v", n, err)
	}
}

func TestStatementTimeoutBecomesDeadline(t *testing.T) {
	d := pgtest.New(t, pgtest.Schema{Name: "slow", Migrations: migrations("SELECT 1;")})
	pool, err := pg.Open(t.Context(), pg.Config{URL: d.URL, Schema: "slow", StatementTimeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	_, err = pool.Exec(t.Context(), "SELECT pg_sleep(60)")
	if err = pg.Map(err); !errors.Is(err, pg.ErrDeadline) {
		t.Errorf("statement timeout: got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = d.Pool("slow").Exec(ctx, "SELECT pg_sleep(60)")
	if err = pg.Map(err); !errors.Is(err, pg.ErrDeadline) {
		t.Errorf("context deadline: got %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	_, err = d.Pool("slow").Exec(ctx, "SELECT 1")
	if err = pg.Map(err); !errors.Is(err, context.Canceled) || errors.Is(err, pg.ErrUnavailable) {
		t.Errorf("cancelled context: got %v", err)
	}
}

func TestMapWhenTheServerGoes(t *testing.T) {
	c := pgtest.NewCluster(t)
	d := c.New(t, pgtest.Schema{Name: "gone", Migrations: migrations("SELECT 1;")})
	pool := d.Pool("gone")
	ctx := t.Context()

	// An administrator ends the connection while a statement runs on it.
	busy, err := pool.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	pid := busy.Conn().PgConn().PID()
	ended := make(chan error, 1)
	go func() { _, err := busy.Exec(ctx, "SELECT pg_sleep(60)"); ended <- err }()
	exec(t, d.URL, fmt.Sprintf("SELECT pg_terminate_backend(%d, 10000)", pid))
	if err := pg.Map(<-ended); !errors.Is(err, pg.ErrUnavailable) || !errs.Retryable(err) {
		t.Errorf("terminated: got %v", err)
	}
	busy.Release()
	// The connection is broken while it waits.
	conn, err := pool.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	c.Stop(t)
	for what, err := range map[string]error{
		"a held connection": func() error { _, err := conn.Exec(ctx, "SELECT 1"); return err }(),
		"again":             func() error { _, err := conn.Exec(ctx, "SELECT 1"); return err }(),
		"a new connection":  func() error { _, err := pool.Exec(ctx, "SELECT 1"); return err }(),
		"a transaction":     pg.InTx(ctx, pool, func(pgx.Tx) error { return nil }),
	} {
		if err = pg.Map(err); !errors.Is(err, pg.ErrUnavailable) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	conn.Release()
	if _, err := pg.Open(ctx, pg.Config{URL: d.URL, Schema: "gone"}); !errors.Is(err, pg.ErrUnavailable) {
		t.Errorf("open: got %v", err)
	}
	if err := pg.Bootstrap(ctx, d.URL, pg.Module{Schema: "gone", Migrations: migrations("SELECT 1;")}, quiet); !errors.Is(err, pg.ErrUnavailable) {
		t.Errorf("bootstrap: got %v", err)
	}
	c.Start(t)
	if _, err := pool.Exec(ctx, "SELECT 1"); err != nil {
		t.Errorf("after the server is back: %v", err)
	}
}

func TestTooManyConnections(t *testing.T) {
	d := pgtest.NewCluster(t).New(t, pgtest.Schema{Name: "packed", Migrations: migrations("SELECT 1;")})
	exec(t, d.URL, "CREATE ROLE narrow LOGIN CONNECTION LIMIT 0; GRANT novacron_packed TO narrow")
	_, err := pg.Open(t.Context(), pg.Config{URL: as(t, d.URL, "narrow"), Schema: "packed"})
	if !errors.Is(err, pg.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

func TestMapLeavesTheRestAlone(t *testing.T) {
	if pg.Map(nil) != nil {
		t.Error("nil became an error")
	}
	plain := errors.New("plain")
	if pg.Map(plain) != plain {
		t.Error("a plain error changed")
	}
	known := errs.New(errs.NotFound, "test.not_found", "no such thing").Wrap(context.DeadlineExceeded)
	if got := pg.Map(known); got != error(known) {
		t.Errorf("a known error became %v", got)
	}
}
