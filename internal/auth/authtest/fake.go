// Package authtest has a fake of the auth contract, for tests of modules that use it, and the suite that every implementation passes.
package authtest

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/platform/identity"
)

// Fake is an auth.Service in memory. Its tokens are mere names.
type Fake struct {
	mu     sync.Mutex // guards all below
	users  map[uuid.UUID]*auth.User
	tokens map[string]*fakeToken
	roles  map[string]auth.Role
	keys   map[string]*fakeKey    // by secret
	ahead  time.Duration          // of the clock
	bound  map[fakeBinding]string // name of the role
}

// fakeBinding is where a user has a role: in a tenant, or with none on the platform.
type fakeBinding struct{ user, tenant uuid.UUID }

type fakeToken struct {
	user, session uuid.UUID
	expires       time.Time
	revoked       bool
}

var _ auth.Service = (*Fake)(nil)

// New makes a Fake with the built-in roles, of which user and operator are cut short.
func New() *Fake {
	f := &Fake{users: map[uuid.UUID]*auth.User{}, tokens: map[string]*fakeToken{}, roles: map[string]auth.Role{},
		bound: map[fakeBinding]string{}, keys: map[string]*fakeKey{}}
	f.SetRole(auth.RoleAdmin, identity.ScopePlatform, "*")
	f.SetRole(auth.RoleOperator, identity.ScopeTenant, "image:*", "network:*", "operation:*", "user:read", "vm:*", "api-key:*")
	f.SetRole(auth.RoleUser, identity.ScopeTenant, "image:*", "network:*", "operation:*", "vm:*", "api-key:*")
	f.SetRole(auth.RoleViewer, identity.ScopeTenant, "image:read", "network:read", "operation:read", "vm:read", "api-key:*")
	f.SetRole(auth.RoleAuditor, identity.ScopeTenant, "audit:read", "user:read", "vm:read", "api-key:*")
	return f
}

// SetRole makes or replaces a role.
func (f *Fake) SetRole(name string, scope identity.Scope, permissions ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	slices.Sort(permissions)
	f.roles[name] = auth.Role{ID: uuid.New(), Name: name, BuiltIn: true, Scope: scope, Permissions: permissions}
}

// AddUser makes a user of the tenant.
func (f *Fake) AddUser(username, role string, tenantID uuid.UUID) auth.User {
	f.mu.Lock()
	defer f.mu.Unlock()
	u := auth.User{ID: uuid.New(), Kind: auth.KindHuman, Username: username, Role: role, TenantID: tenantID, Version: 1}
	f.users[u.ID] = &u
	return u
}

// Bind gives a user a role in a tenant; nil is the platform.
func (f *Fake) Bind(userID, tenantID uuid.UUID, role string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bound[fakeBinding{userID, tenantID}] = role
}

// grants gives what a user may do in a tenant. The caller holds mu.
func (f *Fake) grants(u *auth.User, tenantID uuid.UUID) (permissions, platform, names []string) {
	add := func(name string, everywhere bool) {
		r, known := f.roles[name]
		if !known {
			return
		}
		names, permissions = append(names, name), append(permissions, r.Permissions...)
		if everywhere {
			platform = append(platform, r.Permissions...)
		}
	}
	if everywhere := f.roles[u.Role].Scope == identity.ScopePlatform; everywhere || tenantID == u.TenantID {
		add(u.Role, everywhere)
	}
	if role, is := f.bound[fakeBinding{u.ID, tenantID}]; is && tenantID != uuid.Nil {
		add(role, false)
	}
	if role, is := f.bound[fakeBinding{u.ID, uuid.Nil}]; is {
		add(role, true)
	}
	for _, list := range []*[]string{&permissions, &platform, &names} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return permissions, platform, names
}

// Change changes a user.
func (f *Fake) Change(id uuid.UUID, change func(*auth.User)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f.users[id])
}

// Issue gives a token of a new session of the user, which lives for ttl; less than nothing makes an expired one.
func (f *Fake) Issue(userID uuid.UUID, ttl time.Duration) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	token := "fake." + uuid.NewString()
	f.tokens[token] = &fakeToken{user: userID, session: uuid.New(), expires: f.now().Add(ttl)}
	return token
}

// Revoke ends the session of a token.
func (f *Fake) Revoke(token string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tokens[token].revoked = true
}

// ValidateToken implements auth.Service.
func (f *Fake) ValidateToken(_ context.Context, req auth.ValidateTokenRequest) (auth.ValidateTokenResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, known := f.tokens[req.Token]
	if !known {
		return auth.ValidateTokenResponse{}, auth.ErrInvalidToken
	}
	u, exists := f.users[t.user]
	switch {
	case !f.now().Before(t.expires):
		return auth.ValidateTokenResponse{}, auth.ErrTokenExpired
	case t.revoked || !exists || u.Disabled:
		return auth.ValidateTokenResponse{}, auth.ErrSessionRevoked
	}
	p, err := f.acting(u, req.TenantID)
	if err != nil {
		return auth.ValidateTokenResponse{}, err
	}
	p.SessionID = t.session
	return auth.ValidateTokenResponse{ExpiresAt: t.expires, Principal: p}, nil
}

// GetUserPermissions implements auth.Service.
func (f *Fake) GetUserPermissions(_ context.Context, req auth.GetUserPermissionsRequest) (auth.GetUserPermissionsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	u, exists := f.users[req.UserID]
	if !exists || u.Disabled {
		return auth.GetUserPermissionsResponse{}, auth.ErrUserNotFound
	}
	tenantID := u.TenantID
	if req.TenantID != uuid.Nil {
		tenantID = req.TenantID
	}
	permissions, platform, names := f.grants(u, tenantID)
	return auth.GetUserPermissionsResponse{
		Permissions: append([]string{}, permissions...), Platform: append([]string{}, platform...), Roles: append([]string{}, names...),
	}, nil
}
