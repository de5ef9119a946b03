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
	// A one-time password must be replaced before anything else, and ends by itself.
	PasswordChangeRequired bool       `json:"password_change_required" doc:"The password is a one-time one: it must be replaced before anything else."`
	PasswordExpiresAt      *time.Time `json:"password_expires_at,omitempty" doc:"When the one-time password ends."`
}

// Tenant owns users and everything they make.
type Tenant struct {
	ID        uuid.UUID  `json:"id"`
	Name      string     `json:"name" example:"research"`
	ParentID  *uuid.UUID `json:"parent_id,omitempty" doc:"The organisation that the tenant is a project of."`
	Disabled  bool       `json:"disabled" doc:"Nobody of a disabled tenant or of its projects can log in or act, and open sessions do not count."`
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
	Version     int64          `json:"version" doc:"Grows with every change; the ETag."`
	CreatedAt   time.Time      `json:"created_at"`
	UpdatedAt   time.Time      `json:"updated_at"`
}

// PrincipalKind says what a principal is.
type PrincipalKind string

// The kinds of principals.
const (
	PrincipalUser   PrincipalKind = "user"
	PrincipalAPIKey PrincipalKind = "api_key"
)

// RoleBinding gives a role to a principal, beyond the one that a user has at home.
type RoleBinding struct {
	ID              uuid.UUID      `json:"id"`
	PrincipalKind   PrincipalKind  `json:"principal_kind" enum:"user,api_key"`
	PrincipalID     uuid.UUID      `json:"principal_id"`
	PrincipalName   string         `json:"principal_name,omitempty" example:"ada"`
	RoleID          uuid.UUID      `json:"role_id"`
	Role            string         `json:"role" example:"operator"`
	Scope           identity.Scope `json:"scope" enum:"tenant,platform" doc:"Where the role counts: in one tenant, or in all."`
	TenantID        *uuid.UUID     `json:"tenant_id,omitempty" doc:"The tenant that it counts in."`
	IncludeProjects bool           `json:"include_projects" doc:"It also counts in the projects of the tenant."`
	CreatedBy       uuid.UUID      `json:"created_by"`
	CreatedAt       time.Time      `json:"created_at"`
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

// MFAPolicy says who must have a second factor, in a tenant and its projects, or everywhere.
type MFAPolicy struct {
	TenantID *uuid.UUID `json:"tenant_id,omitempty" doc:"The tenant that it is about; absent: it counts everywhere."`
	Required bool       `json:"required" doc:"Everybody must have one."`
	Roles    []string   `json:"roles" nullable:"false" doc:"Who has one of these roles must have one." example:"[\"admin\",\"operator\"]"`
}
