package store

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/authdb"
	"github.com/novacron/novacron/internal/platform/identity"
)

// Holder is a principal whose permissions are asked about. Who has no account of their own, such as an API key, has no home role.
type Holder struct {
	Kind     auth.PrincipalKind
	ID       uuid.UUID
	HomeID   uuid.UUID
	HomeRole string
}

// How far a grant reaches.
const (
	ReachTenant   = "tenant"   // the tenant alone
	ReachProjects = "projects" // the tenant and its projects
	ReachPlatform = "platform" // every tenant
)

// Grant is one role that gives a principal permissions in a tenant.
type Grant struct {
	Role        string
	Reach       string
	Permissions []string
}

// Grants lists what the holder may do in a tenant. In one that is disabled, or whose organisation is, nobody may do anything, unless
// evenDisabled asks what they could.
func (q Queries) Grants(ctx context.Context, h Holder, tenantID uuid.UUID, evenDisabled bool) ([]Grant, error) {
	rows, err := q.q.GrantList(ctx, q.db, authdb.GrantListParams{
		TenantID: tenantID, EvenDisabled: evenDisabled, HomeRole: h.HomeRole, HomeTenant: h.HomeID, PrincipalKind: string(h.Kind), PrincipalID: h.ID,
	})
	return convert(rows, func(r authdb.GrantListRow) Grant { return Grant(r) }), mapErr("list grants", err, nil)
}

// GrantPlaces lists the tenants in which the holder has bindings.
func (q Queries) GrantPlaces(ctx context.Context, h Holder) ([]uuid.UUID, error) {
	ids, err := q.q.GrantPlaces(ctx, q.db, authdb.GrantPlacesParams{PrincipalKind: string(h.Kind), PrincipalID: h.ID})
	return ids, mapErr("list the tenants of bindings", err, nil)
}

// TenantsOf lists the tenants in use that a user can act in without a permission on the platform, by name.
func (q Queries) TenantsOf(ctx context.Context, userID, homeID uuid.UUID, limit int) ([]auth.Tenant, error) {
	rows, err := q.q.GrantTenants(ctx, q.db, authdb.GrantTenantsParams{UserID: userID, HomeTenant: homeID, MaxRows: int32(limit)})
	return convert(rows, tenant), mapErr("list the tenants of a user", err, nil)
}

// InsertBinding gives a role to a principal. It fails with ErrBindingExists.
func (q Queries) InsertBinding(ctx context.Context, b auth.RoleBinding, now time.Time) error {
	_, err := q.q.BindingInsert(ctx, q.db, authdb.BindingInsertParams{
		ID: b.ID, PrincipalKind: string(b.PrincipalKind), PrincipalID: b.PrincipalID, RoleID: b.RoleID, Scope: string(b.Scope),
		TenantID: b.TenantID, IncludeProjects: b.IncludeProjects, CreatedBy: b.CreatedBy, Now: now,
	})
	return mapErr("insert role binding", err, nil)
}

// Binding gives a binding within reach, or ErrBindingNotFound. What is bound on the platform takes a reach of every tenant.
func (q Queries) Binding(ctx context.Context, id uuid.UUID, reach Reach) (auth.RoleBinding, error) {
	row, err := q.q.BindingGet(ctx, q.db, authdb.BindingGetParams{ID: id, Reach: reach})
	return binding(authdb.BindingListRow(row)), mapErr("read role binding", err, auth.ErrBindingNotFound)
}

// BindingFilter narrows a list of bindings; what is not set stands for any.
type BindingFilter struct {
	Reach               Reach
	Scope               *string
	PrincipalID, RoleID *uuid.UUID
}

// Bindings lists bindings, newest first.
func (q Queries) Bindings(ctx context.Context, f BindingFilter, after *After, limit int) ([]auth.RoleBinding, error) {
	t, id := after.split()
	rows, err := q.q.BindingList(ctx, q.db, authdb.BindingListParams{
		Reach: f.Reach, Scope: f.Scope, PrincipalID: f.PrincipalID, RoleID: f.RoleID, AfterTime: t, AfterID: id, MaxRows: int32(limit),
	})
	return convert(rows, binding), mapErr("list role bindings", err, nil)
}

// DeleteBinding takes a role away again; false means that somebody else was faster.
func (q Queries) DeleteBinding(ctx context.Context, id uuid.UUID) (bool, error) {
	n, err := q.q.BindingDelete(ctx, q.db, id)
	return n > 0, mapErr("delete role binding", err, nil)
}

// DeleteBindingsOf removes the bindings of a principal that is removed in the same transaction.
func (q Queries) DeleteBindingsOf(ctx context.Context, kind auth.PrincipalKind, id uuid.UUID) error {
	return mapErr("delete role bindings", q.q.BindingDeleteOf(ctx, q.db, authdb.BindingDeleteOfParams{PrincipalKind: string(kind), PrincipalID: id}), nil)
}

func binding(r authdb.BindingListRow) auth.RoleBinding {
	return auth.RoleBinding{
		ID: r.RoleBinding.ID, PrincipalKind: auth.PrincipalKind(r.RoleBinding.PrincipalKind), PrincipalID: r.RoleBinding.PrincipalID,
		PrincipalName: r.Principal, RoleID: r.RoleBinding.RoleID, Role: r.Role, Scope: identity.Scope(r.RoleBinding.Scope),
		TenantID: r.RoleBinding.TenantID, IncludeProjects: r.RoleBinding.IncludeProjects, CreatedBy: r.RoleBinding.CreatedBy,
		CreatedAt: r.RoleBinding.CreatedAt.UTC(),
	}
}
