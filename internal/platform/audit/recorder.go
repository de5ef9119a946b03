package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/startstop"
)

// ErrUnavailable refuses a call of which no record can be made.
var ErrUnavailable = errs.New(errs.Unavailable, "audit.unavailable", "the call cannot be recorded at this moment, so it is not carried out").
	WithRetryable(true).WithAction("Try again; the operator finds the cause in the log.")

// Errors lists the package's errors for the reference.
func Errors() []*errs.Error { return []*errs.Error{ErrUnavailable} }

// Store keeps intents, and records until the auth module has chained them.
type Store interface {
	// Begin writes the intent of a call.
	Begin(ctx context.Context, record event.Audit) error
	// End removes the intent and writes the record, both or none.
	End(ctx context.Context, record event.Audit) error
	// Drop removes the intent of a call that leaves no record of its own.
	Drop(ctx context.Context, id uuid.UUID) error
	// Write writes records without an intent.
	Write(ctx context.Context, records []event.Audit) error
	// Alive says that the calls are still being carried out; it has to be said again within AliveFor.
	Alive(ctx context.Context, ids []uuid.UUID) error
	// Sweep turns intents of which nobody says so any more into records, and tells how many.
	Sweep(ctx context.Context) (int, error)
}

// The times of intents.
const (
	// AliveFor is how long an intent counts as being worked on.
	AliveFor = 60 * time.Second
	// tendEvery is how often that is said, the dead are looked for, and counts of refusals are looked at.
	tendEvery    = 5 * time.Second
	aliveEvery   = 15 * time.Second
	storeTimeout = 10 * time.Second
	maxQueue     = 1024 // refusals that wait to be written
	maxRetry     = 4096 // outcomes that could not be written yet
	batch        = 128
)

// Config of a Recorder.
type Config struct {
	Module     string
	Node       string                // empty: the host name
	Log        *slog.Logger          // nil: slog.Default
	Registerer prometheus.Registerer // may be nil
	Now        func() time.Time      // nil: the system's clock
}

// Recorder makes the records of one module. It exists before its store does: until Start, and after Stop, calls that have to be recorded are
// refused.
type Recorder struct {
	cfg     Config
	metrics *metrics
	limit   *limiter
	queue   chan event.Audit // refusals to write

	mu    sync.Mutex // guards what follows
	store Store      // nil: stopped
	alive map[uuid.UUID]struct{}
	retry []event.Audit // outcomes that could not be written
	loop  *startstop.Loop
}

// New makes a Recorder.
func New(cfg Config) (*Recorder, error) {
	if cfg.Node == "" {
		name, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("audit: name of this host: %w", err)
		}
		cfg.Node = name
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	m, err := newMetrics(cfg.Module, cfg.Registerer)
	if err != nil {
		return nil, err
	}
	return &Recorder{cfg: cfg, metrics: m, limit: newLimiter(cfg.Now), queue: make(chan event.Audit, maxQueue), alive: map[uuid.UUID]struct{}{}}, nil
}

// Start gives the recorder its store.
func (r *Recorder) Start(store Store) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.store != nil {
		return
	}
	r.store, r.loop = store, &startstop.Loop{}
	r.loop.Start(context.Background(), func(ctx context.Context) error { // ends with Stop
		r.tend(ctx, store)
		return nil
	})
}

// Stop writes what waits and gives the store up.
func (r *Recorder) Stop() {
	r.mu.Lock()
	store, loop := r.store, r.loop
	r.store, r.loop = nil, nil
	r.mu.Unlock()
	if store == nil {
		return
	}
	loop.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	r.flush(ctx, store, true)
}

// Flush writes what waits now, the counts of the present minute too.
func (r *Recorder) Flush(ctx context.Context) {
	r.mu.Lock()
	store := r.store
	r.mu.Unlock()
	if store != nil {
		r.flush(ctx, store, true)
	}
}

// Call is a call that is being carried out.
type Call struct {
	r     *Recorder
	scope *scope
	done  sync.Once
}

// Begin writes the intent of a call. Handlers below get the context that it gives. It fails with ErrUnavailable.
func (r *Recorder) Begin(ctx context.Context, record event.Audit) (context.Context, *Call, error) {
	if err := r.complete(&record); err != nil {
		return ctx, nil, err
	}
	record.Result = event.AuditUnknown
	r.mu.Lock()
	store := r.store
	r.alive[record.ID] = struct{}{}
	r.mu.Unlock()
	err := error(ErrUnavailable)
	if store != nil {
		err = store.Begin(ctx, Clean(record))
	}
	if err != nil {
		r.over(record.ID)
		r.metrics.failures.Inc()
		if !errors.Is(err, ErrUnavailable) {
			err = ErrUnavailable.Wrap(fmt.Errorf("write the intent of %s: %w", record.Action, err))
		}
		return ctx, nil, err
	}
	s := &scope{record: record}
	return context.WithValue(ctx, scopeKey{}, s), &Call{r: r, scope: s}, nil
}

// End writes how the call ended. The second time it does nothing.
func (c *Call) End(ctx context.Context, status int, code string) {
	c.done.Do(func() {
		c.scope.mu.Lock()
		record := c.scope.record
		c.scope.mu.Unlock()
		record.Status, record.Code, record.Result = status, code, ResultOf(status)
		c.r.end(ctx, Clean(record))
	})
}

