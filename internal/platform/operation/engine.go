package operation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/riverqueue/river"

	"github.com/novacron/novacron/internal/platform/pg"
)

// Config of an Engine. Times and numbers that are zero take the default.
type Config struct {
	Pool   *pgxpool.Pool // acts as the owning module's role
	Schema string        // of the owning module
	// Owner names this process in leases. Where it is the same after a restart, the new process takes over what its predecessor
	// held at once; so no two processes may have one owner at one time, which a lock on the data folder sees to. Empty: a name that no
	// other process has, of host, process id and chance.
	Owner     string
	Workers   int           // operations at work at once; default 64
	Lease     time.Duration // default 15 s
	Renew     time.Duration // default 5 s; at most half of Lease
	Sweep     time.Duration // default 5 s
	Retention time.Duration // of ended operations; default 30 days
	Log       *slog.Logger  // default slog.Default()
	// Registerer takes the engine's metrics, which engines of one process share; nil: none are registered.
	Registerer prometheus.Registerer
	// OnChange is told every change that this process makes to an operation at work, after it was written. It must not block. Creations
	// and supersessions are not told: they belong to the caller's transaction. May be nil.
	OnChange func(Operation)
	// Fault is called before and after every step's Do and Undo, with when "before do", "after do", "before undo" or "after undo". An
	// error stands for one of the step. Tests use it to fail, or to die, at each of these points. Nil in production.
	Fault func(kind, step, when string) error
}

// Engine carries operations out. It is safe for concurrent use.
type Engine struct {
	cfg     Config
	sagas   map[string]Saga // not changed after Start
	client  *river.Client[pgx.Tx]
	metrics *metrics
	hub     *hub

	life sync.Mutex              // held by Start and Stop; guards what follows
	base context.Context         // of every run; written before any run begins
	halt context.CancelCauseFunc // ends base; nil: stopped
	quit context.CancelFunc      // ends the engine's own goroutines
	work sync.WaitGroup          // the engine's own goroutines

	mu   sync.Mutex         // guards runs
	runs map[uuid.UUID]*Run // the operations at work in this process
}

// NewEngine makes an engine; register its sagas, then start it. One that is never started can create, cancel, read and watch.
func NewEngine(cfg Config) (*Engine, error) {
	setDefault(&cfg.Lease, 15*time.Second)
	setDefault(&cfg.Renew, 5*time.Second)
	setDefault(&cfg.Sweep, 5*time.Second)
	setDefault(&cfg.Retention, 30*24*time.Hour)
	setDefault(&cfg.Workers, 64)
	setDefault(&cfg.Log, slog.Default())
	switch {
	case cfg.Pool == nil || cfg.Schema == "":
		return nil, errors.New("operation engine: a pool and a schema are needed")
	case cfg.Renew > cfg.Lease/2:
		return nil, fmt.Errorf("operation engine: a lease of %v cannot be renewed in time every %v", cfg.Lease, cfg.Renew)
	}
	if cfg.Owner == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("operation engine: name of the host: %w", err)
		}
		cfg.Owner = fmt.Sprintf("%s/%d/%s", host, os.Getpid(), uuid.NewString())
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("operation engine: %w", err)
	}
	e := &Engine{cfg: cfg, sagas: map[string]Saga{}, metrics: m, runs: map[uuid.UUID]*Run{}, hub: newHub()}
	if e.client, err = e.newClient(); err != nil {
		return nil, err
	}
	return e, nil
}

func setDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// Register adds a saga. It is called before Start, and panics where the saga cannot be right.
func (e *Engine) Register(s Saga) {
	if s.Deadline == 0 {
		s.Deadline = time.Hour
	}
	if _, exists := e.sagas[s.Kind]; exists || s.Kind == "" || len(s.Steps) == 0 {
		panic("operation: saga " + s.Kind + " has no kind, has no step or is registered twice")
	}
	names := map[string]bool{"": true}
	for _, step := range s.Steps {
		if names[step.Name] || step.Do == nil {
			panic("operation: saga " + s.Kind + ": step " + step.Name + " has no name of its own or nothing to do")
		}
		names[step.Name] = true
	}
	if !names[s.PointOfNoReturn] {
		panic("operation: saga " + s.Kind + " has no step " + s.PointOfNoReturn)
	}
	e.sagas[s.Kind] = s
}

// kinds lists what this process can carry out. Operations of other kinds, which a newer or an older version may know, are left alone.
func (e *Engine) kinds() []string {
	kinds := make([]string, 0, len(e.sagas))
	for kind := range e.sagas {
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	return kinds
}

// Start takes over what a predecessor of the same owner left, and begins to work. It can be called again, also after Stop.
func (e *Engine) Start(ctx context.Context) error {
	e.life.Lock()
	defer e.life.Unlock()
	if e.halt != nil {
		return nil
	}
	if err := e.takeOver(ctx); err != nil {
		return err
	}
	// The engine outlives the context of its start.
	base, halt := context.WithCancelCause(context.WithoutCancel(ctx))
	e.base = base
	if err := e.client.Start(context.WithoutCancel(ctx)); err != nil {
		halt(errStopped)
		return fmt.Errorf("start job queue: %w", pg.Map(err))
	}
	own, quit := context.WithCancel(context.WithoutCancel(ctx))
	e.halt, e.quit = halt, quit
	e.work.Go(func() { e.listen(own) })
	e.work.Go(func() { e.sweepLoop(own) })
	e.work.Go(func() { e.keepLeases(own) })
	return nil
}

// Stop interrupts what is at work, waits for it, and gives the leases back; interrupted operations go on in the next process. Where a
// step does not end before ctx does, Stop answers ctx's error, and the step's lease runs out.
func (e *Engine) Stop(ctx context.Context) error {
	e.life.Lock()
	defer e.life.Unlock()
	if e.halt == nil {
		return nil
	}
	e.halt(errStopped)
	err := e.client.Stop(ctx)
	e.quit()
	e.work.Wait()
	e.halt = nil
	if err != nil {
		return fmt.Errorf("stop job queue: %w", err)
	}
	return nil
}

// changed tells whoever watches in this process.
func (e *Engine) changed(op Operation) {
	e.hub.changed(op.ID)
	if e.cfg.OnChange != nil {
		e.cfg.OnChange(op)
	}
}
