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

// ListUsersInput is what GET /api/v1/users takes.
type ListUsersInput struct {
	httpx.PageParams
	TenantID string `query:"tenant_id" maxLength:"36" doc:"A tenant other than yours, or 'all'; both take a role that reaches every tenant."`
}

func tenantFilter(text string) (service.TenantFilter, error) {
	switch text {
	case "":
		return service.TenantFilter{}, nil
	case "all":
		return service.TenantFilter{All: true}, nil
	}
	id, err := uuid.Parse(text)
	if err != nil {
		return service.TenantFilter{}, httpx.ErrInvalid.WithField("query.tenant_id", "is neither an id nor 'all'", text)
	}
	return service.TenantFilter{ID: id}, nil
}

// CreateUserInput is what POST /api/v1/users takes. User names are ASCII so that no two look the same.
type CreateUserInput struct {
	Body struct {
		Username string    `json:"username" pattern:"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$" patternDescription:"letters, digits and ._@+-, 64 at most, the first a letter or digit" maxLength:"64" example:"ada"`
		Email    string    `json:"email,omitempty" format:"email" maxLength:"254" example:"ada@example.org"`
		Password string    `json:"password" minLength:"1" maxLength:"1024" doc:"At least 12 characters, at most 256 bytes."`
		Role     string    `json:"role,omitempty" maxLength:"50" default:"user" example:"operator"`
		TenantID uuid.UUID `json:"tenant_id,omitempty" format:"uuid" doc:"Yours, unless given."`
	}
}

// UpdateUserInput is what PATCH /api/v1/users/{id} takes.
type UpdateUserInput struct {
	ByID
	IfMatch string `header:"If-Match" doc:"The ETag of the version that is to be changed."`
	Body    struct {
		Email    *string `json:"email,omitempty" pattern:"^$|^[^@\\s]+@[^@\\s]+$" patternDescription:"an e-mail address, or nothing" maxLength:"254" doc:"Empty takes it away."`
		Role     *string `json:"role,omitempty" minLength:"1" maxLength:"50"`
		Disabled *bool   `json:"disabled,omitempty" doc:"A disabled user cannot log in, their sessions end, and their API keys do not count."`
	}
}

// ResetPasswordInput is what POST /api/v1/users/{id}/password takes.
type ResetPasswordInput struct {
	ByID
	Body struct {
		Password string `json:"password" minLength:"1" maxLength:"1024" doc:"At least 12 characters, at most 256 bytes."`
	}
}

func versionedUser(u auth.User, err error) (*Versioned[auth.User], error) {
	return &Versioned[auth.User]{ETag: etag(u.Version), Body: u}, err
}

func (a *api) registerUsers(h *httpx.API) {
	const all, one = "/api/v1/users", "/api/v1/users/{id}"
	httpx.Handle(h, httpx.Op{
		ID: "user-list", Method: http.MethodGet, Path: all, Permission: userRead, Tag: "users", Summary: "List users",
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
				return a.s.Users(ctx, p, filter, after, limit)
			})
	})
	httpx.Handle(h, httpx.Op{
		ID: "user-create", Method: http.MethodPost, Path: all, Permission: userWrite, Tag: "users", Summary: "Create a user", MaxBody: maxBody,
		Status: http.StatusCreated,
		Errors: []*errs.Error{auth.ErrUsernameTaken, auth.ErrEmailTaken, auth.ErrUnknownRole, auth.ErrWeakPassword, auth.ErrGrantExceedsOwn,
			auth.ErrTenantNotFound, auth.ErrBusy},
	}, func(ctx context.Context, in *CreateUserInput) (*Versioned[auth.User], error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		return versionedUser(a.s.CreateUser(ctx, p, service.NewUser(in.Body)))
	})
	httpx.Handle(h, httpx.Op{
		ID: "user-get", Method: http.MethodGet, Path: one, Permission: userRead, Tag: "users", Summary: "Show a user",
		Errors: []*errs.Error{auth.ErrUserNotFound},
	}, func(ctx context.Context, in *ByID) (*Versioned[auth.User], error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		return versionedUser(a.s.User(ctx, p, in.ID))
	})
	httpx.Handle(h, httpx.Op{
		ID: "user-update", Method: http.MethodPatch, Path: one, Permission: userWrite, Tag: "users", Summary: "Change a user", MaxBody: maxBody,
		Errors: []*errs.Error{auth.ErrUserNotFound, auth.ErrVersion, auth.ErrUnknownRole, auth.ErrEmailTaken, auth.ErrGrantExceedsOwn, auth.ErrLastAdmin},
	}, a.updateUser)
	httpx.Handle(h, httpx.Op{
		ID: "user-delete", Method: http.MethodDelete, Path: one, Permission: userWrite, Tag: "users", Summary: "Delete a user",
		Status: http.StatusNoContent, Errors: []*errs.Error{auth.ErrUserNotFound, auth.ErrGrantExceedsOwn, auth.ErrLastAdmin},
	}, func(ctx context.Context, in *ByID) (*Empty, error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		return &Empty{}, a.s.DeleteUser(ctx, p, in.ID)
	})
	httpx.Handle(h, httpx.Op{
		ID: "user-password-reset", Method: http.MethodPost, Path: one + "/password", Permission: userWrite, Tag: "users", MaxBody: maxBody,
		Summary: "Set the password of another user", Description: "All their sessions end.", Status: http.StatusNoContent,
		Errors: []*errs.Error{auth.ErrUserNotFound, auth.ErrGrantExceedsOwn, auth.ErrWeakPassword, auth.ErrOwnPassword, auth.ErrBusy, auth.ErrServiceAccount},
	}, func(ctx context.Context, in *ResetPasswordInput) (*Empty, error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		return &Empty{}, a.s.ResetPassword(ctx, p, in.ID, in.Body.Password)
	})
}

func (a *api) updateUser(ctx context.Context, in *UpdateUserInput) (*Versioned[auth.User], error) {
	p, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	version, err := ifMatch(in.IfMatch)
	if err != nil {
		return nil, err
	}
	return versionedUser(a.s.UpdateUser(ctx, p, in.ID, service.UserChange{
		Email: in.Body.Email, Role: in.Body.Role, Disabled: in.Body.Disabled, Version: version,
	}))
}
