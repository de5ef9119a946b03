package event

import (
	"time"

	"github.com/google/uuid"
)

// Auth is what auth.events carries: a user, tenant, session or role changed, so what others remember of it is out of date.
// Delivery is at least once; ID is for deduplication.
type Auth struct {
	ID        uuid.UUID `json:"id"`
	Type      string    `json:"type"` // one of the Auth… constants
	Timestamp time.Time `json:"timestamp"`
	// Seq counts the changes of the whole installation. A listener that sees a hole has lost an event and must forget everything.
	// It may begin anew when the shared cache loses it. 0 means that the count could not be had.
	Seq       int64     `json:"seq"`
	TenantID  uuid.UUID `json:"tenant_id"`
	UserID    uuid.UUID `json:"user_id"`             // nil where the whole tenant or a role is meant
	SessionID uuid.UUID `json:"session_id"`          // nil where all sessions are meant
	APIKeyID  uuid.UUID `json:"api_key_id,omitzero"` // nil where none in particular is meant
	Role      string    `json:"role,omitempty"`
	// PrincipalKind and PrincipalID are set on changes of role bindings; for a user UserID is, too.
	PrincipalKind string    `json:"principal_kind,omitempty"`
	PrincipalID   uuid.UUID `json:"principal_id,omitzero"`
}

// What an Auth event can tell.
const (
	AuthSessionRevoked  = "session.revoked"       // one session ended
	AuthSessionsRevoked = "user.sessions_revoked" // sessions of the user ended
	AuthUserCreated     = "user.created"
	AuthUserUpdated     = "user.updated" // role, e-mail address, or disabled
	AuthUserDeleted     = "user.deleted"
	AuthPasswordChanged = "user.password_changed"
	AuthMFAEnabled      = "user.mfa_enabled"
	AuthMFADisabled     = "user.mfa_disabled" // by the user, or reset by an administrator
	AuthRecoveryUsed    = "user.mfa_recovery_code_used"
	AuthMFAPolicy       = "mfa_policy.updated" // TenantID nil: everywhere
	AuthTenantCreated   = "tenant.created"
	AuthTenantUpdated   = "tenant.updated" // name, or disabled
	AuthTenantDeleted   = "tenant.deleted"
	AuthRoleCreated     = "role.created"
	AuthRoleUpdated     = "role.updated"
	AuthRoleDeleted     = "role.deleted"
	AuthBindingCreated  = "role_binding.created"
	AuthBindingDeleted  = "role_binding.deleted"
	AuthKeysRotated     = "keys.rotated" // those that sign access tokens; tokens of a key that is gone are not good any more
	AuthAPIKeyCreated   = "api_key.created"
	AuthAPIKeyUpdated   = "api_key.updated" // name, permissions, scope or expiry
	AuthAPIKeyRotated   = "api_key.rotated"
	AuthAPIKeyRevoked   = "api_key.revoked"
)
