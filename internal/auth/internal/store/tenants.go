package store

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/authdb"
	"github.com/novacron/novacron/internal/platform/pg"
)

// InsertTenant makes a tenant; a parent makes it a project of that. It fails with ErrTenantExists.
func (q Queries) InsertTenant(ctx context.Context, id uuid.UUID, name string, parent *uuid.UUID, now time.Time) (auth.Tenant, error) {
	row, err := q.q.TenantInsert(ctx, q.db, authdb.TenantInsertParams{ID: id, Name: name, ParentID: parent, Now: now})
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

// HoldTenant gives a tenant, or ErrTenantNotFound, and keeps it from being disabled or removed until the transaction ends, so that nothing is put
// into a tenant that goes.
func (q Queries) HoldTenant(ctx context.Context, id uuid.UUID) (auth.Tenant, error) {
	row, err := q.q.TenantHold(ctx, q.db, id)
	return tenant(row), mapErr("hold tenant", err, auth.ErrTenantNotFound)
}

// TenantByName gives the tenant of a name, whatever its case, or ErrTenantNotFound.
func (q Queries) TenantByName(ctx context.Context, name string) (auth.Tenant, error) {
	row, err := q.q.TenantByName(ctx, q.db, name)
	return tenant(row), mapErr("find tenant", err, auth.ErrTenantNotFound)
}

// DeleteTenant removes a tenant with its roles and bindings. It fails with ErrTenantNotEmpty where it has users or projects.
func (q Queries) DeleteTenant(ctx context.Context, id uuid.UUID) error {
	err := q.q.TenantDelete(ctx, q.db, id)
	switch constraint, _ := pg.Violation(err); constraint {
	case "users_tenant_id_fkey", "tenants_parent_id_fkey":
		return auth.ErrTenantNotEmpty
	}
	return mapErr("delete tenant", err, nil)
}

// TenantObjects counts what the module has of a tenant, by kind.
func (q Queries) TenantObjects(ctx context.Context, id uuid.UUID) (map[string]int64, error) {
	row, err := q.q.TenantObjects(ctx, q.db, id)
	return map[string]int64{"users": row.Users, "projects": row.Projects}, mapErr("count the objects of a tenant", err, nil)
}

// TenantFilter narrows a list of tenants; what is not set stands for any.
type TenantFilter struct {
	Reach  Reach // this tenant and its projects
	Parent *uuid.UUID
	Name   *string // whatever its case
}

// Tenants lists tenants, newest first.
func (q Queries) Tenants(ctx context.Context, f TenantFilter, after *After, limit int) ([]auth.Tenant, error) {
	t, id := after.split()
	rows, err := q.q.TenantList(ctx, q.db, authdb.TenantListParams{
		Reach: f.Reach, Parent: f.Parent, Name: f.Name, AfterTime: t, AfterID: id, MaxRows: int32(limit),
	})
	return convert(rows, tenant), mapErr("list tenants", err, nil)
}

// UpdateTenant writes the name and the disabling of a tenant that the transaction has locked.
func (q Queries) UpdateTenant(ctx context.Context, t auth.Tenant, now time.Time) (auth.Tenant, error) {
	row, err := q.q.TenantUpdate(ctx, q.db, authdb.TenantUpdateParams{ID: t.ID, Name: t.Name, Disabled: t.Disabled, Now: now})
	return tenant(row), mapErr("update tenant", err, auth.ErrTenantNotFound)
}

func tenant(r authdb.Tenant) auth.Tenant {
	return auth.Tenant{
		ID: r.ID, Name: r.Name, ParentID: r.ParentID, Disabled: r.DisabledAt != nil, Version: r.Version, CreatedAt: r.CreatedAt.UTC(),
		UpdatedAt: r.UpdatedAt.UTC(),
	}
}
