package httpapi

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/chain"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/auth/internal/trail"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
)

// AuditRecord is a record as it is shown.
type AuditRecord struct {
	Seq          int64             `json:"seq" doc:"Its number in the chain, without gaps."`
	ID           uuid.UUID         `json:"id"`
	Time         time.Time         `json:"time" doc:"When the call began."`
	Module       string            `json:"module"`
	Node         string            `json:"node" doc:"Host that took the call."`
	Action       string            `json:"action" example:"vm.create" doc:"The route, as object and verb."`
	Permission   string            `json:"permission,omitempty" example:"vm:create"`
	Method       string            `json:"method,omitempty" example:"POST"`
	TargetKind   string            `json:"target_kind,omitempty" example:"vm"`
	TargetID     string            `json:"target_id,omitempty"`
	UserID       *uuid.UUID        `json:"user_id,omitempty"`
	Username     string            `json:"username,omitempty" example:"ada"`
	APIKeyID     *uuid.UUID        `json:"api_key_id,omitempty"`
	SessionID    *uuid.UUID        `json:"session_id,omitempty"`
	TenantID     *uuid.UUID        `json:"tenant_id,omitempty" doc:"That was acted in."`
	HomeTenantID *uuid.UUID        `json:"home_tenant_id,omitempty"`
	Address      string            `json:"address,omitempty" example:"192.0.2.7"`
	UserAgent    string            `json:"user_agent,omitempty"`
	Result       string            `json:"result" enum:"success,refused,failed,error,unknown" doc:"unknown: the process ended while the call was being carried out."`
	Status       int               `json:"status,omitempty" example:"201"`
	Code         string            `json:"code,omitempty" doc:"Of the problem." example:"auth.forbidden"`
	RequestID    string            `json:"request_id,omitempty"`
	TraceID      string            `json:"trace_id,omitempty"`
	Count        int64             `json:"count,omitempty" doc:"Calls that the record stands for, where they are several."`
	Details      map[string]string `json:"details,omitempty" doc:"Such as fields: the names of the fields that were given."`
	Source       string            `json:"source" doc:"Schema of the outbox that the record came from."`
	PrevHash     string            `json:"prev_hash" doc:"Hash of the record before, hexadecimal."`
	Hash         string            `json:"hash" doc:"Hash of this record, hexadecimal."`
}

func shown(r store.AuditRow) AuditRecord {
	id := func(u uuid.UUID) *uuid.UUID {
		if u == uuid.Nil {
			return nil
		}
		return &u
	}
	return AuditRecord{Seq: r.Seq, ID: r.ID, Time: r.Time, Module: r.Module, Node: r.Node, Action: r.Action, Permission: r.Permission, Method: r.Method,
		TargetKind: r.TargetKind, TargetID: r.TargetID, UserID: id(r.UserID), Username: r.Username, APIKeyID: id(r.APIKeyID), SessionID: id(r.SessionID),
		TenantID: id(r.TenantID), HomeTenantID: id(r.HomeTenantID), Address: r.Address, UserAgent: r.UserAgent, Result: r.Result, Status: r.Status,
		Code: r.Code, RequestID: r.RequestID, TraceID: r.TraceID, Count: r.Count, Details: r.Details, Source: r.Source,
		PrevHash: hex.EncodeToString(r.PrevHash), Hash: hex.EncodeToString(r.Hash)}
}

// AuditFilterParams narrow a search or an export.
type AuditFilterParams struct {
	User       string    `query:"user" maxLength:"255" doc:"Name or id of who called."`
	APIKeyID   uuid.UUID `query:"api_key_id" format:"uuid"`
	Action     string    `query:"action" maxLength:"128" doc:"An action, or the beginning of one with * at its end." example:"vm.*"`
	Target     string    `query:"target" maxLength:"256" doc:"Id of what the call was about."`
	TargetKind string    `query:"target_kind" maxLength:"64" example:"vm"`
	Result     string    `query:"result" enum:"success,refused,failed,error,unknown,bad" doc:"bad is everything but success."`
	Module     string    `query:"module" maxLength:"32"`
	Tenant     uuid.UUID `query:"tenant_id" format:"uuid" doc:"Tenant that was acted in. Who sees one tenant only finds nothing in others."`
	Address    string    `query:"address" maxLength:"64" example:"192.0.2.7"`
	RequestID  string    `query:"request_id" maxLength:"64"`
	Since      time.Time `query:"since" doc:"Calls from this time on." example:"2026-01-02T00:00:00Z"`
	Until      time.Time `query:"until" doc:"Calls before this time." example:"2026-01-03T00:00:00Z"`
}

