package authtest

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/identity"
)

type fakeKey struct {
	auth.APIKey
	revoked bool
}

// RevokeAPIKey ends an API key.
func (f *Fake) RevokeAPIKey(id uuid.UUID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, k := range f.keys {
		k.revoked = k.revoked || k.ID == id
	}
}

// Forward puts the fake's clock forward.
func (f *Fake) Forward(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ahead += d
}

func (f *Fake) now() time.Time { return time.Now().Add(f.ahead).UTC() }

// ValidateAPIKey implements auth.Service. It throttles nobody.
func (f *Fake) ValidateAPIKey(_ context.Context, req auth.ValidateAPIKeyRequest) (auth.ValidateAPIKeyResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k, known := f.keys[req.Key]
	if !known {
		return auth.ValidateAPIKeyResponse{}, auth.ErrInvalidAPIKey
	}
	u, exists := f.users[k.UserID]
	switch {
	case k.revoked || !exists || u.Disabled:
		return auth.ValidateAPIKeyResponse{}, auth.ErrAPIKeyRevoked
	case k.ExpiresAt != nil && !f.now().Before(*k.ExpiresAt):
		return auth.ValidateAPIKeyResponse{}, auth.ErrAPIKeyExpired
	}
	return auth.ValidateAPIKeyResponse{Principal: auth.KeyPrincipal(f.principal(u), k.ID, k.Permissions, k.Scope), ExpiresAt: k.ExpiresAt}, nil
}

// CreateAPIKey implements auth.Service.
func (f *Fake) CreateAPIKey(_ context.Context, req auth.CreateAPIKeyRequest) (auth.CreateAPIKeyResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	actor := req.Actor
	if req.UserID == uuid.Nil {
		req.UserID = actor.UserID
	}
	if req.Scope == "" {
		req.Scope = actor.Scope
	}
	owner, exists := f.users[req.UserID]
	name := strings.TrimSpace(req.Name)
	switch {
	case !actor.Allows("api-key:write"):
		return auth.CreateAPIKeyResponse{}, errs.New(errs.Forbidden, "auth.forbidden", "a permission is missing")
	case name == "" || len(name) > auth.MaxAPIKeyName || req.Permissions != nil && len(req.Permissions) == 0 ||
		slices.ContainsFunc(req.Permissions, func(p string) bool { return p != "*" && strings.Count(p, ":") != 1 }) ||
		req.Scope != identity.ScopeTenant && req.Scope != identity.ScopePlatform || req.ExpiresAt != nil && !req.ExpiresAt.After(f.now()):
		return auth.CreateAPIKeyResponse{}, auth.ErrInvalidAPIKeySpec
	case !exists || actor.Scope != identity.ScopePlatform && owner.TenantID != actor.TenantID || owner.ID != actor.UserID && !actor.Allows("user:write"):
		return auth.CreateAPIKeyResponse{}, auth.ErrUserNotFound
	}
	holder, id := f.principal(owner), uuid.New()
	power := auth.KeyPrincipal(holder, id, req.Permissions, req.Scope)
	wanted := slices.Concat(power.Permissions, req.Permissions)
	if owner.ID != actor.UserID {
		wanted = append(wanted, holder.Permissions...)
	}
	if slices.ContainsFunc(wanted, func(p string) bool { return !actor.Allows(p) }) || req.Scope == identity.ScopePlatform && actor.Scope != identity.ScopePlatform {
		return auth.CreateAPIKeyResponse{}, auth.ErrGrantExceedsOwn
	}
	prefix := auth.APIKeyMark + id.String()[24:]
	k := &fakeKey{APIKey: auth.APIKey{
		ID: id, Name: name, Prefix: prefix, UserID: owner.ID, Username: owner.Username, TenantID: owner.TenantID, Permissions: req.Permissions, Scope: req.Scope,
		ExpiresAt: req.ExpiresAt, CreatedBy: &actor.UserID, Version: 1, CreatedAt: f.now(), UpdatedAt: f.now(),
	}}
	secret := prefix + "_" + uuid.NewString()
	f.keys[secret] = k
	return auth.CreateAPIKeyResponse{APIKey: k.APIKey, Secret: secret}, nil
}

// principal gives what a user may do now. The caller holds the lock.
func (f *Fake) principal(u *auth.User) identity.Principal {
	role := f.roles[u.Role]
	return identity.Principal{
		UserID: u.ID, Username: u.Username, TenantID: u.TenantID, Role: u.Role, Permissions: slices.Clone(role.Permissions), Scope: role.Scope,
	}
}
