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
	"github.com/novacron/novacron/internal/platform/identity"
)

// Permission is one entry of the list of permissions.
type Permission struct {
	Name string `json:"name" example:"vm:create"`
}

// CreateRoleInput is what POST /api/v1/roles takes.
type CreateRoleInput struct {
	Body struct {
		Name        string   `json:"name" pattern:"^[a-z][a-z0-9-]{0,49}$" patternDescription:"a-z, 0-9 and '-', 50 at most, the first a letter" maxLength:"50" example:"own-machines"`
		Description string   `json:"description,omitempty" maxLength:"500" example:"Makes machines and sees no others."`
		Permissions []string `json:"permissions" maxItems:"200" doc:"\"<resource>:<verb>\"; either part may be \"*\", and \":own\" at the end narrows it to what its holder owns." example:"[\"vm:create\",\"vm:*:own\",\"image:read\"]"`
	}
}

// UpdateRoleInput is what PATCH /api/v1/roles/{id} takes.
type UpdateRoleInput struct {
	ByID
	IfMatch string `header:"If-Match" maxLength:"128" doc:"The ETag of the version that is to be changed."`
	Body    struct {
		Description *string   `json:"description,omitempty" maxLength:"500"`
		Permissions *[]string `json:"permissions,omitempty" maxItems:"200" doc:"Replaces all of them." example:"[\"vm:read\"]"`
	}
}

// DeleteInput is what a DELETE of something with a version takes.
type DeleteInput struct {
	ByID
	IfMatch string `header:"If-Match" maxLength:"128" doc:"The ETag of the version that is to be deleted."`
}

func versionedRole(r auth.Role, err error) (*Versioned[auth.Role], error) {
	return &Versioned[auth.Role]{ETag: etag(r.Version), Body: r}, err
}

