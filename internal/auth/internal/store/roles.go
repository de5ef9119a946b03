package store

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/authdb"
	"github.com/novacron/novacron/internal/platform/identity"
)

// Roles lists the roles of a tenant, built-in ones first.
func (q Queries) Roles(ctx context.Context, tenantID uuid.UUID, after *After, limit int) ([]auth.Role, error) {
	t, id := after.split()
	rows, err := q.q.RoleList(ctx, q.db, authdb.RoleListParams{TenantID: &tenantID, AfterTime: t, AfterID: id, MaxRows: int32(limit)})
	return convert(rows, func(r authdb.RoleListRow) auth.Role { return role(authdb.RoleGetRow(r)) }), mapErr("list roles", err, nil)
}

// Role gives a role as a tenant sees it, or ErrUnknownRole.
func (q Queries) Role(ctx context.Context, name string, tenantID uuid.UUID) (auth.Role, error) {
	row, err := q.q.RoleGet(ctx, q.db, authdb.RoleGetParams{Name: name, TenantID: &tenantID})
	return role(row), mapErr("read role", err, auth.ErrUnknownRole)
}

// RoleByID gives a role as a tenant sees it, or ErrRoleNotFound.
func (q Queries) RoleByID(ctx context.Context, id, tenantID uuid.UUID) (auth.Role, error) {
	row, err := q.q.RoleGetByID(ctx, q.db, authdb.RoleGetByIDParams{ID: id, TenantID: &tenantID})
	return role(authdb.RoleGetRow(row)), mapErr("read role", err, auth.ErrRoleNotFound)
}

// HoldRole gives a role as a tenant sees it, or ErrUnknownRole, and keeps it as it is until the transaction ends, so that nobody is given a
// role that goes or grows meanwhile.
func (q Queries) HoldRole(ctx context.Context, name string, tenantID uuid.UUID) (auth.Role, error) {
	r, err := q.Role(ctx, name, tenantID)
	if err != nil {
		return auth.Role{}, err
	}
	if err := q.q.RoleHold(ctx, q.db, r.ID); err != nil {
		return auth.Role{}, mapErr("hold role", err, nil)
	}
	return q.Role(ctx, name, tenantID)
}

// LockRole gives a role as a tenant sees it, or ErrRoleNotFound, and holds it for a change until the transaction ends.
func (q Queries) LockRole(ctx context.Context, id, tenantID uuid.UUID) (auth.Role, error) {
	if err := q.q.RoleLock(ctx, q.db, id); err != nil {
		return auth.Role{}, mapErr("lock role", err, nil)
	}
	return q.RoleByID(ctx, id, tenantID)
}

// InsertRole makes a role of a tenant. It fails with ErrRoleExists.
func (q Queries) InsertRole(ctx context.Context, r auth.Role, now time.Time) error {
	err := q.q.RoleInsert(ctx, q.db, authdb.RoleInsertParams{ID: r.ID, TenantID: r.TenantID, Name: r.Name, Description: r.Description, Now: now})
	if err == nil {
		err = q.q.RolePermissionAdd(ctx, q.db, authdb.RolePermissionAddParams{RoleID: r.ID, Permissions: r.Permissions})
	}
	return mapErr("insert role", err, nil)
}

// UpdateRole writes the description and the permissions of a role that the transaction has locked.
func (q Queries) UpdateRole(ctx context.Context, r auth.Role, now time.Time) error {
	err := q.q.RoleUpdate(ctx, q.db, authdb.RoleUpdateParams{ID: r.ID, Description: r.Description, Now: now})
	if err == nil {
		err = q.q.RolePermissionClear(ctx, q.db, r.ID)
	}
	if err == nil {
		err = q.q.RolePermissionAdd(ctx, q.db, authdb.RolePermissionAddParams{RoleID: r.ID, Permissions: r.Permissions})
	}
	return mapErr("update role", err, nil)
}

// DeleteRole removes a role that the transaction has locked. It fails with ErrRoleInUse where somebody has it.
func (q Queries) DeleteRole(ctx context.Context, r auth.Role) error {
	used, err := q.q.RoleUsed(ctx, q.db, authdb.RoleUsedParams{TenantID: *r.TenantID, Name: r.Name})
	if err == nil && used {
		return auth.ErrRoleInUse
	}
	if err == nil {
		err = q.q.RoleDelete(ctx, q.db, r.ID)
	}
	return mapErr("delete role", err, nil)
}

// CountRoles counts a tenant's own roles.
func (q Queries) CountRoles(ctx context.Context, tenantID uuid.UUID) (int64, error) {
	n, err := q.q.RoleCount(ctx, q.db, &tenantID)
	return n, mapErr("count roles", err, nil)
}

// Permissions lists the permissions that roles name one by one.
func (q Queries) Permissions(ctx context.Context) ([]string, error) {
	list, err := q.q.PermissionList(ctx, q.db)
	return list, mapErr("list permissions", err, nil)
}

// PermissionResources lists the resources of tenants: those that built-in roles of tenants name.
func (q Queries) PermissionResources(ctx context.Context) ([]string, error) {
	list, err := q.q.PermissionResources(ctx, q.db)
	return list, mapErr("list resources of permissions", err, nil)
}

func role(r authdb.RoleGetRow) auth.Role {
	return auth.Role{
		ID: r.ID, Name: r.Name, Description: r.Description, TenantID: r.TenantID, BuiltIn: r.TenantID == nil, Scope: identity.Scope(r.Scope),
		Permissions: r.Permissions, Version: r.Version, CreatedAt: r.CreatedAt.UTC(), UpdatedAt: r.UpdatedAt.UTC(),
	}
}

// RoleReachesProjects tells whether somebody has the role in the projects of its tenant too.
func (q Queries) RoleReachesProjects(ctx context.Context, id uuid.UUID) (bool, error) {
	reaches, err := q.q.RoleReachesProjects(ctx, q.db, id)
	return reaches, mapErr("look where a role is bound", err, nil)
}