func (f AuditFilterParams) filter() store.AuditFilter {
	out := store.AuditFilter{APIKey: f.APIKeyID, Action: f.Action, Target: f.Target, TargetKind: f.TargetKind, Result: f.Result, Module: f.Module,
		Tenant: f.Tenant, Address: f.Address, RequestID: f.RequestID, Since: f.Since, Until: f.Until}
	if id, err := uuid.Parse(f.User); err == nil {
		out.User = id
	} else {
		out.Username = f.User
	}
	if addr, err := netip.ParseAddr(f.Address); err == nil { // as it was written down
		out.Address = addr.Unmap().WithZone("").String()
	}
	return out
}

// SearchAuditInput is what GET /api/v1/audit/records takes.
type SearchAuditInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50" doc:"How many items to answer at most."`
	Cursor string `query:"cursor" maxLength:"512" doc:"Where to go on: next_cursor of the page before."`
	Sort   string `query:"sort" enum:"-seq" default:"-seq" doc:"Newest first is the one order there is."`
	Fields string `query:"fields" maxLength:"512" pattern:"^[a-z0-9_]+(,[a-z0-9_]+)*$" doc:"Answer only these fields of each item." example:"time,username,action,result"`
	AuditFilterParams
}

// VerifyAuditInput is what GET /api/v1/audit/verify takes.
type VerifyAuditInput struct {
	After  int64  `query:"after" minimum:"0" doc:"Go on behind the record of this number: next_after of the answer before."`
	Limit  int    `query:"limit" minimum:"1" maximum:"100000" default:"50000" doc:"How many records to verify at most."`
	Expect string `query:"expect" maxLength:"96" pattern:"^[0-9]{1,18}:[0-9a-f]{64}$" doc:"A head that was kept elsewhere: the trail must hold this record with this hash."`
}

// VerifyAuditOutput is its answer.
type VerifyAuditOutput struct{ Body trail.Report }

// AuditRecordOutput carries one record.
type AuditRecordOutput struct{ Body AuditRecord }

func (a *api) registerAudit(h *httpx.API) {
	const base = "/api/v1/audit"
	httpx.Handle(h, httpx.Op{
		ID: "audit-list", Method: http.MethodGet, Path: base + "/records", Permission: trail.PermRead, Tag: "audit", Summary: "Search the audit trail",
		Description: "Newest first. Who holds audit:read on the platform sees every tenant's records, others those of the tenant that they act in.",
		Errors:      []*errs.Error{httpx.ErrCursor},
	}, a.searchAudit)
	httpx.Handle(h, httpx.Op{
		ID: "audit-get", Method: http.MethodGet, Path: base + "/records/{id}", Permission: trail.PermRead, Tag: "audit", Summary: "Show an audit record",
		Description: "With its place in the chain.", Errors: []*errs.Error{auth.ErrAuditNotFound},
	}, func(ctx context.Context, in *ByID) (*AuditRecordOutput, error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		r, err := a.t.Record(ctx, p, in.ID)
		return &AuditRecordOutput{Body: shown(r)}, err
	})
	httpx.Handle(h, httpx.Op{
		ID: "audit-verify", Method: http.MethodGet, Path: base + "/verify", Permission: trail.PermVerify, Tag: "audit", Audited: true,
		Summary: "Verify the audit trail",
		Description: "Follows the chain of hashes and holds it against signed heads, one of which is kept outside of the database. It reports the first record that was " +
			"changed, removed, added or moved, and whether the end was cut off. The trail is one for all tenants, so this takes the permission on the platform.",
		Errors: []*errs.Error{httpx.ErrForbidden},
	}, a.verifyAudit)
	var parameters []httpx.RawParam
	for _, p := range []httpx.RawParam{
		{Name: "format", Description: "jsonl (default): a JSON object in each line; csv: comma-separated values.", Example: "csv"},
		{Name: "user", Description: "Name or id of who called."}, {Name: "api_key_id"},
		{Name: "action", Description: "An action, or the beginning of one with * at its end.", Example: "vm.*"},
		{Name: "target", Description: "Id of what the call was about."}, {Name: "target_kind"},
		{Name: "result", Description: "success, refused, failed, error, unknown, or bad: everything but success."}, {Name: "module"},
		{Name: "tenant_id"}, {Name: "address"}, {Name: "request_id"}, {Name: "since", Description: "RFC 3339"}, {Name: "until", Description: "RFC 3339"},
	} {
		p.In = "query"
		parameters = append(parameters, p)
	}
	h.Raw(httpx.Op{
		ID: "audit-export", Method: http.MethodGet, Path: base + "/export", Permission: trail.PermExport, Tag: "audit", Summary: "Export the audit trail", Audited: true,
		Description: "Oldest first, everything there is at this moment, as a stream. In CSV, cells that a spreadsheet could take for formulas begin with an apostrophe.",
	}, httpx.RawDoc{Parameters: parameters, AnswerType: "application/jsonl", AnswerText: "The records."}, a.exportAudit)
}

