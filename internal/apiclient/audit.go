package apiclient

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// AuditRecord is one record of the audit trail.
type AuditRecord struct {
	Seq        int64             `json:"seq"`
	ID         uuid.UUID         `json:"id"`
	Time       time.Time         `json:"time"`
	Module     string            `json:"module"`
	Node       string            `json:"node"`
	Action     string            `json:"action"`
	Permission string            `json:"permission"`
	TargetKind string            `json:"target_kind"`
	TargetID   string            `json:"target_id"`
	UserID     uuid.UUID         `json:"user_id"`
	Username   string            `json:"username"`
	APIKeyID   uuid.UUID         `json:"api_key_id"`
	TenantID   uuid.UUID         `json:"tenant_id"`
	Address    string            `json:"address"`
	UserAgent  string            `json:"user_agent"`
	Result     string            `json:"result"`
	Status     int               `json:"status"`
	Code       string            `json:"code"`
	RequestID  string            `json:"request_id"`
	TraceID    string            `json:"trace_id"`
	Count      int64             `json:"count"`
	Details    map[string]string `json:"details"`
	Hash       string            `json:"hash"`
}

// AuditFilter narrows a search or an export; empty fields do not.
type AuditFilter struct {
	User, Action, Target, TargetKind, Result, Module, Tenant, Address, RequestID, APIKey string
	Since, Until                                                                         time.Time
}

func (f AuditFilter) query() url.Values {
	q := url.Values{}
	for name, value := range map[string]string{"user": f.User, "action": f.Action, "target": f.Target, "target_kind": f.TargetKind, "result": f.Result,
		"module": f.Module, "tenant_id": f.Tenant, "address": f.Address, "request_id": f.RequestID, "api_key_id": f.APIKey} {
		if value != "" {
			q.Set(name, value)
		}
	}
	for name, t := range map[string]time.Time{"since": f.Since, "until": f.Until} {
		if !t.IsZero() {
			q.Set(name, t.UTC().Format(time.RFC3339))
		}
	}
	return q
}

// SearchAudit gives audit records, newest first; most bounds their number, 0: all.
func (c *Client) SearchAudit(ctx context.Context, f AuditFilter, most int) iter.Seq2[Object[AuditRecord], error] {
	return list[AuditRecord](ctx, c, "/api/v1/audit/records", f.query(), most)
}

// GetAuditRecord reads one audit record.
func (c *Client) GetAuditRecord(ctx context.Context, id uuid.UUID) (Object[AuditRecord], error) {
	return get[AuditRecord](ctx, c, "/api/v1/audit/records/"+id.String())
}

// ExportAudit writes audit records to w, oldest first, in the format jsonl or csv.
func (c *Client) ExportAudit(ctx context.Context, f AuditFilter, format string, w io.Writer) error {
	q := f.query()
	q.Set("format", format)
	resp, err := c.do(ctx, call{method: http.MethodGet, path: "/api/v1/audit/export", query: q, accept: "*/*"})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("the export ended early: %w", err)
	}
	return nil
}

// AuditReport is what a verification of the audit trail found.
type AuditReport struct {
	OK       bool `json:"ok"`
	Complete bool `json:"complete"`
	Broken   *struct {
		Seq    int64  `json:"seq"`
		Reason string `json:"reason"`
	} `json:"broken,omitempty"`
	Verified    int64      `json:"verified"`
	Begins      int64      `json:"begins"`
	NextAfter   int64      `json:"next_after"`
	Head        string     `json:"head"`
	Checkpoints int        `json:"checkpoints"`
	Anchored    bool       `json:"anchored"`
	SignedAt    *time.Time `json:"signed_at,omitempty"`
	KeyID       string     `json:"key_id"`
}

// VerifyAudit verifies the whole audit trail, piece by piece. expect is a head that was kept, number:hash, or empty. progress is told how many
// records were verified so far; it may be nil.
func (c *Client) VerifyAudit(ctx context.Context, expect string, progress func(int64)) (AuditReport, error) {
	var total AuditReport
	for after := int64(0); ; {
		q := url.Values{"after": {strconv.FormatInt(after, 10)}}
		if expect != "" {
			q.Set("expect", expect)
		}
		var part AuditReport
		if err := c.json(ctx, call{method: http.MethodGet, path: "/api/v1/audit/verify", query: q}, &part); err != nil {
			return AuditReport{}, err
		}
		part.Verified += total.Verified
		part.Checkpoints += total.Checkpoints
		if after > 0 {
			part.Begins = total.Begins
		}
		total = part
		if progress != nil {
			progress(total.Verified)
		}
		if !part.OK || part.Complete {
			return total, nil
		}
		if part.NextAfter <= after {
			return AuditReport{}, protocolError("the verification of the audit trail does not advance")
		}
		after = part.NextAfter
	}
}
