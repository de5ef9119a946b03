// Package identity holds who makes a call: the Principal that the gateway resolves once per request and that modules
// authorise from.
package identity

import (
	"context"
	"strings"

	"github.com/google/uuid"
)

// Scope says how far a principal's permissions reach.
type Scope string

// The two scopes.
const (
	ScopeTenant   Scope = "tenant"   // the principal's own tenant
	ScopePlatform Scope = "platform" // every tenant
)

// Principal is an authenticated caller. It is never changed after the gateway made it.
type Principal struct {
	UserID      uuid.UUID `json:"user_id"`
	Username    string    `json:"username"`
	TenantID    uuid.UUID `json:"tenant_id"`
	Role        string    `json:"role"`
	Permissions []string  `json:"permissions"` // "<resource>:<verb>", either part may be "*"; "*" alone is everything
	Scope       Scope     `json:"scope"`
	SessionID   uuid.UUID `json:"session_id"` // nil where an API key was used
	// APIKeyID is the API key that was used; nil after a login. Permissions and Scope are then what key and owner have in common.
	APIKeyID uuid.UUID `json:"api_key_id,omitzero"`
}

// Permission marks that need no grant.
const (
	Public        = "public"        // anyone, also without credentials
	Authenticated = "authenticated" // anyone who has proved who they are
)

// Allows tells whether the principal holds the permission.
func (p Principal) Allows(permission string) bool {
	if permission == Public || permission == Authenticated {
		return true
	}
	for _, held := range p.Permissions {
		if Matches(held, permission) {
			return true
		}
	}
	return false
}

// AllowsPlatform tells whether the principal holds the permission for every tenant.
func (p Principal) AllowsPlatform(permission string) bool {
	return p.Scope == ScopePlatform && p.Allows(permission)
}

// Matches tells whether a held permission, which may have wildcards, covers a wanted one, which may not.
func Matches(held, wanted string) bool {
	if held == "*" || held == wanted {
		return true
	}
	hr, hv, ok := strings.Cut(held, ":")
	if !ok {
		return false
	}
	wr, wv, ok := strings.Cut(wanted, ":")
	return ok && (hr == "*" || hr == wr) && (hv == "*" || hv == wv)
}

type contextKey struct{}

// With puts the principal into the context.
func With(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, contextKey{}, p)
}

// From takes the principal out of the context; false means that the caller is anonymous.
func From(ctx context.Context) (Principal, bool) {
	p, ok := ctx.Value(contextKey{}).(Principal)
	return p, ok
}
