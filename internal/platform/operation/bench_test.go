package operation

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/platform/pg/pgtest"
)

// BenchmarkOperation measures what the engine adds to seven steps that do nothing, from the request to the end seen by Wait, and
// prints its ratio to the same number of bare writes and commits.
func BenchmarkOperation(b *testing.B) {
	pool := pgtest.New(b, pgtest.Schema{Name: testSchema, Migrations: migrations()}).Pool(testSchema)
	if err := Migrate(b.Context(), pool, testSchema); err != nil {
		b.Fatal(err)
	}
	e, err := NewEngine(Config{Pool: pool, Schema: testSchema, Log: quick(pool).Log})
	if err != nil {
		b.Fatal(err)
	}
	saga := Saga{Kind: "toy"}
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		saga.Steps = append(saga.Steps, Step{Name: name, Do: nothing})
	}
	e.Register(saga)
	if err := e.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := e.Stop(context.Background()); err != nil {
			b.Error(err)
		}
	}()
	target := uuid.New()
	var id uuid.UUID
	for b.Loop() {
		err := pg.InTx(b.Context(), pool, func(tx pgx.Tx) error {
			op, err := e.Create(b.Context(), tx, New{Kind: "toy", TargetID: target, TenantID: target, RequestedBy: target})
			id = op.ID
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
		if op, err := e.Wait(b.Context(), id); err != nil || op.Status != StatusSucceeded {
			b.Fatal(op.Status, err)
		}
	}
	perOperation := b.Elapsed() / time.Duration(b.N)
	// An operation of n steps is written 2n+1 times: created, claimed, 2n-1 times on the way, and ended.
	writes := 2*len(saga.Steps) + 1
	begun := time.Now()
	for range b.N * writes {
		if _, err := pool.Exec(b.Context(), `UPDATE operations SET updated_at = clock_timestamp() WHERE id = $1`, id); err != nil {
			b.Fatal(err)
		}
	}
	bare := time.Since(begun) / time.Duration(b.N)
	b.ReportMetric(float64(perOperation)/float64(bare), "x-bare-writes")
}
