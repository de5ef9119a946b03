package apiclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/platform/errs"
)

// actIn gives the id of the tenant that requests act in, and nil for the caller's own. A name is looked up once.
func (c *Client) actIn(ctx context.Context, t Tokens) (uuid.UUID, error) {
	if c.cfg.Tenant == "" {
		return uuid.Nil, nil
	}
	if id, err := uuid.Parse(c.cfg.Tenant); err == nil {
		return id, nil
	}
	c.tenantMu.Lock()
	defer c.tenantMu.Unlock()
	if c.tenantID != uuid.Nil {
		return c.tenantID, nil
	}
	for _, cl := range []call{ // who holds permissions on the platform can act in tenants that give them no role
		{method: http.MethodGet, path: "/api/v1/me/tenants"},
		{method: http.MethodGet, path: "/api/v1/tenants", query: url.Values{"name": {c.cfg.Tenant}}},
	} {
		var page struct {
			Items []auth.Tenant `json:"items"`
		}
		err := c.once(ctx, cl, t, &page)
		var refused *Error
		if errors.As(err, &refused) && refused.Status == http.StatusForbidden {
			break // the caller may not see other tenants
		}
		if err != nil {
			return uuid.Nil, err
		}
		for _, tenant := range page.Items {
			if strings.EqualFold(tenant.Name, c.cfg.Tenant) {
				c.tenantID = tenant.ID
				return tenant.ID, nil
			}
		}
	}
	return uuid.Nil, &Error{Problem: errs.Problem{Status: http.StatusForbidden, Code: auth.ErrNoRole.Code,
		Detail: fmt.Sprintf("there is no tenant named %q that you can act in", c.cfg.Tenant), Action: auth.ErrNoRole.Action}}
}

// once sends a request that acts in the caller's own tenant, and decodes the answer.
func (c *Client) once(ctx context.Context, cl call, t Tokens, out any) error {
	resp, err := c.send(ctx, cl, t, uuid.Nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		return protocolError("the answer to %s %s cannot be read", cl.method, cl.path)
	}
	return nil
}

// User is an account, with its one-time password where one was just made.
type User struct {
	auth.User
	OneTimePassword string `json:"one_time_password"`
}

// UserCreate is the body that creates a user.
type UserCreate struct {
	Username string     `json:"username"`
	Email    string     `json:"email,omitempty"`
	Password string     `json:"password,omitempty"`
	Role     string     `json:"role,omitempty"`
	TenantID *uuid.UUID `json:"tenant_id,omitempty"`
}

// UserUpdate is the body that changes a user; nil leaves a part as it is.
type UserUpdate struct {
	Email    *string `json:"email,omitempty"`
	Role     *string `json:"role,omitempty"`
	Disabled *bool   `json:"disabled,omitempty"`
}

// ListUsers gives the users, newest first; of one name, or of all tenants.
func (c *Client) ListUsers(ctx context.Context, username string, allTenants bool, most int) iter.Seq2[Object[auth.User], error] {
	q := url.Values{"username": {username}}
	if allTenants {
		q.Set("tenant_id", "all")
	}
	return list[auth.User](ctx, c, "/api/v1/users", q, most)
}

// GetUser reads a user.
func (c *Client) GetUser(ctx context.Context, id uuid.UUID) (Object[auth.User], error) {
	return get[auth.User](ctx, c, "/api/v1/users/"+id.String())
}

// CreateUser creates a user.
func (c *Client) CreateUser(ctx context.Context, body UserCreate) (Object[User], error) {
	return post[User](ctx, c, "/api/v1/users", body)
}

// UpdateUser changes a user.
func (c *Client) UpdateUser(ctx context.Context, id uuid.UUID, body UserUpdate) (Object[auth.User], error) {
	return patch[auth.User](ctx, c, "/api/v1/users/"+id.String(), body)
}

// DeleteUser deletes a user.
func (c *Client) DeleteUser(ctx context.Context, id uuid.UUID) error {
	return c.json(ctx, call{method: http.MethodDelete, path: "/api/v1/users/" + id.String()}, nil)
}

// SetPassword sets the password of another user.
func (c *Client) SetPassword(ctx context.Context, id uuid.UUID, password string, mustChange bool) error {
	return c.json(ctx, call{method: http.MethodPost, path: "/api/v1/users/" + id.String() + "/password",
		body: map[string]any{"password": password, "must_change": mustChange}, key: newKey()}, nil)
}

// OneTimePassword is a password that must be replaced at the next login.
type OneTimePassword struct {
	OneTimePassword string    `json:"one_time_password"`
	ExpiresAt       time.Time `json:"expires_at"`
}

// GiveOneTimePassword makes up a one-time password for another user. It is not repeated: the answer is the only one that holds it.
func (c *Client) GiveOneTimePassword(ctx context.Context, id uuid.UUID) (Object[OneTimePassword], error) {
	var o Object[OneTimePassword]
	err := c.json(ctx, call{method: http.MethodPost, path: "/api/v1/users/" + id.String() + "/one-time-password"}, &o)
	return o, err
}

// ChangePassword replaces the caller's own password.
func (c *Client) ChangePassword(ctx context.Context, current, next string) error {
	return c.json(ctx, call{method: http.MethodPut, path: "/api/v1/me/password", body: map[string]string{"current_password": current, "new_password": next}}, nil)
}

