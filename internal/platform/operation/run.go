package operation

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/pg"
)

// Run is an operation at work, as its steps see it. Its methods may be called from any goroutine.
type Run struct {
	engine *Engine
	saga   Saga
	id     uuid.UUID
	epoch  int64 // of the lease that the run holds
	log    *slog.Logger

	// Two contexts, because a user's cancellation ends the steps forward but neither the lease nor the undo.
	held   context.Context // until the lease is lost or the engine stops
	lose   context.CancelCauseFunc
	steps  context.Context // until a user cancels, too
	cancel context.CancelCauseFunc
	expiry *time.Timer // calls lose when the lease runs out
	// ending is set while the run writes its own end, whose notice must not interrupt the very commit that it tells of. Whoever else ends
	// the operation meanwhile is told from it by the epoch.
	ending atomic.Bool

	mu   sync.Mutex // guards what follows
	row  row
	step int       // index of the step at work
	told time.Time // when progress was last written
}

// Operation gives the operation as it was last written.
func (r *Run) Operation() Operation { return r.snapshot().Operation }

// snapshot gives the row in a form that the run does not change any more.
func (r *Run) snapshot() row {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.row
	o.Steps = slices.Clone(o.Steps)
	return o
}

// update changes the row in memory.
func (r *Run) update(change func(o *row)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.row)
}

// Logger gives a logger that names the operation.
func (r *Run) Logger() *slog.Logger { return r.log }

// Input decodes what the operation was created with.
func (r *Run) Input(v any) error {
	if err := json.Unmarshal(r.snapshot().input, v); err != nil {
		return fmt.Errorf("decode input of operation: %w", err)
	}
	return nil
}

// State decodes what an earlier step or attempt kept with SetState. Where none did, v stays as it is.
func (r *Run) State(v any) error {
	if err := json.Unmarshal(r.snapshot().state, v); err != nil {
		return fmt.Errorf("decode state of operation: %w", err)
	}
	return nil
}

// SetState keeps v for later steps and attempts and for the undo, before the step goes on.
func (r *Run) SetState(ctx context.Context, v any) error {
	state, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode state of operation: %w", err)
	}
	err = r.write(ctx, `UPDATE operations SET state = $3, updated_at = clock_timestamp() WHERE `+fence, state)
	if err == nil {
		r.update(func(o *row) { o.state = state })
	}
	return err
}

// progressEvery is how often the progress within a step is written at most.
const progressEvery = 500 * time.Millisecond

// Progress tells how far the step at work is, in percent. The operation's progress never goes back, and a failure to write it is of no
// account.
func (r *Run) Progress(ctx context.Context, percent int) {
	r.mu.Lock()
	now := progressAt(r.saga.Steps, r.step, min(max(percent, 0), 100))
	due := !r.row.undoing && now > r.row.Progress && time.Since(r.told) >= progressEvery
	if due {
		r.row.Progress, r.told = now, time.Now()
	}
	r.mu.Unlock()
	if !due {
		return
	}
	err := r.write(ctx, `UPDATE operations SET progress = greatest(progress, $3), updated_at = clock_timestamp() WHERE `+fence, now)
	if err != nil {
		r.log.DebugContext(ctx, "progress not written", "error", err)
	}
}

// progressAt is the progress of the whole after so many steps and a part of the next. 100 is for the end alone.
func progressAt(steps []Step, ended, percent int) int {
	total, done := 0, 0
	for i, s := range steps {
		weight := max(s.Weight, 1)
		total += weight * 100
		switch {
		case i < ended:
			done += weight * 100
		case i == ended:
			done += weight * percent
		}
	}
	return min(done*100/total, 99)
}

// fence lets a write through only while the run holds its lease and the operation lives. $1 and $2 are the run's.
const fence = `id = $1 AND lease_epoch = $2 AND ended_at IS NULL`

// write writes once. It answers errLost where the fence holds it back.
func (r *Run) write(ctx context.Context, sql string, args ...any) error {
	tag, err := r.engine.cfg.Pool.Exec(ctx, sql, append([]any{r.id, r.epoch}, args...)...)
	switch {
	case err != nil && r.held.Err() != nil:
		return context.Cause(r.held)
	case err != nil:
		return fmt.Errorf("write operation: %w", pg.Map(err))
	case tag.RowsAffected() == 0:
		return errLost
	}
	r.engine.changed(r.Operation())
	return nil
}

const saveSQL = `UPDATE operations SET steps = $3, progress = greatest(progress, $4), undoing = $5, error = $6, updated_at = clock_timestamp()
	WHERE ` + fence

// save writes how the run stands. It tries until the database takes it or the lease is lost.
func (r *Run) save() error { return r.saveIf("") }

// saveIf is save under a condition more. It answers errLost where that does not hold, too.
func (r *Run) saveIf(condition string) error {
	o := r.snapshot()
	return r.persist(func() error {
		return r.write(r.held, saveSQL+condition, o.Steps, o.Progress, o.undoing, encode(o.Error))
	})
}

// persist tries until the database answers.
func (r *Run) persist(try func() error) error {
	for n := 1; ; n++ {
		err := try()
		if err == nil || !errs.Retryable(err) {
			return err
		}
		r.log.WarnContext(r.held, "database is away; the operation waits for it", "attempt", n, "error", err)
		if err := r.sleep(r.held, pause(n, shortPause)); err != nil {
			return err
		}
	}
}

// sleep lets a short pause pass. It answers why held has ended, if it has; the end of ctx alone only ends the pause.
func (r *Run) sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	if r.held.Err() != nil {
		return context.Cause(r.held)
	}
	return nil
}
