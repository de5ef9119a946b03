package store

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/authdb"
	"github.com/novacron/novacron/internal/platform/identity"
)

// InsertTenant makes a tenant. It fails with ErrTenantExists.
func (q Queries) InsertTenant(ctx context.Context, id uuid.UUID, name string, now time.Time) (auth.Tenant, error) {
	row, err := q.q.TenantInsert(ctx, q.db, authdb.TenantInsertParams{ID: id, Name: name, Now: now})
	return tenant(row), mapErr("insert tenant", err, nil)
}

// Tenant gives a tenant within reach, or ErrTenantNotFound.
func (q Queries) Tenant(ctx context.Context, id uuid.UUID, reach Reach) (auth.Tenant, error) {
	row, err := q.q.TenantGet(ctx, q.db, authdb.TenantGetParams{ID: id, Reach: reach})
	return tenant(row), mapErr("read tenant", err, auth.ErrTenantNotFound)
}

// LockTenant gives a tenant within reach and holds it until the transaction ends.
func (q Queries) LockTenant(ctx context.Context, id uuid.UUID, reach Reach) (auth.Tenant, error) {
	row, err := q.q.TenantGetForUpdate(ctx, q.db, authdb.TenantGetForUpdateParams{ID: id, Reach: reach})
	return tenant(row), mapErr("lock tenant", err, auth.ErrTenantNotFound)
}

// Tenants lists tenants within reach, newest first.
func (q Queries) Tenants(ctx context.Context, reach Reach, after *After, limit int) ([]auth.Tenant, error) {
	t, id := after.split()
	rows, err := q.q.TenantList(ctx, q.db, authdb.TenantListParams{Reach: reach, AfterTime: t, AfterID: id, MaxRows: int32(limit)})
	return convert(rows, tenant), mapErr("list tenants", err, nil)
}

// UpdateTenant writes the name and the disabling of a tenant that the transaction has locked.
func (q Queries) UpdateTenant(ctx context.Context, t auth.Tenant, now time.Time) (auth.Tenant, error) {
	row, err := q.q.TenantUpdate(ctx, q.db, authdb.TenantUpdateParams{ID: t.ID, Name: t.Name, Disabled: t.Disabled, Now: now})
	return tenant(row), mapErr("update tenant", err, auth.ErrTenantNotFound)
}

// Roles lists the roles of a tenant, built-in ones first.
func (q Queries) Roles(ctx context.Context, tenantID uuid.UUID) ([]auth.Role, error) {
	rows, err := q.q.RoleList(ctx, q.db, &tenantID)
	return convert(rows, func(r authdb.RoleListRow) auth.Role { return role(authdb.RoleGetRow(r)) }), mapErr("list roles", err, nil)
}

// Role gives a role as a tenant sees it, or ErrUnknownRole.
func (q Queries) Role(ctx context.Context, name string, tenantID uuid.UUID) (auth.Role, error) {
	row, err := q.q.RoleGet(ctx, q.db, authdb.RoleGetParams{Name: name, TenantID: &tenantID})
	return role(row), mapErr("read role", err, auth.ErrUnknownRole)
}

// Permissions lists the permissions that roles name one by one.
func (q Queries) Permissions(ctx context.Context) ([]string, error) {
	list, err := q.q.PermissionList(ctx, q.db)
	return list, mapErr("list permissions", err, nil)
}

func tenant(r authdb.Tenant) auth.Tenant {
	return auth.Tenant{
		ID: r.ID, Name: r.Name, ParentID: r.ParentID, Disabled: r.DisabledAt != nil, Version: r.Version, CreatedAt: r.CreatedAt.UTC(),
		UpdatedAt: r.UpdatedAt.UTC(),
	}
}

func role(r authdb.RoleGetRow) auth.Role {
	return auth.Role{
		ID: r.ID, Name: r.Name, Description: r.Description, TenantID: r.TenantID, BuiltIn: r.TenantID == nil, Scope: identity.Scope(r.Scope),
		Permissions: r.Permissions, CreatedAt: r.CreatedAt.UTC(),
	}
}
