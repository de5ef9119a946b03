package auth

import (
	"net/netip"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/identity"
)

// The parts of an API key: nck_<12 characters that name it>_<secret and checksum>. The name may be shown; nothing behind it may.
const (
	APIKeyMark = "nck_"
	// MaxAPIKeyBytes is the length beyond which a key is refused unread.
	MaxAPIKeyBytes = 128
)

// Bounds of what an API key may be.
const (
	MaxAPIKeyName        = 255
	MaxAPIKeyPermissions = 200
	// MaxAPIKeyOverlap is the longest that a secret may go on after its rotation.
	MaxAPIKeyOverlap = 30 * 24 * time.Hour
)

// APIKey is what may be known of an API key; its secret is not.
type APIKey struct {
	ID       uuid.UUID `json:"id"`
	Name     string    `json:"name" example:"ci"`
	Prefix   string    `json:"prefix" example:"nck_5kq2vbw7mt3a" doc:"What the key begins with; enough to recognise one, useless to use one."`
	UserID   uuid.UUID `json:"user_id" doc:"Whose key it is: it can do no more than they."`
	Username string    `json:"username" example:"deployer" doc:"The owner's name."`
	TenantID uuid.UUID `json:"tenant_id" doc:"The owner's."`
	// Permissions is nil where the key may do whatever its owner may.
	Permissions []string       `json:"permissions,omitzero" doc:"What the key is for, beside the roles that are bound to it. What its owner lacks at the time of use does not count. Absent: everything that the owner may do."`
	Scope       identity.Scope `json:"scope" enum:"tenant,platform" doc:"How far the key reaches at most; never farther than its owner. With tenant, roles of its owner that reach every tenant count at home only."`
	ExpiresAt   *time.Time     `json:"expires_at,omitempty" doc:"Absent: it does not end by itself."`
	LastUsedAt  *time.Time     `json:"last_used_at,omitempty" doc:"Written some seconds late, so that no request waits for it."`
	LastUsedIP  string         `json:"last_used_ip,omitempty" example:"192.0.2.7"`
	RotatedAt   *time.Time     `json:"rotated_at,omitempty"`
	// OldSecretsUntil is when the last secret that a rotation replaced stops working; nil where none works any more.
	OldSecretsUntil *time.Time `json:"old_secrets_until,omitempty" doc:"Until when a secret from before the last rotation still works."`
	CreatedBy       *uuid.UUID `json:"created_by,omitempty" doc:"Who made it."`
	Version         int64      `json:"version" doc:"Grows with every change; the ETag."`
	CreatedAt       time.Time  `json:"created_at"`
	UpdatedAt       time.Time  `json:"updated_at"`
}

// ValidateAPIKeyRequest asks about an API key.
type ValidateAPIKeyRequest struct {
	Key      string    `json:"key"`
	TenantID uuid.UUID `json:"tenant_id"` // the tenant to act in; nil: the owner's own
	// Client is where the key came from: for its last use, and to slow down who sends wrong ones. The zero value is not known.
	Client netip.Addr `json:"client"`
}

// ValidateAPIKeyResponse is the answer for a good key.
type ValidateAPIKeyResponse struct {
	// Principal is the key's owner, with the permissions that key and owner have in common and APIKeyID set. It must not be changed: its
	// permissions may be shared with other answers.
	Principal identity.Principal `json:"principal"`
	// ExpiresAt is when the key, or the secret that was given, ends by itself; nil: never. It may be revoked earlier; whoever remembers the
	// answer must watch auth.events.
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

// CreateAPIKeyRequest asks for a new API key.
type CreateAPIKeyRequest struct {
	// Actor is who asks. The module authorises from it: a transport takes it from what it has verified itself, never from the request's text.
	Actor  identity.Principal `json:"actor"`
	UserID uuid.UUID          `json:"user_id"` // whose key; nil: the actor's own
	Name   string             `json:"name"`
	// Permissions bounds what the key may do; nil: nothing but its owner does. Each must be one that the actor holds. Roles that are bound to
	// the key widen the bound; an empty list leaves all to them.
	Permissions []string `json:"permissions,omitzero"`
	// Scope bounds how far it reaches; empty: as far as its owner.
	Scope     identity.Scope `json:"scope,omitempty"`
	ExpiresAt *time.Time     `json:"expires_at,omitempty"` // nil: never
}

// CreateAPIKeyResponse holds the key, this one time.
type CreateAPIKeyResponse struct {
	APIKey APIKey `json:"api_key"`
	Secret string `json:"secret"` // the whole key, as it goes into X-API-Key
}
