package auth

import (
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/identity"
)

// The built-in roles.
const (
	RoleAdmin    = "admin"
	RoleOperator = "operator"
	RoleUser     = "user"
	RoleViewer   = "viewer"
	RoleAuditor  = "auditor"
)

// The kinds of account.
const (
	KindHuman   = "human"
	KindService = "service" // a service account: it has no password and uses API keys
)

// User is an account. Every user has one home tenant.
type User struct {
	ID                uuid.UUID  `json:"id"`
	Kind              string     `json:"kind" enum:"human,service" doc:"A service account has no password and uses API keys."`
	Username          string     `json:"username" example:"ada"`
	Description       string     `json:"description,omitempty" doc:"What a service account is for."`
	Email             string     `json:"email,omitempty" example:"ada@example.org"`
	Role              string     `json:"role" example:"user" doc:"What the user may do in the home tenant."`
	TenantID          uuid.UUID  `json:"tenant_id"`
	MFAEnabled        bool       `json:"mfa_enabled"`
	Disabled          bool       `json:"disabled"`
	Version           int64      `json:"version" doc:"Grows with every change; the ETag."`
	CreatedAt         time.Time  `json:"created_at"`
	UpdatedAt         time.Time  `json:"updated_at"`
	LastLoginAt       *time.Time `json:"last_login_at,omitempty"`
	PasswordChangedAt time.Time  `json:"password_changed_at"`
}

// Tenant owns users and everything they make.
type Tenant struct {
	ID        uuid.UUID  `json:"id"`
	Name      string     `json:"name" example:"research"`
	ParentID  *uuid.UUID `json:"parent_id,omitempty"`
	Disabled  bool       `json:"disabled" doc:"Nobody of a disabled tenant can log in, and open sessions do not count."`
	Version   int64      `json:"version" doc:"Grows with every change; the ETag."`
	CreatedAt time.Time  `json:"created_at"`
	UpdatedAt time.Time  `json:"updated_at"`
}

// Role is a named set of permissions.
type Role struct {
	ID          uuid.UUID      `json:"id"`
	Name        string         `json:"name" example:"operator"`
	Description string         `json:"description"`
	TenantID    *uuid.UUID     `json:"tenant_id,omitempty" doc:"Absent on built-in roles."`
	BuiltIn     bool           `json:"built_in"`
	Scope       identity.Scope `json:"scope" enum:"tenant,platform"`
	Permissions []string       `json:"permissions" nullable:"false"`
	CreatedAt   time.Time      `json:"created_at"`
}

// Session is one login and everything that was refreshed from it.
type Session struct {
	ID         uuid.UUID `json:"id"`
	UserID     uuid.UUID `json:"user_id"`
	IP         string    `json:"ip,omitempty" example:"192.0.2.7" doc:"Where the session was last refreshed from."`
	UserAgent  string    `json:"user_agent,omitempty"`
	Current    bool      `json:"current" doc:"It is the session that asks."`
	CreatedAt  time.Time `json:"created_at"`
	LastUsedAt time.Time `json:"last_used_at" doc:"When it was last logged in or refreshed."`
	ExpiresAt  time.Time `json:"expires_at"`
}
