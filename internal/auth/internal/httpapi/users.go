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
)

// ListUsersInput is what GET /api/v1/users takes.
type ListUsersInput struct {
	httpx.PageParams
	TenantID string `query:"tenant_id" maxLength:"36" doc:"A tenant other than the one you act in, or 'all'; both take a role that reaches every tenant."`
	Username string `query:"username" maxLength:"64" doc:"Only the one of this name."`
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
		Password string    `json:"password,omitempty" maxLength:"1024" doc:"At least 12 characters, at most 256 bytes. Without one, a one-time password is made up and is in the answer."`
		Role     string    `json:"role,omitempty" maxLength:"50" default:"user" doc:"What the user may do at home." example:"operator"`
		TenantID uuid.UUID `json:"tenant_id,omitempty" format:"uuid" doc:"The home tenant: the one that you act in, unless given."`
	}
}

// CreatedUser is a new account, and its one-time password where one was made up.
type CreatedUser struct {
	auth.User
	OneTimePassword string `json:"one_time_password,omitempty" doc:"Shown this once. It must be replaced at the first login." example:"KZ3T…"`
}

// CreatedUserOutput carries it past every cache.
type CreatedUserOutput struct {
	ETag         string `header:"ETag"`
	CacheControl string `header:"Cache-Control"`
	Body         CreatedUser
}

// OneTimePassword is a password that must be replaced at the next login.
type OneTimePassword struct {
	OneTimePassword string    `json:"one_time_password" doc:"Shown this once." example:"KZ3T…"`
	ExpiresAt       time.Time `json:"expires_at"`
}

// OneTimePasswordOutput carries it past every cache.
type OneTimePasswordOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         OneTimePassword
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
		Password   string `json:"password" minLength:"1" maxLength:"1024" doc:"At least 12 characters, at most 256 bytes."`
		MustChange bool   `json:"must_change,omitempty" doc:"It must be replaced at the next login."`
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
				return a.s.Users(ctx, p, filter, in.Username, after, limit)
			})
	})
	httpx.Handle(h, httpx.Op{
		ID: "user-create", Method: http.MethodPost, Path: all, Permission: userWrite, Tag: "users", Summary: "Create a user", MaxBody: maxBody,
		Status: http.StatusCreated,
		Errors: []*errs.Error{auth.ErrUsernameTaken, auth.ErrEmailTaken, auth.ErrUnknownRole, auth.ErrWeakPassword, auth.ErrGrantExceedsOwn,
			auth.ErrTenantNotFound, auth.ErrTenantDisabled, auth.ErrBusy},
	}, func(ctx context.Context, in *CreateUserInput) (*CreatedUserOutput, error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		u, oneTime, err := a.s.CreateUser(ctx, p, service.NewUser(in.Body))
		return &CreatedUserOutput{ETag: etag(u.Version), CacheControl: noStore, Body: CreatedUser{User: u, OneTimePassword: oneTime}}, err
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
		_, _, err = a.s.ResetPassword(ctx, p, in.ID, in.Body.Password, in.Body.MustChange)
		return &Empty{}, err
	})
	httpx.Handle(h, httpx.Op{
		ID: "user-one-time-password", Method: http.MethodPost, Path: one + "/one-time-password", Permission: userWrite, Tag: "users",
		Summary:     "Give another user a one-time password",
		Description: "All their sessions end. At the next login the password must be replaced before anything else.",
		Errors:      []*errs.Error{auth.ErrUserNotFound, auth.ErrGrantExceedsOwn, auth.ErrOwnPassword, auth.ErrBusy},
	}, func(ctx context.Context, in *ByID) (*OneTimePasswordOutput, error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		plain, until, err := a.s.ResetPassword(ctx, p, in.ID, "", true)
		if err != nil {
			return nil, err
		}
		return &OneTimePasswordOutput{CacheControl: noStore, Body: OneTimePassword{OneTimePassword: plain, ExpiresAt: *until}}, nil
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
