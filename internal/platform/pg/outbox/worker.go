package outbox

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/bus"
)

const (
	batchSize      = 256
	trimBatch      = 1000
	lockRelaySQL   = `SELECT pg_try_advisory_lock(hashtextextended('novacron.outbox.relay.' || current_schema(), 0))`
	unpublishedSQL = selectColumns + `WHERE published_at IS NULL ORDER BY seq LIMIT $1`
	markSQL        = `UPDATE outbox SET published_at = clock_timestamp() WHERE seq = ANY($1)`
	trimSQL        = `DELETE FROM outbox WHERE seq IN (SELECT seq FROM outbox
		WHERE created_at < clock_timestamp() - $1::interval AND published_at IS NOT NULL ORDER BY seq LIMIT $2)`
)

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
