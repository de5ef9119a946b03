package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
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
	batchSize        = 256
	trimBatch        = 1000
	publishTimeout   = 10 * time.Second
	lockRelaySQL     = `SELECT pg_try_advisory_lock(hashtextextended('novacron.outbox.relay.' || current_schema(), 0))`
	unpublishedSQL   = selectColumns + `WHERE published_at IS NULL ORDER BY seq LIMIT $1`
	markSQL          = `UPDATE outbox SET published_at = clock_timestamp() WHERE seq = ANY($1)`
	trimSQL          = `DELETE FROM outbox WHERE seq IN (SELECT seq FROM outbox
		WHERE created_at < clock_timestamp() - $1::interval AND published_at IS NOT NULL ORDER BY seq LIMIT $2)`
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

// worker is the state of one session.
type worker struct {
	*Relay
	conn     *pgx.Conn
	schema   string
	leads    bool // holds the relay lock
	failing  bool // the bus refused the last event; said once
	nextTrim time.Time
}

// turn does what there is to do now.
func (w *worker) turn(ctx context.Context) error {
	if !w.leads {
		if err := w.conn.QueryRow(ctx, lockRelaySQL).Scan(&w.leads); err != nil {
			return fmt.Errorf("take relay lock: %w", err)
		}
		if !w.leads {
			return nil
		}
	}
	if err := w.publish(ctx); err != nil {
		return err
	}
	if w.cfg.Retention > 0 && time.Now().After(w.nextTrim) {
		if err := w.trim(ctx); err != nil {
			return err
		}
		w.nextTrim = time.Now().Add(min(time.Hour, w.cfg.Retention/10))
	}
	return nil
}

// publish publishes what waits, in order, and stops at the first event that the bus does not take. There is no transaction around it:
// what is published and not marked, because we die in between, is published again.
func (w *worker) publish(ctx context.Context) error {
	for {
		rows, err := w.conn.Query(ctx, unpublishedSQL, batchSize)
		if err != nil {
			return fmt.Errorf("read unpublished events: %w", err)
		}
		events, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Event])
		if err != nil {
			return fmt.Errorf("read unpublished events: %w", err)
		}
		if len(events) == 0 {
			return nil
		}
		told, refused := w.tell(ctx, events)
		if len(told) > 0 {
			// Stop must not make us repeat them.
			marking, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishTimeout)
			_, err := w.conn.Exec(marking, markSQL, told)
			cancel()
			if err != nil {
				return fmt.Errorf("mark published events: %w", err)
			}
		}
		if refused != nil {
			if !w.failing && ctx.Err() == nil {
				w.log.Warn("the bus does not take events; they are kept and tried again", "schema", w.schema, "error", refused)
			}
			w.failing = true
			return ctx.Err()
		}
		if w.failing {
			w.log.Info("the bus takes events again", "schema", w.schema)
		}
		w.failing = false
	}
}

// tell publishes events until the bus refuses one, and gives the seq of those that are done.
func (w *worker) tell(ctx context.Context, events []Event) (told []int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	for _, e := range events {
		err := w.bus.Publish(ctx, bus.Message{
			Subject: e.Subject,
			Header: map[string]string{
				HeaderSeq: strconv.FormatInt(e.Seq, 10), HeaderEventID: e.ID.String(), HeaderSource: w.schema,
			},
			Data: e.Payload,
		})
		if errors.Is(err, bus.ErrInvalidSubject) {
			// No later attempt can help, and those behind it wait. It stays readable by replay.
			w.log.Error("an event has a subject that the bus never takes; it is skipped", "schema", w.schema, "seq", e.Seq, "error", err)
			err = nil
		}
		if err != nil {
			return told, err
		}
		told = append(told, e.Seq)
	}
	return told, nil
}

// trim deletes what is older than the retention, in small steps.
func (w *worker) trim(ctx context.Context) error {
	for {
		tag, err := w.conn.Exec(ctx, trimSQL, w.cfg.Retention, trimBatch)
		if err != nil {
			return fmt.Errorf("delete old events: %w", err)
		}
		if tag.RowsAffected() < trimBatch {
			return nil
		}
	}
}
