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
	p, err := f.acting(u, req.TenantID)
	if err != nil {
		return auth.ValidateAPIKeyResponse{}, err
	}
	if k.Scope != identity.ScopePlatform && p.TenantID != u.TenantID { // then only a role in that tenant counts there
		role, is := f.bound[fakeBinding{u.ID, p.TenantID}]
		if !is {
			return auth.ValidateAPIKeyResponse{}, auth.ErrNoRole
		}
		p.Role, p.Permissions = role, f.roles[role].Permissions
	}
	return auth.ValidateAPIKeyResponse{Principal: p.WithKey(k.ID, boundOf(k.Permissions, k.Scope)), ExpiresAt: k.ExpiresAt}, nil
}

func boundOf(permissions []string, scope identity.Scope) identity.KeyBound {
	return identity.KeyBound{Scope: scope, Bounded: permissions != nil, Permissions: permissions, Platform: permissions}
}

// within tells whether the key that the actor uses, if any, is bounded as the new one is at least. The caller holds mu.
func (f *Fake) within(actor identity.Principal, req auth.CreateAPIKeyRequest) bool {
	for _, used := range f.keys {
		if used.ID == actor.APIKeyID && used.UserID == req.UserID && used.Permissions != nil {
			return req.Permissions != nil && identity.Uncovered(used.Permissions, req.Permissions) == ""
		}
	}
	return true
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
	case slices.ContainsFunc(req.Permissions, func(p string) bool { return !identity.ValidPermission(p) }):
		return auth.CreateAPIKeyResponse{}, auth.ErrInvalidPermission
	case name == "" || len(name) > auth.MaxAPIKeyName ||
		req.Scope != identity.ScopeTenant && req.Scope != identity.ScopePlatform || req.ExpiresAt != nil && !req.ExpiresAt.After(f.now()):
		return auth.CreateAPIKeyResponse{}, auth.ErrInvalidAPIKeySpec
	case !exists || actor.Scope != identity.ScopePlatform && owner.TenantID != actor.TenantID || owner.ID != actor.UserID && !actor.Allows("user:write"):
		return auth.CreateAPIKeyResponse{}, auth.ErrUserNotFound
	}
	id, wanted := uuid.New(), req.Permissions
	if owner.ID != actor.UserID {
		permissions, _, _ := f.grants(owner, owner.TenantID)
		wanted = append(slices.Clone(wanted), permissions...)
	}
	if identity.Uncovered(actor.Permissions, wanted) != "" || req.Scope == identity.ScopePlatform && actor.Scope != identity.ScopePlatform || !f.within(actor, req) {
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

// acting gives a user as they act in a tenant; nil is their own. The caller holds mu.
func (f *Fake) acting(u *auth.User, tenantID uuid.UUID) (identity.Principal, error) {
	if tenantID == uuid.Nil {
		tenantID = u.TenantID
	}
	permissions, platform, names := f.grants(u, tenantID)
	if len(names) == 0 && tenantID != u.TenantID {
		return identity.Principal{}, auth.ErrNoRole
	}
	p := identity.Principal{
		UserID: u.ID, Username: u.Username, TenantID: tenantID, HomeID: u.TenantID, Role: strings.Join(names, ","), Permissions: permissions,
		Platform: platform, Scope: identity.ScopeTenant,
	}
	if len(permissions) > 0 && identity.Uncovered(platform, permissions) == "" {
		p.Scope = identity.ScopePlatform
	}
	return p, nil
}
