// Package identity holds who makes a call: the Principal that the gateway resolves once per request and that modules
// authorise from.
package identity

import (
	"context"

	"github.com/google/uuid"
)

// Scope says how far a principal's permissions reach.
type Scope string

// The two scopes.
const (
	ScopeTenant   Scope = "tenant"   // the principal's own tenant
	ScopePlatform Scope = "platform" // every tenant
)

// Principal is an authenticated caller, acting in one tenant. It is never changed after the gateway made it.
type Principal struct {
	UserID   uuid.UUID `json:"user_id"`
	Username string    `json:"username"`
	// TenantID is the tenant that the caller acts in; HomeID the one that their account belongs to. They are equal unless the request named
	// another tenant in which the caller holds a role.
	TenantID uuid.UUID `json:"tenant_id"`
	HomeID   uuid.UUID `json:"home_tenant_id"`
	Role     string    `json:"role"` // by name; several are separated by commas
	// Permissions are what the caller may do in TenantID, see Matches. With ScopePlatform all of them reach every tenant; else only those of
	// Platform do.
	Permissions []string  `json:"permissions"`
	Platform    []string  `json:"platform_permissions,omitempty"`
	Scope       Scope     `json:"scope"`
	SessionID   uuid.UUID `json:"session_id"` // nil where an API key was used
	// APIKeyID is the API key that was used; nil after a login. What the principal may do is then what key and owner have in common.
	APIKeyID uuid.UUID `json:"api_key_id,omitzero"`
	// Pending is what the caller has to do before anything else, one of the Pending… constants; empty: nothing. Until then only routes that
	// say so serve them.
	Pending string `json:"pending,omitempty"`
}

// What a Principal may have to do first.
const (
	PendingPassword = "password_change" // replace a one-time password
	PendingMFA      = "mfa_enrolment"   // set up the second factor that their tenant or role asks for
)

// Permission marks that need no grant.
const (
	Public        = "public"        // anyone, also without credentials
	Authenticated = "authenticated" // anyone who has proved who they are
)

// Allows tells whether the principal holds the permission in the tenant they act in, whoever owns what it is used on.
func (p Principal) Allows(permission string) bool {
	if permission == Public || permission == Authenticated {
		return true
	}
	return Covers(p.Permissions, permission) || Covers(p.Platform, permission)
}

// AllowsOwn tells whether the principal holds the permission at least for what they own.
func (p Principal) AllowsOwn(permission string) bool {
	return p.Allows(permission) || coversOwn(p.Permissions, permission) || coversOwn(p.Platform, permission)
}

// AllowsPlatform tells whether the principal holds the permission for every tenant.
func (p Principal) AllowsPlatform(permission string) bool {
	return p.Scope == ScopePlatform && Covers(p.Permissions, permission) || Covers(p.Platform, permission)
}

// AllowsOn tells whether the principal holds the permission for an object of the tenant that belongs to owner.
func (p Principal) AllowsOn(permission string, tenant, owner uuid.UUID) bool {
	if tenant != p.TenantID {
		return p.AllowsPlatform(permission)
	}
	return p.Allows(permission) || owner == p.UserID && p.AllowsOwn(permission)
}

// OwnerFilter is for lists of the principal's tenant: nil where they may see all of it, and else the one owner whose objects they see.
func (p Principal) OwnerFilter(permission string) *uuid.UUID {
	if p.Allows(permission) {
		return nil
	}
	return &p.UserID
}

// principalContext is a context with a Principal in it.
type principalContext struct {
	context.Context
	principal Principal
}

type contextKey struct{}

// Value implements context.Context.
func (c *principalContext) Value(key any) any {
	if _, ok := key.(contextKey); ok {
		return &c.principal
	}
	return c.Context.Value(key)
}

// With puts the principal into the context.
func With(ctx context.Context, p Principal) context.Context {
	return &principalContext{Context: ctx, principal: p}
}

// From takes the principal out of the context; false means that the caller is anonymous.
func From(ctx context.Context) (Principal, bool) {
	if p, ok := ctx.Value(contextKey{}).(*Principal); ok {
		return *p, true
	}
	return Principal{}, false
}
