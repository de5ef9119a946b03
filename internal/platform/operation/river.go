package operation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/novacron/novacron/internal/platform/pg"
)

// Migrate makes or upgrades River's tables in the schema, as the pool's role. Any number of processes may do so at the same time.
func Migrate(ctx context.Context, pool *pgxpool.Pool, schema string) (err error) {
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Schema: schema, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("prepare job queue: %w", err)
	}
	// A connection of its own, because waiting for the lock may take as long as another process's migration.
	cc := pool.Config().ConnConfig.Copy()
	cc.RuntimeParams["statement_timeout"] = "0"
	conn, err := pgx.ConnectConfig(ctx, cc)
	if err != nil {
		return fmt.Errorf("migrate job queue: %w", pg.Map(err))
	}
	// Closing the connection gives the lock back.
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock(hashtextextended('novacron.operation.migrate.' || $1, 0))`, schema); err != nil {
		return fmt.Errorf("wait for migration of job queue: %w", pg.Map(err))
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return fmt.Errorf("migrate job queue: %w", pg.Map(err))
	}
	return nil
}

// newClient makes the job queue. A job that says "advance" may run for hours; its operation's lease, not River, says whether its owner
// lives, so River neither ends nor rescues it before its row can only be an orphan.
func (e *Engine) newClient() (*river.Client[pgx.Tx], error) {
	workers := river.NewWorkers()
	if err := river.AddWorkerSafely(workers, &worker{engine: e}); err != nil {
		return nil, fmt.Errorf("make job queue: %w", err)
	}
	client, err := river.NewClient(riverpgxv5.New(e.cfg.Pool), &river.Config{
		Schema: e.cfg.Schema, Workers: workers, Logger: slog.New(&riverLog{e.cfg.Log.Handler()}),
		Queues:     map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: e.cfg.Workers}},
		JobTimeout: -1, RescueStuckJobsAfter: 10 * 365 * 24 * time.Hour,
		CompletedJobRetentionPeriod: time.Hour, DiscardedJobRetentionPeriod: time.Hour, CancelledJobRetentionPeriod: time.Hour,
		FetchCooldown: time.Millisecond, FetchPollInterval: time.Second,
	})
	if err != nil {
		return nil, fmt.Errorf("make job queue: %w", err)
	}
	return client, nil
}

// riverLog lets warnings and errors of the job queue through; what it tells of its daily work is of no use to an operator.
type riverLog struct{ slog.Handler }

func (h *riverLog) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && h.Handler.Enabled(ctx, level)
}

// WithAttrs and WithGroup keep the filter.
func (h *riverLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &riverLog{h.Handler.WithAttrs(attrs)}
}

func (h *riverLog) WithGroup(name string) slog.Handler { return &riverLog{h.Handler.WithGroup(name)} }

// advance is River's word for "look at this operation".
type advance struct {
	OperationID uuid.UUID `json:"operation_id"`
}

// Kind implements river.JobArgs.
func (advance) Kind() string { return "operation.advance" }

type worker struct {
	river.WorkerDefaults[advance]
	engine *Engine
}

// Work implements river.Worker. It answers no error but that the job is to come again: whatever goes wrong, the operation's row says so.
// The job's own context is not used; the engine ends what is at work.
func (w *worker) Work(_ context.Context, job *river.Job[advance]) error {
	if after, again := w.engine.advance(job.Args.OperationID); again {
		return river.JobSnooze(after)
	}
	return nil
}