func (a *api) searchAudit(ctx context.Context, in *SearchAuditInput) (*Listed[AuditRecord], error) {
	p, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	before, err := auditCursor(in.Cursor)
	if err != nil {
		return nil, err
	}
	rows, err := a.t.Search(ctx, p, in.filter(), before, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &Listed[AuditRecord]{Body: httpx.Page[AuditRecord]{Items: []AuditRecord{}}}
	if len(rows) > in.Limit {
		rows = rows[:in.Limit]
		out.Body.NextCursor = base64.RawURLEncoding.EncodeToString([]byte("s" + strconv.FormatInt(rows[in.Limit-1].Seq, 10)))
	}
	for _, r := range rows {
		out.Body.Items = append(out.Body.Items, shown(r))
	}
	return out, nil
}

// auditCursor reads the position in a search; 0 is its beginning.
func auditCursor(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	number, ours := strings.CutPrefix(string(b), "s")
	if err != nil || !ours {
		return 0, httpx.ErrCursor
	}
	seq, err := strconv.ParseInt(number, 10, 64)
	if err != nil || seq <= 0 {
		return 0, httpx.ErrCursor
	}
	return seq, nil
}

func (a *api) verifyAudit(ctx context.Context, in *VerifyAuditInput) (*VerifyAuditOutput, error) {
	p, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	if !p.AllowsPlatform(trail.PermVerify) {
		return nil, httpx.MissingPlatform(trail.PermVerify)
	}
	var expect *chain.Head
	if seq, hash, ok := strings.Cut(in.Expect, ":"); ok {
		n, numErr := strconv.ParseInt(seq, 10, 64)
		sum, hexErr := hex.DecodeString(hash)
		if err := errors.Join(numErr, hexErr); err != nil {
			return nil, httpx.ErrInvalid.WithField("query.expect", "is not number:hash", in.Expect)
		}
		expect = &chain.Head{Seq: n, Hash: sum}
	}
	report, err := a.t.Verify(ctx, in.After, in.Limit, expect)
	return &VerifyAuditOutput{Body: report}, err
}

// exportAudit streams the trail.
func (a *api) exportAudit(w http.ResponseWriter, r *http.Request) {
	p, err := caller(r.Context())
	if err != nil {
		httpx.WriteError(w, r, err)
		return
	}
	f, asCSV, err := exportParams(r.URL.Query())
	if err != nil {
		httpx.WriteError(w, r, err)
		return
	}
	kind, name, encoder := "application/jsonl", "audit.jsonl", trail.JSONLines
	if asCSV {
		kind, name, encoder = "text/csv; charset=utf-8", "audit.csv", func(w io.Writer) trail.Encoder { return trail.CSV(w) }
	}
	begun := false
	err = a.t.Export(r.Context(), p, f, encoder(w), func() {
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
		w.Header().Set("Cache-Control", noStore)
		w.WriteHeader(http.StatusOK)
		begun = true
	}, func() { _ = http.NewResponseController(w).Flush() }) // the client may be gone
	switch {
	case err == nil:
	case !begun:
		httpx.WriteError(w, r, err)
	default:
		panic(http.ErrAbortHandler) // the client must not take a part for the whole
	}
}

func exportParams(q url.Values) (f store.AuditFilter, asCSV bool, err error) {
	in := AuditFilterParams{}
	wrong := httpx.ErrInvalid
	refuse := func(name, complaint string) { wrong = wrong.WithField("query."+name, complaint, q.Get(name)) }
	for name, values := range q {
		value := values[0]
		if len(values) > 1 || len(value) > 256 || strings.ContainsRune(value, 0) {
			refuse(name, "must be given once, with 256 characters at most")
			continue
		}
		var bad error
		switch name {
		case "format":
			if asCSV = value == "csv"; !asCSV && value != "jsonl" {
				refuse(name, "must be jsonl or csv")
			}
		case "user":
			in.User = value
		case "api_key_id":
			in.APIKeyID, bad = uuid.Parse(value)
		case "action":
			in.Action = value
		case "target":
			in.Target = value
		case "target_kind":
			in.TargetKind = value
		case "result":
			if in.Result = value; !strings.Contains(" success refused failed error unknown bad ", " "+value+" ") {
				refuse(name, "must be success, refused, failed, error, unknown or bad")
			}
		case "module":
			in.Module = value
		case "tenant_id":
			in.Tenant, bad = uuid.Parse(value)
		case "address":
			in.Address = value
		case "request_id":
			in.RequestID = value
		case "since":
			in.Since, bad = time.Parse(time.RFC3339, value)
		case "until":
			in.Until, bad = time.Parse(time.RFC3339, value)
		default:
			refuse(name, "is not a parameter of this route")
		}
		if bad != nil {
			refuse(name, "cannot be read")
		}
	}
	if len(wrong.Fields) > 0 {
		return f, false, wrong
	}
	return in.filter(), asCSV, nil
}
