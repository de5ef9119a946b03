package operation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/novacron/novacron/internal/platform/pg"
)

// Config of an Engine. Times that are zero take the default.
type Config struct {
	Pool   *pgxpool.Pool
	Schema string // of the owning module
	// Owner names this process in leases. Where it is the same after a restart, the new process takes over what its predecessor
	// held at once; so no two processes may have one owner at one time, which a lock on the data folder sees to. Empty: a random name.
	Owner     string
	Workers   int           // operations at work at once; default 64
	Lease     time.Duration // default 15 s
	Renew     time.Duration // default 5 s
	Sweep     time.Duration // default 5 s
	Retention time.Duration // of ended operations; default 30 days
	Log       *slog.Logger
	// Registerer takes the engine's metrics; nil: none are registered.
	Registerer prometheus.Registerer
	// Fault is called before and after every step's Do and Undo, with when "before do", "after do", "before undo" or "after undo". An
	// error stands for one of the step. Tests use it to fail, or to die, at each of these points. Nil in production.
	Fault func(kind, step, when string) error
}

// Engine carries operations out. It is safe for concurrent use.
type Engine struct {
	cfg     Config
	sagas   map[string]Saga
	client  *river.Client[pgx.Tx]
	metrics *metrics
	hub     *hub

	life   sync.Mutex         // held by Start and Stop; guards cancel
	cancel context.CancelFunc // nil: stopped
	group  sync.WaitGroup     // the engine's own goroutines

	mu   sync.Mutex             // guards runs
	runs map[uuid.UUID]*control // the operations at work in this process
}

// Migrate makes or upgrades River's tables in the schema. It is called before New, under the module's own lock or not: River's
// migrations are transactions.
func Migrate(ctx context.Context, pool *pgxpool.Pool, schema string) error {
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Schema: schema, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("prepare job queue: %w", err)
	}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return pg.Map(err)
	}
	defer conn.Release()
	// Two processes that start at once must not both find the tables missing.
	const lock = "SELECT pg_advisory_lock(hashtext($1))"
	if _, err := conn.Exec(ctx, lock, "novacron river "+schema); err != nil {
		return pg.Map(err)
	}
	defer func() {
		_, _ = conn.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock(hashtext($1))", "novacron river "+schema)
	}()
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return fmt.Errorf("migrate job queue: %w", pg.Map(err))
	}
	return nil
}

// NewEngine makes an engine; register its sagas, then start it.
func NewEngine(cfg Config) (*Engine, error) {
	def := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	def(&cfg.Lease, 15*time.Second)
	def(&cfg.Renew, 5*time.Second)
	def(&cfg.Sweep, 5*time.Second)
	def(&cfg.Retention, 30*24*time.Hour)
	if cfg.Workers == 0 {
		cfg.Workers = 64
	}
	if cfg.Owner == "" {
		cfg.Owner = uuid.NewString()
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	e := &Engine{cfg: cfg, sagas: map[string]Saga{}, runs: map[uuid.UUID]*control{}, hub: newHub()}
	e.metrics = newMetrics(cfg.Registerer)
	workers := river.NewWorkers()
	river.AddWorker(workers, &worker{engine: e})
	client, err := river.NewClient(riverpgxv5.New(cfg.Pool), &river.Config{
		Schema: cfg.Schema, Workers: workers, Logger: slog.New(&riverLog{cfg.Log.Handler()}),
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: cfg.Workers}},
		// An operation may take hours; its lease, not River, says whether its owner lives.
		JobTimeout: -1, RescueStuckJobsAfter: 10 * 365 * 24 * time.Hour,
		CompletedJobRetentionPeriod: time.Hour, DiscardedJobRetentionPeriod: time.Hour, CancelledJobRetentionPeriod: time.Hour,
		FetchCooldown: time.Millisecond, FetchPollInterval: time.Second,
	})
	if err != nil {
		return nil, fmt.Errorf("make job queue: %w", err)
	}
	e.client = client
	return e, nil
}

// riverLog lets warnings and errors of the job queue through; what it tells of its daily work is of no use to an operator.
type riverLog struct{ slog.Handler }

func (h *riverLog) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && h.Handler.Enabled(ctx, level)
}

// Register adds a saga. It is called before Start.
func (e *Engine) Register(s Saga) {
	if s.Deadline == 0 {
		s.Deadline = time.Hour
	}
	if _, exists := e.sagas[s.Kind]; exists || len(s.Steps) == 0 {
		panic("operation: saga " + s.Kind + " is registered twice or has no step")
	}
	e.sagas[s.Kind] = s
}

// Start takes over what a predecessor of the same owner left, and begins to work.
func (e *Engine) Start(ctx context.Context) error {
	e.life.Lock()
	defer e.life.Unlock()
	if e.cancel != nil {
		return nil
	}
	if _, err := e.cfg.Pool.Exec(ctx, `UPDATE operations SET lease_until = NULL, delivered_at = '-infinity' WHERE ended_at IS NULL AND lease_owner = $1`, e.cfg.Owner); err != nil {
		return fmt.Errorf("take over leases: %w", pg.Map(err))
	}
	background, cancel := context.WithCancel(context.Background())
	if err := e.client.Start(context.WithoutCancel(ctx)); err != nil {
		cancel()
		return fmt.Errorf("start job queue: %w", pg.Map(err))
	}
	e.cancel = cancel
	e.group.Go(func() { e.listen(background) })
	e.group.Go(func() { e.sweepLoop(background) })
	return nil
}

// Stop interrupts what is at work, gives its leases back, and ends. Interrupted operations go on in the next process.
func (e *Engine) Stop(ctx context.Context) error {
	e.life.Lock()
	defer e.life.Unlock()
	if e.cancel == nil {
		return nil
	}
	e.cancel()
	err := e.client.StopAndCancel(ctx)
	e.group.Wait()
	e.cancel = nil
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("stop job queue: %w", err)
	}
	return nil
}

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

// Work implements river.Worker. It answers no error: whatever goes wrong, the operation's row says so, and the sweeper delivers it
// again.
func (w *worker) Work(ctx context.Context, job *river.Job[advance]) error {
	w.engine.advance(ctx, job.Args.OperationID)
	return nil
}

// pause is how long to wait after the n-th failure of a step: from 0.2 s, doubling, up to limit, less up to a fifth of it by
// chance, so that those who failed together do not return together.
func pause(n int, limit time.Duration) time.Duration {
	d := time.Duration(float64(200*time.Millisecond) * math.Pow(2, float64(min(n, 20)-1)))
	d = min(d, limit)
	return d - jitter(d/5)
}
