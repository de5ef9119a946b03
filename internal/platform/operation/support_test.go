package operation

import (
	"context"
	"io/fs"
	"log/slog"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/platform/pg/pgtest"
)

func TestMain(m *testing.M) {
	if runChild() {
		return
	}
	goleak.VerifyTestMain(pgtest.Wrap(m))
}

const testSchema = "ops"

// migrations makes the engine's table and one in which the toy sagas leave marks.
func migrations() fs.FS {
	return fstest.MapFS{"00001_operations.sql": {Data: []byte("-- +goose Up\n" + Schema + SchemaTrace + `
CREATE TABLE marks (op uuid NOT NULL, step text NOT NULL, done boolean NOT NULL DEFAULT true, times int NOT NULL DEFAULT 1, PRIMARY KEY (op, step));
CREATE TABLE ends (op uuid PRIMARY KEY, status text NOT NULL);
`)}}
}

func newPool(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool := pgtest.New(t, pgtest.Schema{Name: testSchema, Migrations: migrations()}).Pool(testSchema)
	if err := Migrate(t.Context(), pool, testSchema); err != nil {
		t.Fatal(err)
	}
	return pool
}

// quick is a configuration whose times suit a test.
func quick(pool *pgxpool.Pool) Config {
	return Config{Pool: pool, Schema: testSchema, Lease: 3 * time.Second, Renew: 500 * time.Millisecond, Sweep: 300 * time.Millisecond, Log: slog.New(slog.DiscardHandler)}
}

func start(t *testing.T, cfg Config, sagas ...Saga) *Engine {
	t.Helper()
	e, err := NewEngine(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sagas {
		e.Register(s)
	}
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(context.Background()); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return e
}

func create(t *testing.T, e *Engine, n New) Operation {
	t.Helper()
	if n.TargetID == uuid.Nil {
		n.TargetID, n.TenantID, n.RequestedBy = uuid.New(), uuid.New(), uuid.New()
	}
	var op Operation
	err := pg.InTx(t.Context(), e.cfg.Pool, func(tx pgx.Tx) (err error) {
		op, err = e.Create(t.Context(), tx, n)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return op
}

// await waits for the end, a minute at most: far more than any test needs.
func await(t *testing.T, e *Engine, id uuid.UUID) Operation {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	op, err := e.Wait(ctx, id)
	if err != nil {
		t.Fatalf("operation did not end: %v; it is %+v", err, op)
	}
	return op
}

// marking is a saga whose steps mark what they did and whose undo takes the mark away.
func marking(pool *pgxpool.Pool, kind string, steps ...string) Saga {
	s := Saga{Kind: kind, Deadline: time.Minute, OnEnd: func(ctx context.Context, tx pgx.Tx, op Operation) error {
		_, err := tx.Exec(ctx, `INSERT INTO ends (op, status) VALUES ($1, $2)`, op.ID, op.Status)
		return err
	}}
	for _, name := range steps {
		s.Steps = append(s.Steps, Step{Name: name,
			Do: func(ctx context.Context, r *Run) error {
				_, err := pool.Exec(ctx, `INSERT INTO marks (op, step) VALUES ($1, $2) ON CONFLICT (op, step) DO UPDATE SET times = marks.times + 1`, r.Operation().ID, name)
				return err
			},
			Undo: func(ctx context.Context, r *Run) error {
				_, err := pool.Exec(ctx, `DELETE FROM marks WHERE op = $1 AND step = $2`, r.Operation().ID, name)
				return err
			}})
	}
	return s
}

func count(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) int {
	t.Helper()
	var n int
	if err := pool.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
