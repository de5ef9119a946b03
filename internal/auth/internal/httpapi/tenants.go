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

// CreateTenantInput is what POST /api/v1/tenants takes.
type CreateTenantInput struct {
	Body struct {
		Name     string     `json:"name" pattern:"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}$" patternDescription:"letters, digits, spaces and ._-, 63 at most, the first a letter or digit" maxLength:"63" example:"research"`
		ParentID *uuid.UUID `json:"parent_id,omitempty" format:"uuid" doc:"The organisation that it is a project of. It cannot be changed later."`
	}
}

// ListTenantsInput is what GET /api/v1/tenants takes.
type ListTenantsInput struct {
	httpx.PageParams
	ParentID uuid.UUID `query:"parent_id" format:"uuid" doc:"Only the projects of this organisation."`
	Name     string    `query:"name" maxLength:"63" doc:"Only the one of this name."`
}

// UpdateTenantInput is what PATCH /api/v1/tenants/{id} takes.
type UpdateTenantInput struct {
	ByID
	IfMatch string `header:"If-Match" doc:"The ETag of the version that is to be changed."`
	Body    struct {
		Name     *string `json:"name,omitempty" pattern:"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}$" patternDescription:"letters, digits, spaces and ._-, 63 at most, the first a letter or digit" maxLength:"63" example:"research"`
		Disabled *bool   `json:"disabled,omitempty"`
	}
}

func versionedTenant(t auth.Tenant, err error) (*Versioned[auth.Tenant], error) {
	return &Versioned[auth.Tenant]{ETag: etag(t.Version), Body: t}, err
}

func (a *api) registerTenants(h *httpx.API) {
	const all, one = "/api/v1/tenants", "/api/v1/tenants/{id}"
	httpx.Handle(h, httpx.Op{
		ID: "tenant-list", Method: http.MethodGet, Path: all, Permission: tenantRead, Tag: "tenants",
		Summary: "List tenants", Description: "The one that you act in and its projects, or all of them with a role that reaches every tenant.",
	}, func(ctx context.Context, in *ListTenantsInput) (*Listed[auth.Tenant], error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		var parent *uuid.UUID
		if in.ParentID != uuid.Nil {
			parent = &in.ParentID
		}
		return page(in.PageParams, func(t auth.Tenant) httpx.Cursor { return httpx.Cursor{CreatedAt: t.CreatedAt, ID: t.ID} },
			func(after *store.After, limit int) ([]auth.Tenant, error) {
				return a.s.Tenants(ctx, p, parent, in.Name, after, limit)
			})
	})
	httpx.Handle(h, httpx.Op{
		ID: "tenant-create", Method: http.MethodPost, Path: all, Permission: tenantWrite, Tag: "tenants", Summary: "Create a tenant",
		Description: "With a parent it is a project of that organisation, and the permission in the organisation is enough; else it takes a role that reaches every tenant.",
		MaxBody:     maxBody, Status: http.StatusCreated,
		Errors: []*errs.Error{auth.ErrTenantExists, auth.ErrPlatformOnly, auth.ErrTenantNotFound, auth.ErrNesting, auth.ErrTenantDisabled},
	}, func(ctx context.Context, in *CreateTenantInput) (*Versioned[auth.Tenant], error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		return versionedTenant(a.s.CreateTenant(ctx, p, in.Body.Name, in.Body.ParentID))
	})
	httpx.Handle(h, httpx.Op{
		ID: "tenant-get", Method: http.MethodGet, Path: one, Permission: tenantRead, Tag: "tenants", Summary: "Show a tenant",
		Errors: []*errs.Error{auth.ErrTenantNotFound},
	}, func(ctx context.Context, in *ByID) (*Versioned[auth.Tenant], error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		return versionedTenant(a.s.Tenant(ctx, p, in.ID))
	})
	httpx.Handle(h, httpx.Op{
		ID: "tenant-update", Method: http.MethodPatch, Path: one, Permission: tenantWrite, Tag: "tenants", Summary: "Change a tenant",
		Description: "A project with the permission in its organisation; any with a role that reaches every tenant.",
		MaxBody:     maxBody,
		Errors:      []*errs.Error{auth.ErrTenantNotFound, auth.ErrTenantExists, auth.ErrPlatformOnly, auth.ErrOwnTenant, auth.ErrVersion},
	}, func(ctx context.Context, in *UpdateTenantInput) (*Versioned[auth.Tenant], error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		version, err := ifMatch(in.IfMatch)
		if err != nil {
			return nil, err
		}
		return versionedTenant(a.s.UpdateTenant(ctx, p, in.ID, service.TenantChange{
			Name: in.Body.Name, Disabled: in.Body.Disabled, Version: version,
		}))
	})
	httpx.Handle(h, httpx.Op{
		ID: "tenant-delete", Method: http.MethodDelete, Path: one, Permission: tenantWrite, Tag: "tenants", Summary: "Delete an empty tenant",
		Description: "Every module is asked whether it has objects of the tenant; one that does not answer counts as having some. The tenant's own roles go with it.",
		Status:      http.StatusNoContent,
		Errors: []*errs.Error{auth.ErrTenantNotFound, auth.ErrTenantNotEmpty, auth.ErrTenantUnknown, auth.ErrOwnTenant, auth.ErrPlatformOnly,
			auth.ErrVersion},
	}, func(ctx context.Context, in *DeleteInput) (*Empty, error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		version, err := ifMatch(in.IfMatch)
		if err != nil {
			return nil, err
		}
		return &Empty{}, a.s.DeleteTenant(ctx, p, in.ID, version)
	})
}
