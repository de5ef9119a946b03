package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/service"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
)

// defaultOverlap is how long an old secret works where the request says nothing.
const defaultOverlap = 24 * time.Hour

// ListAPIKeysInput is what GET /api/v1/api-keys takes.
type ListAPIKeysInput struct {
	httpx.PageParams
	TenantID string    `query:"tenant_id" maxLength:"36" doc:"A tenant other than yours, or 'all'; both take a role that reaches every tenant."`
	UserID   uuid.UUID `query:"user_id" format:"uuid" doc:"Only keys of this account."`
	Prefix   string    `query:"prefix" maxLength:"32" example:"nck_5kq2vbw7mt3a" doc:"Only the key that begins so, for example one that was found where it should not be."`
}

// CreateAPIKeyInput is what POST /api/v1/api-keys takes.
type CreateAPIKeyInput struct {
	Body struct {
		Name        string         `json:"name" minLength:"1" maxLength:"255" example:"ci"`
		UserID      uuid.UUID      `json:"user_id,omitempty" format:"uuid" doc:"Whose key: yours, unless given. That of another account takes user:write and everything that the account holds."`
		Permissions []string       `json:"permissions,omitempty" maxItems:"200" maxLength:"100" example:"[\"vm:read\",\"image:*\"]" doc:"What the key may do at most. Each must be one that you hold. Roles that are bound to the key add to them, and an empty list leaves all to these. Absent: whatever its owner may do."`
		Scope       identity.Scope `json:"scope,omitempty" enum:"tenant,platform" doc:"How far the key reaches at most. Absent: as far as you."`
		ExpiresAt   *time.Time     `json:"expires_at,omitempty" doc:"When it ends by itself. Absent: never."`
	}
}

// UpdateAPIKeyInput is what PATCH /api/v1/api-keys/{id} takes.
type UpdateAPIKeyInput struct {
	ByID
	IfMatch string `header:"If-Match" doc:"The ETag of the version that is to be changed."`
	Body    struct {
		Name        *string         `json:"name,omitempty" minLength:"1" maxLength:"255"`
		Permissions []string        `json:"permissions,omitempty" maxItems:"200" maxLength:"100"`
		Scope       *identity.Scope `json:"scope,omitempty" enum:"tenant,platform"`
		ExpiresAt   *time.Time      `json:"expires_at,omitempty"`
	}
}

// RotateAPIKeyInput is what POST /api/v1/api-keys/{id}/rotate takes.
type RotateAPIKeyInput struct {
	ByID
	IfMatch string `header:"If-Match" doc:"The ETag of the version that is to be rotated."`
	Body    struct {
		OverlapSeconds *int       `json:"overlap_seconds,omitempty" minimum:"0" maximum:"2592000" example:"3600" doc:"How long the old secret still works: a day, unless given. 0 ends it at once, with all others from before."`
		ExpiresAt      *time.Time `json:"expires_at,omitempty" doc:"When the key ends from now on. Absent: as before."`
	}
}

// NewAPIKey is a key and, this one time, its secret.
type NewAPIKey struct {
	auth.APIKey
	Key string `json:"key" example:"nck_5kq2vbw7mt3a_…" doc:"The whole key, for the header X-API-Key. It is shown here and never again."`
}

// NewAPIKeyOutput carries it past every cache, and past the memory for idempotency keys.
type NewAPIKeyOutput struct {
	CacheControl string `header:"Cache-Control"`
	ETag         string `header:"ETag"`
	Body         NewAPIKey
}

func versionedKey(k auth.APIKey, err error) (*Versioned[auth.APIKey], error) {
	return &Versioned[auth.APIKey]{ETag: etag(k.Version), Body: k}, err
}

func newKey(made auth.CreateAPIKeyResponse, err error) (*NewAPIKeyOutput, error) {
	if err != nil {
		return nil, err
	}
	return &NewAPIKeyOutput{CacheControl: noStore, ETag: etag(made.APIKey.Version), Body: NewAPIKey{APIKey: made.APIKey, Key: made.Secret}}, nil
}

