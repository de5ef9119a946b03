package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/platform/pg"
)

// Headers of a published event.
const (
	HeaderSeq     = "Nova-Seq"      // the event's seq, decimal
	HeaderEventID = "Nova-Event-Id" // the event's id
	HeaderSource  = "Nova-Source"   // the schema whose outbox it comes from; seq counts within it
)

// Config of a Relay.
type Config struct {
	// Interval is how often the relay looks for events although nobody told it of any, and how long it waits after a failure. 0
	// means 2 seconds. A committed Write wakes the relay at once.
	Interval time.Duration
	// Retention is how long an event is kept for replay. 0 means 7 days, negative for ever. What is not published yet stays.
	Retention time.Duration
	// Subjects are those that no other module publishes on; the relay answers their replay requests on ReplaySubject.
	Subjects []string
	// Shared are subjects that several modules publish on; the relay answers for its own part on ReplaySubjectOf.
	Shared []string
	Log    *slog.Logger // nil: slog.Default
}

const (
	defaultInterval  = 2 * time.Second
	defaultRetention = 7 * 24 * time.Hour
	publishTimeout   = 10 * time.Second
)

// Relay publishes a module's events. Any number of relays may run on one schema, in any number of processes: one works, the others
// wait to take over.
type Relay struct {
	pool *pgxpool.Pool
	bus  bus.Bus
	cfg  Config
	log  *slog.Logger
	kick chan struct{} // holds one

	life   sync.Mutex         // held by Start and Stop; guards the following
	cancel context.CancelFunc // nil: stopped
	done   chan struct{}      // closed when the relay's goroutine has ended
	subs   []bus.Subscription
}

// NewRelay makes a relay for the schema that the pool works in.
func NewRelay(pool *pgxpool.Pool, b bus.Bus, cfg Config) *Relay {
	if cfg.Interval <= 0 {
		cfg.Interval = defaultInterval
	}
	if cfg.Retention == 0 {
		cfg.Retention = defaultRetention
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Relay{pool: pool, bus: b, cfg: cfg, log: cfg.Log, kick: make(chan struct{}, 1)}
}

// Start answers replay requests and publishes, until Stop. It fails when the schema has no outbox. A started relay is left as it is.
func (r *Relay) Start(ctx context.Context) error {
	r.life.Lock()
	defer r.life.Unlock()
	if r.cancel != nil {
		return nil
	}
	var schema string
	if err := r.pool.QueryRow(ctx, `SELECT current_schema() FROM (SELECT FROM outbox LIMIT 1) o RIGHT JOIN (SELECT) one ON true`).Scan(&schema); err != nil {
		return fmt.Errorf("start outbox relay: %w", pg.Map(err))
	}
	if err := r.subscribe(schema); err != nil {
		r.unsubscribe()
		return fmt.Errorf("start outbox relay: %w", err)
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.cancel, r.done = cancel, make(chan struct{})
	go r.loop(run, schema, r.done)
	return nil
}

// Stop ends the relay and waits for what it is doing. What is left unpublished comes after the next start.
func (r *Relay) Stop(ctx context.Context) error {
	r.life.Lock()
	defer r.life.Unlock()
	if r.cancel == nil {
		return nil
	}
	r.cancel()
	select {
	case <-r.done:
	case <-ctx.Done():
		return fmt.Errorf("stop outbox relay: %w", ctx.Err())
	}
	r.unsubscribe()
	r.cancel = nil
	return nil
}

// Kick makes the relay look for events now. It never waits.
func (r *Relay) Kick() {
	select {
	case r.kick <- struct{}{}:
	default: // it is about to look anyway
	}
}

func (r *Relay) subscribe(schema string) error {
	add := func(subject, on string) error {
		sub, err := r.bus.Subscribe(on, bus.SubscribeOptions{Queue: "outbox-" + schema}, r.answer(subject))
		if err == nil {
			r.subs = append(r.subs, sub)
		}
		return err
	}
	for _, s := range r.cfg.Subjects {
		if err := add(s, ReplaySubject(s)); err != nil {
			return err
		}
	}
	for _, s := range r.cfg.Shared {
		if err := add(s, ReplaySubjectOf(s, schema)); err != nil {
			return err
		}
	}
	return nil
}

func (r *Relay) unsubscribe() {
	for _, s := range r.subs {
		s.Close()
	}
	r.subs = nil
}

// loop keeps a session going until Stop.
func (r *Relay) loop(ctx context.Context, schema string, done chan struct{}) {
	defer close(done)
	for ctx.Err() == nil {
		err := r.session(ctx, schema)
		if ctx.Err() != nil {
			return
		}
		r.log.Warn("outbox relay lost its database connection", "schema", schema, "error", err)
		t := time.NewTimer(r.cfg.Interval)
		select {
		case <-ctx.Done():
			t.Stop()
		case <-t.C:
		}
	}
}

// session is what one connection lives through. The connection listens, holds the lock that makes this relay the working one, and marks
// what was published; when it breaks, all three end together.
func (r *Relay) session(ctx context.Context, schema string) error {
	pooled, err := r.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	conn := pooled.Hijack() // it stays open for long, so it must not count as one of the pool's
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishTimeout)
		defer cancel()
		_ = conn.Close(closing) // a connection that cannot say good-bye is gone just the same
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{"outbox_" + schema}.Sanitize()); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	w := &worker{Relay: r, conn: conn, schema: schema}
	for {
		if err := w.turn(ctx); err != nil {
			return err
		}
		if err := r.wait(ctx, conn); err != nil {
			return err
		}
	}
}

// wait returns when there may be something to do.
func (r *Relay) wait(ctx context.Context, conn *pgx.Conn) error {
	waiting, cancel := context.WithTimeout(ctx, r.cfg.Interval)
	var kicks sync.WaitGroup
	kicks.Go(func() { // ends with this function, so that it cannot swallow the kick for a later turn
		select {
		case <-r.kick:
			cancel()
		case <-waiting.Done():
		}
	})
	_, err := conn.WaitForNotification(waiting)
	woken := waiting.Err() != nil
	cancel()
	kicks.Wait()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && (!woken || conn.IsClosed()):
		return fmt.Errorf("wait for notification: %w", err)
	}
	// One turn answers all the notifications that have come meanwhile. With an ended context only those are given.
	for err == nil {
		_, err = conn.WaitForNotification(waiting)
	}
	return nil
}