func (a *api) registerRoles(h *httpx.API) {
	const all, one = "/api/v1/roles", "/api/v1/roles/{id}"
	httpx.Handle(h, httpx.Op{
		ID: "role-list", Method: http.MethodGet, Path: all, Permission: roleRead, Tag: "roles",
		Summary: "List the roles of my tenant", Description: "The built-in ones come first, then the tenant's own, the oldest first.",
	}, func(ctx context.Context, in *httpx.PageParams) (*Listed[auth.Role], error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		return page(*in, func(r auth.Role) httpx.Cursor { return httpx.Cursor{CreatedAt: r.CreatedAt, ID: r.ID} },
			func(after *store.After, limit int) ([]auth.Role, error) { return a.s.Roles(ctx, p, after, limit) })
	})
	httpx.Handle(h, httpx.Op{
		ID: "role-create", Method: http.MethodPost, Path: all, Permission: roleWrite, Tag: "roles", Summary: "Create a role of my tenant", MaxBody: maxBody,
		Description: "It can hold what you hold yourself.", Status: http.StatusCreated,
		Errors: []*errs.Error{auth.ErrRoleExists, auth.ErrInvalidPermission, auth.ErrGrantExceedsOwn, auth.ErrTooManyRoles},
	}, func(ctx context.Context, in *CreateRoleInput) (*Versioned[auth.Role], error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		return versionedRole(a.s.CreateRole(ctx, p, service.NewRole(in.Body)))
	})
	httpx.Handle(h, httpx.Op{
		ID: "role-get", Method: http.MethodGet, Path: one, Permission: roleRead, Tag: "roles", Summary: "Show a role",
		Errors: []*errs.Error{auth.ErrRoleNotFound},
	}, func(ctx context.Context, in *ByID) (*Versioned[auth.Role], error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		return versionedRole(a.s.Role(ctx, p, in.ID))
	})
	httpx.Handle(h, httpx.Op{
		ID: "role-update", Method: http.MethodPatch, Path: one, Permission: roleWrite, Tag: "roles", Summary: "Change a role of my tenant", MaxBody: maxBody,
		Description: "Everybody who has it has the new permissions at once.",
		Errors:      []*errs.Error{auth.ErrRoleNotFound, auth.ErrRoleBuiltIn, auth.ErrInvalidPermission, auth.ErrGrantExceedsOwn, auth.ErrVersion},
	}, func(ctx context.Context, in *UpdateRoleInput) (*Versioned[auth.Role], error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		version, err := ifMatch(in.IfMatch)
		if err != nil {
			return nil, err
		}
		return versionedRole(a.s.UpdateRole(ctx, p, in.ID, service.RoleChange{
			Description: in.Body.Description, Permissions: in.Body.Permissions, Version: version,
		}))
	})
	httpx.Handle(h, httpx.Op{
		ID: "role-delete", Method: http.MethodDelete, Path: one, Permission: roleWrite, Tag: "roles", Summary: "Delete a role that nobody has",
		Status: http.StatusNoContent,
		Errors: []*errs.Error{auth.ErrRoleNotFound, auth.ErrRoleBuiltIn, auth.ErrRoleInUse, auth.ErrGrantExceedsOwn, auth.ErrVersion},
	}, func(ctx context.Context, in *DeleteInput) (*Empty, error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		version, err := ifMatch(in.IfMatch)
		if err != nil {
			return nil, err
		}
		return &Empty{}, a.s.DeleteRole(ctx, p, in.ID, version)
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

// ListBindingsInput is what GET /api/v1/role-bindings takes.
type ListBindingsInput struct {
	httpx.PageParams
	TenantID    string    `query:"tenant_id" maxLength:"36" doc:"A tenant other than the one you act in, or 'all'; both take a role that reaches every tenant."`
	Scope       string    `query:"scope" enum:"tenant,platform" doc:"Only those of this scope; 'platform' takes a role that reaches every tenant."`
	PrincipalID uuid.UUID `query:"principal_id" format:"uuid" doc:"Only those of this principal."`
	RoleID      uuid.UUID `query:"role_id" format:"uuid" doc:"Only those of this role."`
}

// CreateBindingInput is what POST /api/v1/role-bindings takes.
type CreateBindingInput struct {
	Body struct {
		PrincipalKind   string    `json:"principal_kind,omitempty" enum:"user,api_key" default:"user"`
		PrincipalID     uuid.UUID `json:"principal_id" format:"uuid"`
		Role            string    `json:"role" minLength:"1" maxLength:"50" doc:"A built-in role, or one of the tenant." example:"operator"`
		Scope           string    `json:"scope,omitempty" enum:"tenant,platform" default:"tenant" doc:"tenant: in the tenant that you act in. platform: in every tenant."`
		IncludeProjects bool      `json:"include_projects,omitempty" doc:"In the projects of the tenant too."`
	}
}

// BindingOutput carries one binding.
type BindingOutput struct {
	Body auth.RoleBinding
}

func (a *api) registerBindings(h *httpx.API) {
	const all, one = "/api/v1/role-bindings", "/api/v1/role-bindings/{id}"
	httpx.Handle(h, httpx.Op{
		ID: "role-binding-list", Method: http.MethodGet, Path: all, Permission: roleRead, Tag: "roles",
		Summary: "List who was given which role, newest first", Description: "The role that a user has at home is part of the user and not in this list.",
		Errors: []*errs.Error{auth.ErrPlatformOnly, auth.ErrTenantNotFound},
	}, func(ctx context.Context, in *ListBindingsInput) (*Listed[auth.RoleBinding], error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		filter, err := in.filter()
		if err != nil {
			return nil, err
		}
		return page(in.PageParams, func(b auth.RoleBinding) httpx.Cursor { return httpx.Cursor{CreatedAt: b.CreatedAt, ID: b.ID} },
			func(after *store.After, limit int) ([]auth.RoleBinding, error) {
				return a.s.Bindings(ctx, p, filter, after, limit)
			})
	})
	httpx.Handle(h, httpx.Op{
		ID: "role-binding-create", Method: http.MethodPost, Path: all, Permission: roleBind, Tag: "roles", Summary: "Give somebody a role", MaxBody: maxBody,
		Description: "In the tenant that you act in, to accounts of the tenant, of its organisation or of its projects; to others, and on the platform, with a role " +
			"that reaches every tenant. You can give what you hold there yourself.",
		Status: http.StatusCreated,
		Errors: []*errs.Error{auth.ErrPrincipalNotFound, auth.ErrUnknownRole, auth.ErrBinding, auth.ErrBindingExists, auth.ErrGrantExceedsOwn,
			auth.ErrPlatformOnly, auth.ErrTenantDisabled},
	}, func(ctx context.Context, in *CreateBindingInput) (*BindingOutput, error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		b, err := a.s.Bind(ctx, p, service.NewBinding{
			Kind: auth.PrincipalKind(in.Body.PrincipalKind), PrincipalID: in.Body.PrincipalID, Role: in.Body.Role,
			Scope: identity.Scope(in.Body.Scope), IncludeProjects: in.Body.IncludeProjects,
		})
		return &BindingOutput{Body: b}, err
	})
	httpx.Handle(h, httpx.Op{
		ID: "role-binding-get", Method: http.MethodGet, Path: one, Permission: roleRead, Tag: "roles", Summary: "Show a role binding",
		Errors: []*errs.Error{auth.ErrBindingNotFound},
	}, func(ctx context.Context, in *ByID) (*BindingOutput, error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		b, err := a.s.Binding(ctx, p, in.ID)
		return &BindingOutput{Body: b}, err
	})
	httpx.Handle(h, httpx.Op{
		ID: "role-binding-delete", Method: http.MethodDelete, Path: one, Permission: roleBind, Tag: "roles", Summary: "Take a role from somebody",
		Description: "It ends at once. Who could not give the role cannot take it.", Status: http.StatusNoContent,
		Errors: []*errs.Error{auth.ErrBindingNotFound, auth.ErrGrantExceedsOwn},
	}, func(ctx context.Context, in *ByID) (*Empty, error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		return &Empty{}, a.s.Unbind(ctx, p, in.ID)
	})
}

func (in *ListBindingsInput) filter() (service.BindingFilter, error) {
	tenant, err := tenantFilter(in.TenantID)
	f := service.BindingFilter{Tenant: tenant}
	if in.Scope != "" {
		f.Scope = &in.Scope
	}
	if in.PrincipalID != uuid.Nil {
		f.PrincipalID = &in.PrincipalID
	}
	if in.RoleID != uuid.Nil {
		f.RoleID = &in.RoleID
	}
	return f, err
}
