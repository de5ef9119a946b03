package trail

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/platform/identity"
)

// The permissions of the trail.
const (
	PermRead   = "audit:read"
	PermExport = "audit:export"
	PermVerify = "audit:verify"
)

// reach tells whose records a caller sees: every tenant's, or those of the one that they act in.
func reach(p identity.Principal, permission string) store.Reach {
	if p.AllowsPlatform(permission) {
		return nil
	}
	return &p.TenantID
}

// Search gives records newest first, those before the number before; 0: from the newest on.
func (t *Trail) Search(ctx context.Context, p identity.Principal, f store.AuditFilter, before int64, limit int) ([]store.AuditRow, error) {
	f.Reach = reach(p, PermRead)
	return t.deps.Store.SearchAudit(ctx, f, before, limit)
}

// Record gives one record.
func (t *Trail) Record(ctx context.Context, p identity.Principal, id uuid.UUID) (store.AuditRow, error) {
	return t.deps.Store.AuditRecord(ctx, id, reach(p, PermRead))
}

// exportBatch is how many rows are read at once.
const exportBatch = 1000

// Encoder writes records in some format.
type Encoder interface {
	Begin() error
	Write(r store.AuditRow) error
	Flush() error
}

// Export writes the records there are at this moment, oldest first. It holds no transaction, so it may take as long as it takes. begin is called
// before the first byte, when nothing can fail any more that the client should hear of by a status.
func (t *Trail) Export(ctx context.Context, p identity.Principal, f store.AuditFilter, enc Encoder, begin func(), flush func()) error {
	f.Reach = reach(p, PermExport)
	head, err := t.deps.Store.AuditHead(ctx)
	if err != nil {
		return err
	}
	rows, err := t.deps.Store.ExportAudit(ctx, f, 0, head.Seq, exportBatch)
	if err != nil {
		return err
	}
	begin()
	if err := enc.Begin(); err != nil {
		return fmt.Errorf("write export: %w", err)
	}
	for {
		for _, r := range rows {
			if err := enc.Write(r); err != nil {
				return fmt.Errorf("write export: %w", err)
			}
		}
		if err := enc.Flush(); err != nil {
			return fmt.Errorf("write export: %w", err)
		}
		flush()
		if len(rows) < exportBatch {
			return nil
		}
		if rows, err = t.deps.Store.ExportAudit(ctx, f, rows[len(rows)-1].Seq, head.Seq, exportBatch); err != nil {
			return err
		}
	}
}

// JSONLines writes one JSON object in each line.
func JSONLines(w io.Writer) Encoder {
	b := bufio.NewWriter(w)
	enc := json.NewEncoder(b)
	return jsonLines{b, enc}
}

type jsonLines struct {
	b   *bufio.Writer
	enc *json.Encoder
}

func (jsonLines) Begin() error                   { return nil }
func (j jsonLines) Write(r store.AuditRow) error { return j.enc.Encode(r.AuditEntry) }
func (j jsonLines) Flush() error                 { return j.b.Flush() }

// CSV writes comma-separated values, RFC 4180, with a line of names first. A cell that a spreadsheet could take for a formula begins with an
// apostrophe: https://owasp.org/www-community/attacks/CSV_Injection
func CSV(w io.Writer) Encoder { return csvWriter{csv.NewWriter(w)} }

type csvWriter struct{ w *csv.Writer }

func (c csvWriter) Begin() error {
	return c.w.Write([]string{"seq", "id", "time", "source", "module", "node", "action", "permission", "method", "target_kind", "target_id", "user_id",
		"username", "api_key_id", "session_id", "tenant_id", "home_tenant_id", "address", "user_agent", "result", "status", "code", "request_id",
		"trace_id", "count", "details", "prev_hash", "hash"})
}

func (c csvWriter) Write(r store.AuditRow) error {
	cells := []string{strconv.FormatInt(r.Seq, 10), r.ID.String(), r.Time.Format(time.RFC3339Nano), r.Source, r.Module, r.Node, r.Action, r.Permission,
		r.Method, r.TargetKind, r.TargetID, idText(r.UserID), r.Username, idText(r.APIKeyID), idText(r.SessionID), idText(r.TenantID),
		idText(r.HomeTenantID), r.Address, r.UserAgent, r.Result, strconv.Itoa(r.Status), r.Code, r.RequestID, r.TraceID,
		strconv.FormatInt(r.Count, 10), r.Text, fmt.Sprintf("%x", r.PrevHash), fmt.Sprintf("%x", r.Hash)}
	for i, cell := range cells {
		cells[i] = inert(cell)
	}
	return c.w.Write(cells)
}

func (c csvWriter) Flush() error {
	c.w.Flush()
	return c.w.Error()
}

func idText(id uuid.UUID) string {
	if id == uuid.Nil {
		return ""
	}
	return id.String()
}

// inert keeps a spreadsheet from taking a cell for a formula.
func inert(cell string) string {
	if cell == "" {
		return cell
	}
	switch cell[0] {
	case '=', '+', '-', '@', '\t', '\r', '\n':
		return "'" + cell
	}
	return cell
}
