package outbox

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	_ "embed"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/platform/pg"
)

// Schema is the DDL of the table, to be copied into a migration of each module that publishes events.
//
//go:embed schema.sql
var Schema string

// Event is one row of the outbox.
type Event struct {
	Seq       int64           `json:"seq"` // grows in the order of commits, within one module
	ID        uuid.UUID       `json:"id"`  // for deduplication
	Subject   string          `json:"subject"`
	Payload   json.RawMessage `json:"payload"`
	CreatedAt time.Time       `json:"created_at"`
}

// Querier reads: a pool, a connection or a transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// What the functions of a schema lock and listen on. Advisory locks belong to the database, hence the schema in the key.
const (
	lockSQL   = `SELECT pg_advisory_xact_lock(hashtextextended('novacron.outbox.write.' || current_schema(), 0))`
	insertSQL = `INSERT INTO outbox (id, subject, payload) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING`
	notifySQL = `SELECT pg_notify('outbox_' || current_schema(), '')`
)

// Write adds an event to the transaction, best as its last statement: see the package comment. The payload is encoded as JSON; a
// json.RawMessage or []byte is JSON already. An id that was written before is not written again, so a step that is repeated tells
// its event once.
func Write(ctx context.Context, tx pgx.Tx, subject string, id uuid.UUID, payload any) error {
	if err := checkSubject(subject); err != nil {
		return err
	}
	if id == uuid.Nil {
		return fmt.Errorf("event on %s: its id is empty", subject)
	}
	data, err := encode(payload)
	if err != nil {
		return fmt.Errorf("event on %s: %w", subject, err)
	}
	// One round trip; the statements run in this order.
	b := &pgx.Batch{}
	b.Queue(lockSQL)
	b.Queue(insertSQL, id, subject, data)
	b.Queue(notifySQL)
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("write event on %s: %w", subject, err)
	}
	return nil
}

func encode(payload any) ([]byte, error) {
	var data []byte
	switch p := payload.(type) {
	case json.RawMessage:
		data = p
	case []byte:
		data = p
	default:
		return json.Marshal(payload)
	}
	if !json.Valid(data) {
		return nil, fmt.Errorf("the payload is not JSON")
	}
	return data, nil
}

// checkSubject keeps out what no bus would publish: it would come up again and again in the relay.
func checkSubject(subject string) error {
	for token := range strings.SplitSeq(subject, ".") {
		if token == "" || strings.ContainsAny(token, "*> \t\r\n") {
			return bus.ErrInvalidSubject.WithMessage("%q is not a subject that events can be published on", subject)
		}
	}
	return nil
}

const selectColumns = `SELECT seq, id, subject, payload, created_at FROM outbox `

// Read gives events of a subject with a seq beyond afterSeq, in order, at most limit of them. It serves streams to clients, which
// continue after the last seq they have seen.
func Read(ctx context.Context, db Querier, subject string, afterSeq int64, limit int) ([]Event, error) {
	rows, err := db.Query(ctx, selectColumns+`WHERE subject = $1 AND seq > $2 ORDER BY seq LIMIT $3`, subject, afterSeq, limit)
	if err != nil {
		return nil, fmt.Errorf("read events of %s: %w", subject, pg.Map(err))
	}
	events, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Event])
	if err != nil {
		return nil, fmt.Errorf("read events of %s: %w", subject, pg.Map(err))
	}
	return events, nil
}

// Bounds of what the outbox still holds.
type Bounds struct {
	// First is the lowest seq that is still there, of any subject; what a reader has not seen below it is gone. When the
	// outbox is empty it is the next seq.
	First int64
	// Last is the highest seq of the subject; 0 when there is none.
	Last int64
}

// Extent tells a reader where a subject's events end, and from where on nothing has been deleted.
func Extent(ctx context.Context, db Querier, subject string) (Bounds, error) {
	var b Bounds
	err := db.QueryRow(ctx, `SELECT
		coalesce((SELECT min(seq) FROM outbox), pg_sequence_last_value(pg_get_serial_sequence('outbox', 'seq')) + 1, 1),
		coalesce((SELECT max(seq) FROM outbox WHERE subject = $1), 0)`, subject).Scan(&b.First, &b.Last)
	if err != nil {
		return Bounds{}, fmt.Errorf("extent of events of %s: %w", subject, pg.Map(err))
	}
	return b, nil
}
