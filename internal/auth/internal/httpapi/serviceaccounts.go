package httpapi

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/service"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
)

// CreateServiceAccountInput is what POST /api/v1/service-accounts takes. Names are those of users, and in one list with them.
type CreateServiceAccountInput struct {
	Body struct {
		Name        string    `json:"name" pattern:"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$" patternDescription:"letters, digits and ._@+-, 64 at most, the first a letter or digit" maxLength:"64" example:"deployer"`
		Description string    `json:"description,omitempty" maxLength:"1000" example:"Rolls out releases."`
		Role        string    `json:"role,omitempty" minLength:"1" maxLength:"50" default:"viewer" example:"user"`
		TenantID    uuid.UUID `json:"tenant_id,omitempty" format:"uuid" doc:"Yours, unless given."`
	}
}

// UpdateServiceAccountInput is what PATCH /api/v1/service-accounts/{id} takes.
type UpdateServiceAccountInput struct {
	ByID
	IfMatch string `header:"If-Match" doc:"The ETag of the version that is to be changed."`
	Body    struct {
		Description *string `json:"description,omitempty" maxLength:"1000"`
		Role        *string `json:"role,omitempty" minLength:"1" maxLength:"50"`
		Disabled    *bool   `json:"disabled,omitempty" doc:"Keys of a disabled account do not count."`
	}
}

func (a *api) registerServiceAccounts(h *httpx.API) {
	const all, one = "/api/v1/service-accounts", "/api/v1/service-accounts/{id}"
	httpx.Handle(h, httpx.Op{
		ID: "service-account-list", Method: http.MethodGet, Path: all, Permission: userRead, Tag: "service-accounts", Summary: "List service accounts",
		Errors: []*errs.Error{auth.ErrPlatformOnly, auth.ErrTenantNotFound},
	}, func(ctx context.Context, in *ListUsersInput) (*Listed[auth.User], error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		filter, err := tenantFilter(in.TenantID)
		if err != nil {
			return nil, err
		}
		return page(in.PageParams, func(u auth.User) httpx.Cursor { return httpx.Cursor{CreatedAt: u.CreatedAt, ID: u.ID} },
			func(after *store.After, limit int) ([]auth.User, error) {
				return a.s.ServiceAccounts(ctx, p, filter, after, limit)
			})
	})
	httpx.Handle(h, httpx.Op{
		ID: "service-account-create", Method: http.MethodPost, Path: all, Permission: userWrite, Tag: "service-accounts", Summary: "Create a service account",
		Description: "A user that is no person: it has no password, cannot log in, and is used with API keys, which are made at POST /api/v1/api-keys.",
		MaxBody:     maxBody, Status: http.StatusCreated,
		Errors: []*errs.Error{auth.ErrUsernameTaken, auth.ErrUnknownRole, auth.ErrGrantExceedsOwn, auth.ErrTenantNotFound},
	}, func(ctx context.Context, in *CreateServiceAccountInput) (*Versioned[auth.User], error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		return versionedUser(a.s.CreateServiceAccount(ctx, p, service.NewServiceAccount(in.Body)))
	})
	httpx.Handle(h, httpx.Op{
		ID: "service-account-get", Method: http.MethodGet, Path: one, Permission: userRead, Tag: "service-accounts", Summary: "Show a service account",
		Errors: []*errs.Error{auth.ErrNoServiceAccount},
	}, func(ctx context.Context, in *ByID) (*Versioned[auth.User], error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		return versionedUser(a.s.ServiceAccount(ctx, p, in.ID))
	})
	httpx.Handle(h, httpx.Op{
		ID: "service-account-update", Method: http.MethodPatch, Path: one, Permission: userWrite, Tag: "service-accounts", Summary: "Change a service account",
		MaxBody: maxBody, Errors: []*errs.Error{auth.ErrNoServiceAccount, auth.ErrVersion, auth.ErrUnknownRole, auth.ErrGrantExceedsOwn},
	}, func(ctx context.Context, in *UpdateServiceAccountInput) (*Versioned[auth.User], error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		version, err := ifMatch(in.IfMatch)
		if err != nil {
			return nil, err
		}
		return versionedUser(a.s.UpdateServiceAccount(ctx, p, in.ID, service.UserChange{
			Description: in.Body.Description, Role: in.Body.Role, Disabled: in.Body.Disabled, Version: version,
		}))
	})
	httpx.Handle(h, httpx.Op{
		ID: "service-account-delete", Method: http.MethodDelete, Path: one, Permission: userWrite, Tag: "service-accounts", Summary: "Delete a service account",
		Description: "Its API keys end with it.", Status: http.StatusNoContent, Errors: []*errs.Error{auth.ErrNoServiceAccount, auth.ErrGrantExceedsOwn},
	}, func(ctx context.Context, in *ByID) (*Empty, error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		return &Empty{}, a.s.DeleteServiceAccount(ctx, p, in.ID)
	})
}