func (a *api) registerAPIKeys(h *httpx.API) {
	const all, one = "/api/v1/api-keys", "/api/v1/api-keys/{id}"
	httpx.Handle(h, httpx.Op{
		ID: "api-key-list", Method: http.MethodGet, Path: all, Permission: service.PermAPIKeyRead, Tag: "api-keys", Summary: "List API keys",
		Description: "Yours, and with user:read those of every account of your tenant. Revoked ones are not shown.",
		Errors:      []*errs.Error{auth.ErrPlatformOnly, auth.ErrTenantNotFound},
	}, func(ctx context.Context, in *ListAPIKeysInput) (*Listed[auth.APIKey], error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		tenant, err := tenantFilter(in.TenantID)
		if err != nil {
			return nil, err
		}
		filter := service.APIKeyFilter{Tenant: tenant, UserID: in.UserID, Prefix: in.Prefix}
		return page(in.PageParams, func(k auth.APIKey) httpx.Cursor { return httpx.Cursor{CreatedAt: k.CreatedAt, ID: k.ID} },
			func(after *store.After, limit int) ([]auth.APIKey, error) {
				return a.s.APIKeys(ctx, p, filter, after, limit)
			})
	})
	httpx.Handle(h, httpx.Op{
		ID: "api-key-create", Method: http.MethodPost, Path: all, Permission: service.PermAPIKeyWrite, Tag: "api-keys", Summary: "Create an API key",
		Description: "The key is in the answer and never shown again. It does what its owner may do at the time of use, as far as `permissions` allows.",
		MaxBody:     maxBody, Status: http.StatusCreated,
		Errors: []*errs.Error{auth.ErrInvalidAPIKeySpec, auth.ErrGrantExceedsOwn, auth.ErrUserNotFound, auth.ErrTooManyAPIKeys},
	}, func(ctx context.Context, in *CreateAPIKeyInput) (*NewAPIKeyOutput, error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		return newKey(a.s.CreateAPIKey(ctx, auth.CreateAPIKeyRequest{
			Actor: p, UserID: in.Body.UserID, Name: in.Body.Name, Permissions: in.Body.Permissions, Scope: in.Body.Scope, ExpiresAt: in.Body.ExpiresAt,
		}))
	})
	httpx.Handle(h, httpx.Op{
		ID: "api-key-get", Method: http.MethodGet, Path: one, Permission: service.PermAPIKeyRead, Tag: "api-keys", Summary: "Show an API key",
		Description: "All but its secret.", Errors: []*errs.Error{auth.ErrAPIKeyNotFound},
	}, func(ctx context.Context, in *ByID) (*Versioned[auth.APIKey], error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		return versionedKey(a.s.APIKey(ctx, p, in.ID))
	})
	httpx.Handle(h, httpx.Op{
		ID: "api-key-update", Method: http.MethodPatch, Path: one, Permission: service.PermAPIKeyWrite, Tag: "api-keys", Summary: "Change an API key",
		Description: "Its secret stays.", MaxBody: maxBody,
		Errors: []*errs.Error{auth.ErrAPIKeyNotFound, auth.ErrInvalidAPIKeySpec, auth.ErrGrantExceedsOwn, auth.ErrVersion},
	}, a.updateAPIKey)
	httpx.Handle(h, httpx.Op{
		ID: "api-key-rotate", Method: http.MethodPost, Path: one + "/rotate", Permission: service.PermAPIKeyWrite, Tag: "api-keys",
		Summary: "Give an API key a new secret", MaxBody: maxBody,
		Description: "The new key is in the answer and never shown again; its prefix stays. The old secret works for `overlap_seconds` more, so that the key can be " +
			"replaced where it is used without a gap.",
		Errors: []*errs.Error{auth.ErrAPIKeyNotFound, auth.ErrInvalidAPIKeySpec, auth.ErrGrantExceedsOwn, auth.ErrVersion, auth.ErrTooManySecrets},
	}, a.rotateAPIKey)
	httpx.Handle(h, httpx.Op{
		ID: "api-key-revoke", Method: http.MethodDelete, Path: one, Permission: service.PermAPIKeyWrite, Tag: "api-keys", Summary: "Revoke an API key",
		Description: "It stops working everywhere within a second, old secrets included.", Status: http.StatusNoContent,
		Errors: []*errs.Error{auth.ErrAPIKeyNotFound, auth.ErrGrantExceedsOwn},
	}, func(ctx context.Context, in *ByID) (*Empty, error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		return &Empty{}, a.s.RevokeAPIKey(ctx, p, in.ID)
	})
}

func (a *api) updateAPIKey(ctx context.Context, in *UpdateAPIKeyInput) (*Versioned[auth.APIKey], error) {
	p, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	version, err := ifMatch(in.IfMatch)
	if err != nil {
		return nil, err
	}
	return versionedKey(a.s.UpdateAPIKey(ctx, p, in.ID, service.APIKeyChange{
		Name: in.Body.Name, Permissions: in.Body.Permissions, Scope: in.Body.Scope, ExpiresAt: in.Body.ExpiresAt, Version: version,
	}))
}

func (a *api) rotateAPIKey(ctx context.Context, in *RotateAPIKeyInput) (*NewAPIKeyOutput, error) {
	p, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	version, err := ifMatch(in.IfMatch)
	if err != nil {
		return nil, err
	}
	overlap := defaultOverlap
	if in.Body.OverlapSeconds != nil {
		overlap = time.Duration(*in.Body.OverlapSeconds) * time.Second
	}
	return newKey(a.s.RotateAPIKey(ctx, p, in.ID, service.Rotation{
		Overlap: overlap, ExpiresAt: in.Body.ExpiresAt, Version: version,
	}))
}
