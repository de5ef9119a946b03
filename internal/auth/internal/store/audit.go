package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/chain"
	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/platform/pg/outbox"
)

// AuditRow is a row of the audit trail, with its details as they are stored, which is what its hash covers.
type AuditRow struct {
	event.AuditEntry
	Text string
}

const auditColumns = `seq, id, time, source, module, node, action, permission, method, target_kind, target_id, user_id, username, api_key_id, session_id,
	tenant_id, home_tenant_id, address, user_agent, result, status, code, request_id, trace_id, count, details, prev_hash, hash`

func auditRow(row pgx.CollectableRow) (AuditRow, error) {
	var r AuditRow
	err := row.Scan(&r.Seq, &r.ID, &r.Time, &r.Source, &r.Module, &r.Node, &r.Action, &r.Permission, &r.Method, &r.TargetKind, &r.TargetID, &r.UserID,
		&r.Username, &r.APIKeyID, &r.SessionID, &r.TenantID, &r.HomeTenantID, &r.Address, &r.UserAgent, &r.Result, &r.Status, &r.Code, &r.RequestID,
		&r.TraceID, &r.Count, &r.Text, (*[]byte)(&r.PrevHash), (*[]byte)(&r.Hash))
	if err != nil {
		return r, err
	}
	r.Time = r.Time.UTC()
	if r.Text != "{}" {
		if json.Unmarshal([]byte(r.Text), &r.Details) != nil { // somebody has been at it; verification says so
			r.Details = map[string]string{"unreadable": r.Text}
		}
	}
	return r, nil
}

// lockChainSQL makes whoever appends or prunes the only one who does, in any number of processes.
const lockChainSQL = `SELECT pg_advisory_xact_lock(hashtextextended('novacron.audit.chain.' || current_schema(), 0))`

// SourceRecord is a record as a module's outbox gave it.
type SourceRecord struct {
	Seq int64 // in that outbox
	event.Audit
}

// AppendAudit chains records of one source, up to its seq last, and publishes them in the same transaction. Records that are there already are left
// out. It gives what was appended.
func (s *Store) AppendAudit(ctx context.Context, source string, records []SourceRecord, last int64) ([]event.AuditEntry, error) {
	var appended []event.AuditEntry
	err := pg.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		appended = nil
		if _, err := tx.Exec(ctx, lockChainSQL); err != nil {
			return fmt.Errorf("take the lock of the chain: %w", err)
		}
		var cursor int64
		err := tx.QueryRow(ctx, `SELECT coalesce((SELECT seq FROM audit_sources WHERE source = $1), 0)`, source).Scan(&cursor)
		if err != nil {
			return fmt.Errorf("read how far %s was read: %w", source, err)
		}
		if last <= cursor { // another process was faster
			return nil
		}
		known, err := knownRecords(ctx, tx, records)
		if err != nil {
			return err
		}
		head, err := auditHead(ctx, tx)
		if err != nil {
			return err
		}
		b := &pgx.Batch{}
		for _, r := range records {
			if r.Seq <= cursor || known[r.ID] {
				continue
			}
			known[r.ID] = true
			e := event.AuditEntry{Audit: r.Audit, Seq: head.Seq + 1, Source: source, PrevHash: head.Hash}
			text, err := chain.Details(e.Details)
			if err != nil {
				return err
			}
			e.Hash = chain.Hash(e, text)
			head = chain.Head{Seq: e.Seq, Hash: e.Hash}
			queueAudit(b, e, text)
			appended = append(appended, e)
		}
		b.Queue(`INSERT INTO audit_sources (source, seq) VALUES ($1, $2) ON CONFLICT (source) DO UPDATE SET seq = excluded.seq`, source, last)
		if err := tx.SendBatch(ctx, b).Close(); err != nil {
			return fmt.Errorf("insert rows: %w", err)
		}
		for _, e := range appended {
			if err := outbox.Write(ctx, tx, bus.SubjectAuditEvents, uuid.NewSHA1(e.ID, []byte(bus.SubjectAuditEvents)), e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("append to the audit trail: %w", err)
	}
	return appended, nil
}

func knownRecords(ctx context.Context, tx pgx.Tx, records []SourceRecord) (map[uuid.UUID]bool, error) {
	ids := make([]uuid.UUID, len(records))
	for i, r := range records {
		ids[i] = r.ID
	}
	rows, err := tx.Query(ctx, `SELECT id FROM audit_log WHERE id = ANY($1)`, ids)
	if err != nil {
		return nil, fmt.Errorf("look for records: %w", err)
	}
	have, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("look for records: %w", err)
	}
	known := make(map[uuid.UUID]bool, len(have))
	for _, id := range have {
		known[id] = true
	}
	return known, nil
}