func (r *Recorder) end(ctx context.Context, record event.Audit) {
	defer r.over(record.ID)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	r.mu.Lock()
	store := r.store
	r.mu.Unlock()
	if store == nil { // the intent stays and becomes a record after the next start
		r.metrics.failures.Inc()
		return
	}
	if sparse(record) && !r.limit.allow(record) {
		r.metrics.dropped.Inc()
		if err := store.Drop(ctx, record.ID); err != nil {
			r.cfg.Log.WarnContext(ctx, "the intent of a refused call could not be removed; it will be recorded after all", "error", err, "action", record.Action)
		}
		return
	}
	if err := store.End(ctx, record); err != nil {
		r.metrics.failures.Inc()
		r.mu.Lock()
		kept := len(r.retry) < maxRetry
		if kept {
			r.retry = append(r.retry, record)
		}
		r.mu.Unlock()
		r.cfg.Log.WarnContext(ctx, "the outcome of a call could not be recorded yet", "error", err, "action", record.Action, "record_id", record.ID, "kept", kept)
		return
	}
	r.metrics.count(record)
}

func (r *Recorder) over(id uuid.UUID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.alive, id)
}

// Note records what changed nothing, such as a refusal. It never waits.
func (r *Recorder) Note(record event.Audit) {
	if err := r.complete(&record); err != nil {
		r.metrics.failures.Inc()
		return
	}
	if !r.limit.allow(record) {
		r.metrics.dropped.Inc()
		return
	}
	select {
	case r.queue <- Clean(record):
	default:
		r.limit.drop(record)
		r.metrics.dropped.Inc()
	}
}

func (r *Recorder) complete(record *event.Audit) error {
	if record.ID == uuid.Nil {
		id, err := uuid.NewV7()
		if err != nil {
			return fmt.Errorf("make id of an audit record: %w", err)
		}
		record.ID = id
	}
	if record.Time.IsZero() {
		record.Time = r.cfg.Now()
	}
	record.Module, record.Node = r.cfg.Module, r.cfg.Node
	return nil
}

// tend writes refusals as they come, and now and then does what else there is to do, until ctx ends.
func (r *Recorder) tend(ctx context.Context, store Store) {
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		r.flush(ctx, store, false)
		if n%int(aliveEvery/tendEvery) == 0 {
			r.sweep(ctx, store)
		}
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return
			case first := <-r.queue:
				r.write(ctx, store, append([]event.Audit{first}, r.queued(batch-1)...))
			case <-tick.C:
				waiting = false
			}
		}
	}
}

func (r *Recorder) queued(most int) []event.Audit {
	var list []event.Audit
	for len(list) < most {
		select {
		case record := <-r.queue:
			list = append(list, record)
		default:
			return list
		}
	}
	return list
}

// write writes records; those that cannot be written now are counted.
func (r *Recorder) write(ctx context.Context, store Store, records []event.Audit) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if err := store.Write(ctx, records); err != nil {
		r.metrics.failures.Inc()
		for _, record := range records {
			r.limit.drop(record)
			r.metrics.dropped.Inc()
		}
		r.cfg.Log.WarnContext(ctx, "refused calls could not be recorded; they are counted", "error", err, "records", len(records))
		return
	}
	for _, record := range records {
		r.metrics.count(record)
	}
}

// flush writes the outcomes that wait, and the counts of refusals whose minute is over, or all of them.
func (r *Recorder) flush(ctx context.Context, store Store, all bool) {
	if all {
		if list := r.queued(maxQueue); len(list) > 0 {
			r.write(ctx, store, list)
		}
	}
	var counts []event.Audit
	for _, record := range r.limit.over(all) {
		if r.complete(&record) == nil {
			counts = append(counts, Clean(record))
		}
	}
	if len(counts) > 0 {
		r.write(ctx, store, counts)
	}
	r.mu.Lock()
	outcomes := r.retry
	r.retry = nil
	r.mu.Unlock()
	for i, record := range outcomes {
		trying, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
		err := store.End(trying, record)
		cancel()
		if err != nil {
			r.mu.Lock()
			r.retry = append(outcomes[i:], r.retry...)
			r.mu.Unlock()
			return
		}
		r.metrics.count(record)
	}
}

// sweep says what is still at work and records what nobody works on any more.
func (r *Recorder) sweep(ctx context.Context, store Store) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	r.mu.Lock()
	ids := make([]uuid.UUID, 0, len(r.alive)+len(r.retry))
	for id := range r.alive {
		ids = append(ids, id)
	}
	for _, record := range r.retry {
		ids = append(ids, record.ID)
	}
	r.mu.Unlock()
	var err error
	if len(ids) > 0 {
		err = store.Alive(ctx, ids)
	}
	var found int
	if err == nil {
		found, err = store.Sweep(ctx)
	}
	switch {
	case err != nil && ctx.Err() == nil:
		r.cfg.Log.WarnContext(ctx, "calls that a process left unfinished could not be looked for; it will be tried again", "error", err)
	case found > 0:
		r.metrics.records.WithLabelValues(event.AuditUnknown).Add(float64(found))
		r.cfg.Log.WarnContext(ctx, "a process ended while calls were being carried out; they are recorded with the result unknown", "records", found)
	}
}

// ResultOf gives the result that belongs to the status of an answer.
func ResultOf(status int) string {
	switch {
	case status == 401, status == 403, status == 429:
		return event.AuditRefused
	case status >= 500:
		return event.AuditError
	case status >= 400:
		return event.AuditFailed
	}
	return event.AuditSuccess
}

// sparse tells whether a call was refused before it could change anything, so that a flood of its kind may be counted instead of recorded.
func sparse(r event.Audit) bool {
	switch r.Status {
	case 400, 401, 403, 404, 405, 413, 415, 422, 429:
		return true
	}
	return false
}
