package event

import (
	"encoding/hex"
	"time"

	"github.com/google/uuid"
)

// Audit is what audit.records carries: one call that changed something, or was security-relevant, and how it ended. The auth module chains the
// records and publishes each as AuditEntry on audit.events. Nothing in it is a secret.
type Audit struct {
	ID     uuid.UUID `json:"id"`     // UUIDv7, for deduplication
	Time   time.Time `json:"time"`   // when the call began
	Module string    `json:"module"` // that carried it out, or refused it
	Node   string    `json:"node"`   // host name

	Action     string `json:"action"`               // the route: "vm.create"
	Permission string `json:"permission,omitempty"` // that the route asks for
	Method     string `json:"method,omitempty"`
	TargetKind string `json:"target_kind,omitempty"` // "vm"
	TargetID   string `json:"target_id,omitempty"`

	UserID       uuid.UUID `json:"user_id,omitzero"` // nil: nobody, or nobody known
	Username     string    `json:"username,omitempty"`
	APIKeyID     uuid.UUID `json:"api_key_id,omitzero"`
	SessionID    uuid.UUID `json:"session_id,omitzero"`
	TenantID     uuid.UUID `json:"tenant_id,omitzero"`      // that was acted in; whose auditors see the record
	HomeTenantID uuid.UUID `json:"home_tenant_id,omitzero"` // of the user
	Address      string    `json:"address,omitempty"`
	UserAgent    string    `json:"user_agent,omitempty"`

	Result    string `json:"result"`           // one of the Audit… constants
	Status    int    `json:"status,omitempty"` // of the answer; 0: not known
	Code      string `json:"code,omitempty"`   // of the problem
	RequestID string `json:"request_id,omitempty"`
	TraceID   string `json:"trace_id,omitempty"`

	Count   int64             `json:"count,omitempty"`   // how many calls the record stands for; 0: one
	Details map[string]string `json:"details,omitempty"` // such as the names of changed fields
}

// How a call ended.
const (
	AuditSuccess = "success"
	AuditRefused = "refused" // 401, 403 and 429
	AuditFailed  = "failed"  // any other 4xx
	AuditError   = "error"   // 5xx
	AuditUnknown = "unknown" // the process ended while the call was being carried out
)

// AuditEntry is what audit.events carries: a record and its place in the chain.
type AuditEntry struct {
	Audit
	Seq      int64  `json:"seq"`
	Source   string `json:"source"` // schema of the outbox that it came from
	PrevHash Hash   `json:"prev_hash"`
	Hash     Hash   `json:"hash"`
}

// Hash is shown in hexadecimal.
type Hash []byte

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hash) UnmarshalText(text []byte) (err error) {
	*h, err = hex.AppendDecode(nil, text)
	return err
}