func queueAudit(b *pgx.Batch, e event.AuditEntry, text string) {
	b.Queue(`INSERT INTO audit_log (`+auditColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
		$22, $23, $24, $25, $26, $27, $28)`, e.Seq, e.ID, e.Time, e.Source, e.Module, e.Node, e.Action, e.Permission, e.Method, e.TargetKind, e.TargetID,
		e.UserID, e.Username, e.APIKeyID, e.SessionID, e.TenantID, e.HomeTenantID, e.Address, e.UserAgent, e.Result, e.Status, e.Code, e.RequestID,
		e.TraceID, e.Count, text, []byte(e.PrevHash), []byte(e.Hash))
}

// querier reads, in a transaction or outside of one.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// auditHead gives the newest row, or where the chain begins.
func auditHead(ctx context.Context, db querier) (chain.Head, error) {
	var h chain.Head
	err := db.QueryRow(ctx, `SELECT seq, hash FROM audit_log ORDER BY seq DESC LIMIT 1`).Scan(&h.Seq, &h.Hash)
	if errors.Is(err, pgx.ErrNoRows) {
		base, err := auditBase(ctx, db)
		if err != nil || base == nil {
			return chain.Head{Hash: chain.Genesis()}, err
		}
		return base.Head, nil
	}
	if err != nil {
		return h, fmt.Errorf("read the head of the chain: %w", err)
	}
	return h, nil
}

// AuditHead gives the newest row of the chain.
func (s *Store) AuditHead(ctx context.Context) (chain.Head, error) {
	h, err := auditHead(ctx, s.pool)
	return h, pg.Map(err)
}

const checkpointColumns = `seq, kind, hash, created_at, key_id, signature`

func checkpoint(row pgx.CollectableRow) (c chain.Checkpoint, err error) {
	err = row.Scan(&c.Seq, &c.Kind, &c.Hash, &c.CreatedAt, &c.KeyID, &c.Signature)
	c.CreatedAt = c.CreatedAt.UTC()
	return c, err
}

// auditBase gives the checkpoint that the chain begins behind; nil: it begins at its beginning.
func auditBase(ctx context.Context, db querier) (*chain.Checkpoint, error) {
	list, err := checkpoints(ctx, db, `WHERE kind = 'prune' ORDER BY seq DESC LIMIT 1`)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return &list[0], nil
}

// AuditBase is auditBase for the service.
func (s *Store) AuditBase(ctx context.Context) (*chain.Checkpoint, error) {
	return auditBase(ctx, s.pool)
}

func checkpoints(ctx context.Context, db querier, where string, args ...any) ([]chain.Checkpoint, error) {
	rows, err := db.Query(ctx, `SELECT `+checkpointColumns+` FROM audit_checkpoints `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read checkpoints: %w", pg.Map(err))
	}
	list, err := pgx.CollectRows(rows, checkpoint)
	if err != nil {
		return nil, fmt.Errorf("read checkpoints: %w", pg.Map(err))
	}
	return list, nil
}

// AuditCheckpoints gives the signed heads behind after, up to upTo.
func (s *Store) AuditCheckpoints(ctx context.Context, after, upTo int64) ([]chain.Checkpoint, error) {
	return checkpoints(ctx, s.pool, `WHERE kind = 'head' AND seq > $1 AND seq <= $2 ORDER BY seq`, after, upTo)
}

// NewestAuditCheckpoint gives the last signed head; nil: none.
func (s *Store) NewestAuditCheckpoint(ctx context.Context) (*chain.Checkpoint, error) {
	list, err := checkpoints(ctx, s.pool, `WHERE kind = 'head' ORDER BY seq DESC LIMIT 1`)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return &list[0], nil
}

const insertCheckpointSQL = `INSERT INTO audit_checkpoints (` + checkpointColumns + `) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`

// thinCheckpointsSQL keeps one signed head of every ten minutes besides the newest.
const thinCheckpointsSQL = `DELETE FROM audit_checkpoints WHERE kind = 'head' AND seq < $1 AND key_id = $3
	AND floor(extract(epoch FROM created_at) / 600) = floor(extract(epoch FROM $2::timestamptz) / 600)`

// InsertAuditCheckpoint keeps a checkpoint in place of the others of the same ten minutes.
func (s *Store) InsertAuditCheckpoint(ctx context.Context, c chain.Checkpoint) error {
	_, err := s.pool.Exec(ctx, insertCheckpointSQL, c.Seq, c.Kind, c.Hash, c.CreatedAt, c.KeyID, c.Signature)
	if err == nil {
		_, err = s.pool.Exec(ctx, thinCheckpointsSQL, c.Seq, c.CreatedAt, c.KeyID)
	}
	if err != nil {
		return fmt.Errorf("keep checkpoint: %w", pg.Map(err))
	}
	return nil
}

// AuditAt gives the hash of one row; nil: there is none.
func (s *Store) AuditAt(ctx context.Context, seq int64) ([]byte, error) {
	var hash []byte
	err := s.pool.QueryRow(ctx, `SELECT hash FROM audit_log WHERE seq = $1`, seq).Scan(&hash)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read row %d: %w", seq, pg.Map(err))
	}
	return hash, nil
}

// AuditRows gives the rows behind after in the order of the chain.
func (s *Store) AuditRows(ctx context.Context, after int64, limit int) ([]AuditRow, error) {
	return s.auditRows(ctx, `WHERE seq > $1 ORDER BY seq LIMIT $2`, after, limit)
}

func (s *Store) auditRows(ctx context.Context, where string, args ...any) ([]AuditRow, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+auditColumns+` FROM audit_log `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read the audit trail: %w", pg.Map(err))
	}
	list, err := pgx.CollectRows(rows, auditRow)
	if err != nil {
		return nil, fmt.Errorf("read the audit trail: %w", pg.Map(err))
	}
	return list, nil
}

// AuditFilter says which rows to give; zero values do not narrow.
type AuditFilter struct {
	Reach      Reach
	Tenant     uuid.UUID
	User       uuid.UUID
	Username   string
	APIKey     uuid.UUID
	Action     string // "vm.*" is every action of vm
	Target     string // id
	TargetKind string
	Result     string // "bad" is everything but success
	Module     string
	Address    string
	RequestID  string
	Since      time.Time
	Until      time.Time
}

// sql gives the conditions of a filter, and their arguments.
func (f AuditFilter) sql() (string, []any) {
	var conditions []string
	var args []any
	add := func(given bool, condition string, arg any) {
		if given {
			args = append(args, arg)
			conditions = append(conditions, strings.ReplaceAll(condition, "?", "$"+strconv.Itoa(len(args))))
		}
	}
	if f.Reach != nil {
		add(true, "tenant_id = ?", *f.Reach)
	}
	add(f.Tenant != uuid.Nil, "tenant_id = ?", f.Tenant)
	add(f.User != uuid.Nil, "user_id = ?", f.User)
	add(f.Username != "", "username = ?", f.Username)
	add(f.APIKey != uuid.Nil, "api_key_id = ?", f.APIKey)
	if prefix, ok := strings.CutSuffix(f.Action, "*"); ok {
		add(prefix != "", "starts_with(action, ?)", prefix)
	} else {
		add(f.Action != "", "action = ?", f.Action)
	}
	add(f.Target != "", "target_id = ?", f.Target)
	add(f.TargetKind != "", "target_kind = ?", f.TargetKind)
	if f.Result == "bad" {
		conditions = append(conditions, "result <> 'success'")
	} else {
		add(f.Result != "", "result = ?", f.Result)
	}
	add(f.Module != "", "module = ?", f.Module)
	add(f.Address != "", "address = ?", f.Address)
	add(f.RequestID != "", "request_id = ?", f.RequestID)
	add(!f.Since.IsZero(), "time >= ?", f.Since)
	add(!f.Until.IsZero(), "time < ?", f.Until)
	conditions = append(conditions, "true")
	return strings.Join(conditions, " AND "), args
}

// SearchAudit gives rows newest first, those before the number before; 0: from the newest on.
func (s *Store) SearchAudit(ctx context.Context, f AuditFilter, before int64, limit int) ([]AuditRow, error) {
	where, args := f.sql()
	if before > 0 {
		args = append(args, before)
		where += " AND seq < $" + strconv.Itoa(len(args))
	}
	return s.auditRows(ctx, "WHERE "+where+" ORDER BY seq DESC LIMIT "+strconv.Itoa(limit), args...)
}

// ExportAudit gives rows oldest first, those behind after and up to upTo.
func (s *Store) ExportAudit(ctx context.Context, f AuditFilter, after, upTo int64, limit int) ([]AuditRow, error) {
	where, args := f.sql()
	args = append(args, after, upTo)
	n := len(args)
	return s.auditRows(ctx, fmt.Sprintf("WHERE %s AND seq > $%d AND seq <= $%d ORDER BY seq LIMIT %d", where, n-1, n, limit), args...)
}

// AuditRecord gives one row within reach, or ErrAuditNotFound.
func (s *Store) AuditRecord(ctx context.Context, id uuid.UUID, reach Reach) (AuditRow, error) {
	list, err := s.auditRows(ctx, `WHERE id = $1 AND ($2::uuid IS NULL OR tenant_id = $2)`, id, reach)
	if err == nil && len(list) == 0 {
		err = auth.ErrAuditNotFound
	}
	if err != nil {
		return AuditRow{}, err
	}
	return list[0], nil
}

// AuditSources tells how far each source was read.
func (s *Store) AuditSources(ctx context.Context) (map[string]int64, error) {
	rows, err := s.pool.Query(ctx, `SELECT source, seq FROM audit_sources`)
	if err != nil {
		return nil, fmt.Errorf("read sources of audit records: %w", pg.Map(err))
	}
	sources := map[string]int64{}
	var source string
	var seq int64
	_, err = pgx.ForEachRow(rows, []any{&source, &seq}, func() error {
		sources[source] = seq
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read sources of audit records: %w", pg.Map(err))
	}
	return sources, nil
}

// RewindAudit begins to read a source from its beginning, because its outbox was made anew.
func (s *Store) RewindAudit(ctx context.Context, source string) error {
	if _, err := s.pool.Exec(ctx, `UPDATE audit_sources SET seq = 0 WHERE source = $1`, source); err != nil {
		return fmt.Errorf("rewind source %s: %w", source, pg.Map(err))
	}
	return nil
}

// pruneBatch bounds one transaction of PruneAudit.
const pruneBatch = 10_000

// PruneAudit removes the rows from before a time, some at once, and tells how many. sign signs the last of them, where the chain begins from then on.
// The newest row always stays.
func (s *Store) PruneAudit(ctx context.Context, before time.Time, sign func(chain.Head) chain.Checkpoint) (int64, error) {
	var removed int64
	err := pg.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		removed = 0
		if _, err := tx.Exec(ctx, lockChainSQL); err != nil {
			return fmt.Errorf("take the lock of the chain: %w", err)
		}
		// Rows come in about the order of time. What is removed is the longest run from the beginning on that is old throughout.
		var last chain.Head
		err := tx.QueryRow(ctx, `WITH oldest AS (SELECT seq, time, hash FROM audit_log ORDER BY seq LIMIT $2),
			young AS (SELECT min(seq) AS seq FROM oldest WHERE time >= $1)
			SELECT o.seq, o.hash FROM oldest o, young y WHERE o.seq < coalesce(y.seq, o.seq + 1) AND o.seq < (SELECT max(seq) FROM audit_log)
			ORDER BY o.seq DESC LIMIT 1`, before, pruneBatch).Scan(&last.Seq, &last.Hash)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("find old rows: %w", err)
		}
		c := sign(last)
		b := &pgx.Batch{}
		b.Queue(`SELECT set_config('novacron.audit_prune', 'on', true)`)
		b.Queue(insertCheckpointSQL, c.Seq, c.Kind, c.Hash, c.CreatedAt, c.KeyID, c.Signature)
		b.Queue(`DELETE FROM audit_checkpoints WHERE seq < $1 OR seq = $1 AND kind = 'head'`, last.Seq)
		if err := tx.SendBatch(ctx, b).Close(); err != nil {
			return fmt.Errorf("sign what is left: %w", err)
		}
		tag, err := tx.Exec(ctx, `DELETE FROM audit_log WHERE seq <= $1`, last.Seq)
		if err != nil {
			return fmt.Errorf("remove old rows: %w", err)
		}
		removed = tag.RowsAffected()
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("prune the audit trail: %w", err)
	}
	return removed, nil
}
