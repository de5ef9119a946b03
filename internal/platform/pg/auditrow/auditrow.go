// Package auditrow keeps intents of calls, and the records of what became of them, in the schema of the module that serves the calls. It is the
// store behind platform/audit.
//
// Records go to the module's outbox, on bus.SubjectAuditRecords. The module's migration creates the table of intents with the text of Schema,
// copied as it is. All times are the database's.
package auditrow

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/audit"
	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/platform/pg/outbox"
)

// Schema is the DDL of the table, to be copied into a migration of each module that serves calls which change something.
//
//go:embed schema.sql
var Schema string

// sweepBatch bounds one transaction of Sweep.
const sweepBatch = 100

// Store implements audit.Store.
type Store struct {
	pool *pgxpool.Pool
}

var _ audit.Store = (*Store)(nil)

// New makes a store in the pool's schema, which has an outbox.
func New(pool *pgxpool.Pool) *Store { return &Store{pool: pool} }

// lazy lets a transaction commit without waiting for the disk. What it writes stands in the write-ahead log before the changes of the call that
// follows, so a commit that waits, such as that of those changes, takes it to the disk too:
// https://www.postgresql.org/docs/current/wal-async-commit.html
const lazy = `set_config('synchronous_commit', 'off', true)`

const beginSQL = `WITH lazily AS MATERIALIZED (SELECT ` + lazy + `)
INSERT INTO audit_intents (id, record, alive_until) SELECT $1, $2, clock_timestamp() + $3::interval FROM lazily`

// Begin implements audit.Store.
func (s *Store) Begin(ctx context.Context, record event.Audit) error {
	text, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("encode intent: %w", err)
	}
	if _, err := s.pool.Exec(ctx, beginSQL, record.ID, text, audit.AliveFor); err != nil {
		return fmt.Errorf("insert intent: %w", pg.Map(err))
	}
	return nil
}

// End implements audit.Store. Where the intent was taken for that of a dead process meanwhile, there is a record already, and the outcome becomes
// another one.
func (s *Store) End(ctx context.Context, record event.Audit) error {
	err := pg.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `WITH lazily AS MATERIALIZED (SELECT `+lazy+`) DELETE FROM audit_intents USING lazily WHERE id = $1`, record.ID)
		if err != nil {
			return fmt.Errorf("remove intent: %w", err)
		}
		if tag.RowsAffected() > 0 {
			return write(ctx, tx, record)
		}
		var before string
		err = tx.QueryRow(ctx, `SELECT coalesce((SELECT payload->>'result' FROM outbox WHERE id = $1), $2)`, record.ID, event.AuditUnknown).Scan(&before)
		switch {
		case err != nil:
			return fmt.Errorf("look for the record: %w", err)
		case before != event.AuditUnknown: // an earlier try did it, and we never heard
			return nil
		}
		return write(ctx, tx, later(record))
	})
	if err != nil {
		return fmt.Errorf("record outcome: %w", err)
	}
	return nil
}

// later is the record of an outcome that comes after the call was recorded as unknown. Its id follows from that of the call, so that it, too, is
// written once.
func later(record event.Audit) event.Audit {
	details := map[string]string{"completes": record.ID.String()}
	for k, v := range record.Details {
		details[k] = v
	}
	record.ID, record.Details = uuid.NewSHA1(record.ID, []byte("outcome")), details
	return record
}

func write(ctx context.Context, tx pgx.Tx, record event.Audit) error {
	return outbox.Write(ctx, tx, bus.SubjectAuditRecords, record.ID, record)
}

// Drop implements audit.Store.
func (s *Store) Drop(ctx context.Context, id uuid.UUID) error {
	if _, err := s.pool.Exec(ctx, `WITH lazily AS MATERIALIZED (SELECT `+lazy+`) DELETE FROM audit_intents USING lazily WHERE id = $1`, id); err != nil {
		return fmt.Errorf("remove intent: %w", pg.Map(err))
	}
	return nil
}

// Write implements audit.Store.
func (s *Store) Write(ctx context.Context, records []event.Audit) error {
	err := pg.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		for _, record := range records {
			if err := write(ctx, tx, record); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write audit records: %w", err)
	}
	return nil
}

// Alive implements audit.Store.
func (s *Store) Alive(ctx context.Context, ids []uuid.UUID) error {
	if _, err := s.pool.Exec(ctx, `UPDATE audit_intents SET alive_until = clock_timestamp() + $2::interval WHERE id = ANY($1)`, ids, audit.AliveFor); err != nil {
		return fmt.Errorf("keep intents: %w", pg.Map(err))
	}
	return nil
}

// Sweep implements audit.Store.
func (s *Store) Sweep(ctx context.Context) (int, error) {
	for total := 0; ; {
		found := 0
		err := pg.InTx(ctx, s.pool, func(tx pgx.Tx) error {
			rows, err := tx.Query(ctx, `DELETE FROM audit_intents WHERE id IN (SELECT id FROM audit_intents
				WHERE alive_until < clock_timestamp() ORDER BY alive_until LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING record`, sweepBatch)
			if err != nil {
				return fmt.Errorf("take intents: %w", err)
			}
			texts, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
			if err != nil {
				return fmt.Errorf("take intents: %w", err)
			}
			for _, text := range texts {
				var record event.Audit
				if err := json.Unmarshal(text, &record); err != nil {
					return fmt.Errorf("read intent: %w", err)
				}
				record.Result = event.AuditUnknown
				if err := write(ctx, tx, record); err != nil {
					return err
				}
			}
			found = len(texts)
			return nil
		})
		if err != nil {
			return total, fmt.Errorf("record unfinished calls: %w", err)
		}
		if total += found; found < sweepBatch {
			return total, nil
		}
	}
}