// ListTenants gives the tenants that the caller sees, newest first; the one of a name, or the projects of an organisation.
func (c *Client) ListTenants(ctx context.Context, name string, parent uuid.UUID, most int) iter.Seq2[Object[auth.Tenant], error] {
	q := url.Values{"name": {name}}
	if parent != uuid.Nil {
		q.Set("parent_id", parent.String())
	}
	return list[auth.Tenant](ctx, c, "/api/v1/tenants", q, most)
}

// MyTenants gives the tenants that the caller can act in.
func (c *Client) MyTenants(ctx context.Context) iter.Seq2[Object[auth.Tenant], error] {
	return listWhole[auth.Tenant](ctx, c, "/api/v1/me/tenants")
}

// GetTenant reads a tenant.
func (c *Client) GetTenant(ctx context.Context, id uuid.UUID) (Object[auth.Tenant], error) {
	return get[auth.Tenant](ctx, c, "/api/v1/tenants/"+id.String())
}

// CreateTenant creates a tenant, or with a parent a project.
func (c *Client) CreateTenant(ctx context.Context, name string, parent *uuid.UUID) (Object[auth.Tenant], error) {
	body := map[string]any{"name": name}
	if parent != nil {
		body["parent_id"] = parent
	}
	return post[auth.Tenant](ctx, c, "/api/v1/tenants", body)
}

// TenantUpdate is the body that changes a tenant; nil leaves a part as it is.
type TenantUpdate struct {
	Name     *string `json:"name,omitempty"`
	Disabled *bool   `json:"disabled,omitempty"`
}

// UpdateTenant changes a tenant.
func (c *Client) UpdateTenant(ctx context.Context, id uuid.UUID, body TenantUpdate) (Object[auth.Tenant], error) {
	return patch[auth.Tenant](ctx, c, "/api/v1/tenants/"+id.String(), body)
}

// DeleteTenant deletes an empty tenant.
func (c *Client) DeleteTenant(ctx context.Context, id uuid.UUID) error {
	return c.json(ctx, call{method: http.MethodDelete, path: "/api/v1/tenants/" + id.String()}, nil)
}

// ListRoles gives the roles of the tenant, built-in ones first.
func (c *Client) ListRoles(ctx context.Context) iter.Seq2[Object[auth.Role], error] {
	return list[auth.Role](ctx, c, "/api/v1/roles", nil, 0)
}

// GetRole reads a role.
func (c *Client) GetRole(ctx context.Context, id uuid.UUID) (Object[auth.Role], error) {
	return get[auth.Role](ctx, c, "/api/v1/roles/"+id.String())
}

// CreateRole creates a role of the tenant.
func (c *Client) CreateRole(ctx context.Context, name, description string, permissions []string) (Object[auth.Role], error) {
	return post[auth.Role](ctx, c, "/api/v1/roles", map[string]any{"name": name, "description": description, "permissions": permissions})
}

// RoleUpdate is the body that changes a role; nil leaves a part as it is.
type RoleUpdate struct {
	Description *string   `json:"description,omitempty"`
	Permissions *[]string `json:"permissions,omitempty"`
}

// UpdateRole changes a role that nobody has changed since it was read.
func (c *Client) UpdateRole(ctx context.Context, r auth.Role, body RoleUpdate) (Object[auth.Role], error) {
	var o Object[auth.Role]
	err := c.json(ctx, call{method: http.MethodPatch, path: "/api/v1/roles/" + r.ID.String(), body: body, ifMatch: fmt.Sprintf("%q", fmt.Sprint(r.Version))}, &o)
	return o, err
}

// DeleteRole deletes a role that nobody has.
func (c *Client) DeleteRole(ctx context.Context, id uuid.UUID) error {
	return c.json(ctx, call{method: http.MethodDelete, path: "/api/v1/roles/" + id.String()}, nil)
}

// Permission is one entry of the list of permissions.
type Permission struct {
	Name string `json:"name"`
}

// ListPermissions gives the permissions there are.
func (c *Client) ListPermissions(ctx context.Context) iter.Seq2[Object[Permission], error] {
	return listWhole[Permission](ctx, c, "/api/v1/permissions")
}

// BindingFilter narrows a list of role bindings.
type BindingFilter struct {
	Principal, Role uuid.UUID // nil: any
	Platform        bool      // those that count in every tenant, instead of those of one
}

// ListBindings gives who was given which role, newest first.
func (c *Client) ListBindings(ctx context.Context, f BindingFilter) iter.Seq2[Object[auth.RoleBinding], error] {
	q := url.Values{}
	if f.Principal != uuid.Nil {
		q.Set("principal_id", f.Principal.String())
	}
	if f.Role != uuid.Nil {
		q.Set("role_id", f.Role.String())
	}
	if f.Platform {
		q.Set("scope", "platform")
	}
	return list[auth.RoleBinding](ctx, c, "/api/v1/role-bindings", q, 0)
}

// BindingCreate is the body that gives a role to a principal.
type BindingCreate struct {
	PrincipalKind   string    `json:"principal_kind"`
	PrincipalID     uuid.UUID `json:"principal_id"`
	Role            string    `json:"role"`
	Scope           string    `json:"scope"`
	IncludeProjects bool      `json:"include_projects,omitempty"`
}

// BindRole gives a role to a principal.
func (c *Client) BindRole(ctx context.Context, body BindingCreate) (Object[auth.RoleBinding], error) {
	return post[auth.RoleBinding](ctx, c, "/api/v1/role-bindings", body)
}

// UnbindRole takes a role from a principal.
func (c *Client) UnbindRole(ctx context.Context, id uuid.UUID) error {
	return c.json(ctx, call{method: http.MethodDelete, path: "/api/v1/role-bindings/" + id.String()}, nil)
}
