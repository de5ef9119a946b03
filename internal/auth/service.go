package auth

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/identity"
)

// EventsSubject is the bus subject on which the module tells of changes, as event.Auth.
const EventsSubject = "auth.events"

// MaxTokenBytes is the length beyond which a token is refused unread.
const MaxTokenBytes = 8 << 10

// Service is the auth module as other modules see it. All methods may be called concurrently.
type Service interface {
	// ValidateToken tells who an access token belongs to and what its holder may do at this moment. It fails with ErrInvalidToken,
	// ErrTokenExpired or ErrSessionRevoked, with ErrNoRole where the holder may do nothing in the tenant that is asked for, and with ErrUnavailable
	// where that cannot be known for certain.
	ValidateToken(ctx context.Context, req ValidateTokenRequest) (ValidateTokenResponse, error)
	// ValidateAPIKey tells who an API key belongs to and what it may do at this moment: what both it and its owner may. It fails with
	// ErrInvalidAPIKey, ErrAPIKeyExpired or ErrAPIKeyRevoked, with ErrNoRole as ValidateToken, with ErrThrottled after too many wrong keys from one
	// address, and with ErrUnavailable where the answer cannot be known for certain.
	ValidateAPIKey(ctx context.Context, req ValidateAPIKeyRequest) (ValidateAPIKeyResponse, error)
	// CreateAPIKey makes an API key, whose secret is in the answer and nowhere else. It fails with ErrInvalidAPIKeySpec, with ErrUserNotFound
	// where the owner is out of the actor's reach, with ErrGrantExceedsOwn where the actor lacks what the key or its owner may, and
	// with ErrTooManyAPIKeys.
	CreateAPIKey(ctx context.Context, req CreateAPIKeyRequest) (CreateAPIKeyResponse, error)
	// GetUserPermissions tells what a user may do in a tenant, by their own role and by bindings. It fails with ErrUserNotFound, also for disabled
	// users. In a tenant that does not exist, is disabled, or gives the user no role, they may do nothing.
	GetUserPermissions(ctx context.Context, req GetUserPermissionsRequest) (GetUserPermissionsResponse, error)
}

// ValidateTokenRequest asks about an access token.
type ValidateTokenRequest struct {
	Token    string    `json:"token"`     // compact JWS, without "Bearer"
	TenantID uuid.UUID `json:"tenant_id"` // the tenant to act in; nil: the holder's own
}

// ValidateTokenResponse is the answer for a good token.
type ValidateTokenResponse struct {
	// Principal must not be changed: its permissions may be shared with other answers.
	Principal identity.Principal `json:"principal"`
	// ExpiresAt is when the token ends by itself. It may be revoked earlier; whoever remembers the answer must watch auth.events.
	ExpiresAt time.Time `json:"expires_at"`
}

// GetUserPermissionsRequest asks what a user may do.
type GetUserPermissionsRequest struct {
	UserID   uuid.UUID `json:"user_id"`
	TenantID uuid.UUID `json:"tenant_id"` // nil: the user's own
}

// GetUserPermissionsResponse lists permissions, sorted, wildcards as they are held.
type GetUserPermissionsResponse struct {
	Permissions []string `json:"permissions"`
	Platform    []string `json:"platform_permissions"` // those that count in every tenant
	Roles       []string `json:"roles"`                // that give them, by name
}
