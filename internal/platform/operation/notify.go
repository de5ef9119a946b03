package operation

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/pg"
)

// pollEvery is how often those who wait look for themselves: a notice may be lost, and of changes on the way other processes get none.
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
	pg.Listen(ctx, e.cfg.Pool, e.channel(), func(payload string) {
		if id, err := uuid.Parse(payload); err == nil {
			e.look(ctx, id)
		}
	}, func(err error) {
		e.cfg.Log.WarnContext(ctx, "notices of operations are interrupted; polling goes on", "error", err)
	})
}

// look reads an operation that somebody has ended or canceled, if it is at work here.
func (e *Engine) look(ctx context.Context, id uuid.UUID) {
	defer e.hub.changed(id)
	e.mu.Lock()
	_, atWork := e.runs[id]
	e.mu.Unlock()
	if !atWork {
		return
	}
	if op, err := e.Get(ctx, id); err == nil { // else the next renewal of the lease finds out
		e.interrupt(op)
	}
}

// interrupt ends the run of an operation that it must not go on with.
func (e *Engine) interrupt(op Operation) {
	e.mu.Lock()
	run := e.runs[op.ID]
	e.mu.Unlock()
	switch {
	case run == nil || run.ending.Load():
	case op.EndedAt != nil:
		run.lose(errLost)
	case op.CancelRequested:
		run.cancel(errUser)
	}
}
