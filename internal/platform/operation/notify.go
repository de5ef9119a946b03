package operation

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/pg"
)

// pollEvery is how often those who wait look for themselves, because a notice may be lost.
const pollEvery = time.Second

// hub tells the waiters of this process that an operation has changed.
type hub struct {
	mu      sync.Mutex // guards waiters
	waiters map[uuid.UUID]map[chan struct{}]bool
}

func newHub() *hub { return &hub{waiters: map[uuid.UUID]map[chan struct{}]bool{}} }

// changed wakes whoever waits for the operation. It never blocks.
func (h *hub) changed(id uuid.UUID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.waiters[id] {
		select {
		case c <- struct{}{}:
		default: // woken already
		}
	}
}

func (h *hub) wait(id uuid.UUID) (wake <-chan struct{}, done func()) {
	c := make(chan struct{}, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waiters[id] == nil {
		h.waiters[id] = map[chan struct{}]bool{}
	}
	h.waiters[id][c] = true
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.waiters[id], c)
		if len(h.waiters[id]) == 0 {
			delete(h.waiters, id)
		}
	}
}

func (e *Engine) channel() string { return e.cfg.Schema + "_operation" }

// notify tells every process of a change that matters to others, once the transaction commits.
func (e *Engine) notify(ctx context.Context, tx pgx.Tx, id uuid.UUID) error {
	_, err := tx.Exec(ctx, "SELECT pg_notify($1, $2)", e.channel(), id.String())
	return err
}

// listen hears what notify says: it wakes the waiters and interrupts a run that was canceled or superseded. It ends with ctx.
func (e *Engine) listen(ctx context.Context) {
	for ctx.Err() == nil {
		if err := e.listenOnce(ctx); err != nil && ctx.Err() == nil {
			e.cfg.Log.WarnContext(ctx, "notices of operations are interrupted; polling goes on", "error", err)
			timer := time.NewTimer(pollEvery)
			select {
			case <-ctx.Done():
			case <-timer.C:
			}
			timer.Stop()
		}
	}
}

func (e *Engine) listenOnce(ctx context.Context) error {
	pooled, err := e.cfg.Pool.Acquire(ctx)
	if err != nil {
		return pg.Map(err)
	}
	conn := pooled.Hijack() // a listening connection is not given back to the pool
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing)
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{e.channel()}.Sanitize()); err != nil {
		return fmt.Errorf("listen: %w", pg.Map(err))
	}
	for {
		notice, err := conn.WaitForNotification(ctx)
		if err != nil {
			return pg.Map(err)
		}
		id, err := uuid.Parse(notice.Payload)
		if err != nil {
			continue
		}
		e.interrupt(ctx, id)
		e.hub.changed(id)
	}
}

// interrupt ends the run of an operation that it must not go on with.
func (e *Engine) interrupt(ctx context.Context, id uuid.UUID) {
	e.mu.Lock()
	run, atWork := e.runs[id]
	e.mu.Unlock()
	if !atWork {
		return
	}
	op, err := e.Get(ctx, id)
	switch {
	case err != nil: // the next renewal of the lease finds out
	case op.EndedAt != nil:
		run.lose(errLost)
	case op.CancelRequested:
		run.cancel(errUser)
	}
}

// Wait waits for the end of an operation. When ctx ends first it answers the operation as it is then, with ctx's error.
func (e *Engine) Wait(ctx context.Context, id uuid.UUID) (Operation, error) {
	var last Operation
	err := e.Watch(ctx, id, func(op Operation) error { last = op; return nil })
	return last, err
}

// Watch calls each with the operation at once and after every change, and returns once it has ended. It returns the error of
// each, or of ctx.
func (e *Engine) Watch(ctx context.Context, id uuid.UUID, each func(Operation) error) error {
	wake, done := e.hub.wait(id)
	defer done()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var seen time.Time
	for {
		op, err := e.Get(ctx, id)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return err
		}
		if !op.UpdatedAt.Equal(seen) {
			seen = op.UpdatedAt
			if err := each(op); err != nil {
				return err
			}
		}
		if op.EndedAt != nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wake:
		case <-tick.C:
		}
	}
}
