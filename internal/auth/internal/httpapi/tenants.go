package httpapi

import (
	"context"
	"net/http"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/service"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
)

// CreateTenantInput is what POST /api/v1/tenants takes.
type CreateTenantInput struct {
	Body struct {
		Name string `json:"name" pattern:"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}$" patternDescription:"letters, digits, spaces and ._-, 63 at most, the first a letter or digit" maxLength:"63" example:"research"`
	}
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
		Summary: "List tenants", Description: "Yours, or all of them with a role that reaches every tenant.",
	}, func(ctx context.Context, in *httpx.PageParams) (*Listed[auth.Tenant], error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		return page(*in, func(t auth.Tenant) httpx.Cursor { return httpx.Cursor{CreatedAt: t.CreatedAt, ID: t.ID} },
			func(after *store.After, limit int) ([]auth.Tenant, error) { return a.s.Tenants(ctx, p, after, limit) })
	})
	httpx.Handle(h, httpx.Op{
		ID: "tenant-create", Method: http.MethodPost, Path: all, Permission: tenantWrite, Tag: "tenants", Summary: "Create a tenant",
		MaxBody: maxBody, Status: http.StatusCreated, Errors: []*errs.Error{auth.ErrTenantExists, auth.ErrPlatformOnly},
	}, func(ctx context.Context, in *CreateTenantInput) (*Versioned[auth.Tenant], error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		return versionedTenant(a.s.CreateTenant(ctx, p, in.Body.Name))
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
		MaxBody: maxBody,
		Errors:  []*errs.Error{auth.ErrTenantNotFound, auth.ErrTenantExists, auth.ErrPlatformOnly, auth.ErrOwnTenant, auth.ErrVersion},
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
}

// Permission is one entry of the list of permissions.
type Permission struct {
	Name string `json:"name" example:"vm:create"`
}

func (a *api) registerRoles(h *httpx.API) {
	httpx.Handle(h, httpx.Op{
		ID: "role-list", Method: http.MethodGet, Path: "/api/v1/roles", Permission: roleRead, Tag: "roles",
		Summary: "List the roles of my tenant", Description: "The built-in ones come first. The list is never cut to pages.",
	}, func(ctx context.Context, _ *struct{}) (*Listed[auth.Role], error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		roles, err := a.s.Roles(ctx, p)
		return &Listed[auth.Role]{Body: httpx.Page[auth.Role]{Items: roles}}, err
	})
	httpx.Handle(h, httpx.Op{
		ID: "permission-list", Method: http.MethodGet, Path: "/api/v1/permissions", Permission: roleRead, Tag: "roles",
		Summary: "List the permissions there are", Description: "The list is never cut to pages.",
	}, func(ctx context.Context, _ *struct{}) (*Listed[Permission], error) {
		names, err := a.s.Permissions(ctx)
		if err != nil {
			return nil, err
		}
		items := make([]Permission, len(names))
		for i, name := range names {
			items[i].Name = name
		}
		return &Listed[Permission]{Body: httpx.Page[Permission]{Items: items}}, nil
	})
}
