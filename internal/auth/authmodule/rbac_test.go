package authmodule_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
)

// addRole makes a role of a tenant.
func (p *process) addRole(token string, tenant uuid.UUID, name string, permissions ...string) auth.Role {
	p.t.Helper()
	var r auth.Role
	p.do(call{method: "POST", path: "/api/v1/roles", token: token, body: object{"name": name, "permissions": permissions}}.in(tenant)).want(201).into(&r)
	return r
}

func (p *process) grants(token string, tenant uuid.UUID) []string {
	p.t.Helper()
	var g struct{ Permissions []string }
	c := call{method: "GET", path: "/api/v1/me/permissions", token: token}
	if tenant != uuid.Nil {
		c = c.in(tenant)
	}
	p.do(c).want(200).into(&g)
	return g.Permissions
}

func TestCustomRoles(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	adm := p.admin().Access
	red := p.addTenant(adm, "red")
	create := func(body object) answer {
		return p.do(call{method: "POST", path: "/api/v1/roles", token: adm, body: body}.in(red.ID))
	}
	var r auth.Role
	a := create(object{"name": "clerk", "description": "counts", "permissions": []string{"vm:read:own", "user:read", "user:read"}}).want(201)
	a.into(&r)
	if r.BuiltIn || r.TenantID == nil || *r.TenantID != red.ID || r.Scope != "tenant" || !slices.Equal(r.Permissions, []string{"user:read", "vm:read:own"}) || a.header.Get("ETag") != `"1"` {
		t.Errorf("made %s", a.body)
	}
	create(object{"name": "clerk", "permissions": []string{}}).want(409, auth.ErrRoleExists)
	create(object{"name": "admin", "permissions": []string{}}).want(409, auth.ErrRoleExists)
	for _, bad := range []string{"vm", "vm:read:all", "VM:read", "vm:read ", "vm:re*", "'; DROP TABLE auth.roles; --", "nothing:read", "", "vm:rеad"} {
		create(object{"name": "other", "permissions": []string{"vm:read", bad}}).want(422, auth.ErrInvalidPermission)
	}
	for _, bad := range []string{"", "Clerk", "a b", "-a", "1a", strings.Repeat("a", 51), "ä"} {
		create(object{"name": bad, "permissions": []string{}}).want(422)
	}
	path := "/api/v1/roles/" + r.ID.String()
	patch := func(match string, body object) answer {
		return p.do(call{method: "PATCH", path: path, token: adm, body: body, header: map[string]string{"If-Match": match}}.in(red.ID))
	}
	patch(`"1"`, object{"permissions": []string{"vm:*"}}).want(200).into(&r)
	if r.Version != 2 || r.Description != "counts" || !slices.Equal(r.Permissions, []string{"vm:*"}) {
		t.Errorf("changed to %+v", r)
	}
	patch(`"1"`, object{"description": "x"}).want(412, auth.ErrVersion)
	patch(`"2"`, object{"name": "x"}).want(422)

	// Another tenant's is like none; a built-in one does not change.
	blue := p.addTenant(adm, "blue")
	for _, c := range []call{{method: "GET", path: path}, {method: "PATCH", path: path, body: object{}}, {method: "DELETE", path: path}} {
		c.token = adm
		p.do(c.in(blue.ID)).want(404, auth.ErrRoleNotFound)
	}
	var page httpx.Page[auth.Role]
	p.do(call{method: "GET", path: "/api/v1/roles?limit=2", token: adm}.in(red.ID)).want(200).into(&page)
	var names []string
	for {
		for _, r := range page.Items {
			names = append(names, r.Name)
			if r.BuiltIn {
				builtIn := "/api/v1/roles/" + r.ID.String()
				p.do(call{method: "PATCH", path: builtIn, token: adm, body: object{"permissions": []string{}}}).want(409, auth.ErrRoleBuiltIn)
				p.do(call{method: "DELETE", path: builtIn, token: adm}).want(409, auth.ErrRoleBuiltIn)
			}
		}
		if page.NextCursor == "" {
			break
		}
		next := page.NextCursor
		page = httpx.Page[auth.Role]{}
		p.do(call{method: "GET", path: "/api/v1/roles?limit=2&cursor=" + next, token: adm}.in(red.ID)).want(200).into(&page)
	}
	if !slices.Equal(names, []string{"admin", "operator", "user", "viewer", "auditor", "clerk"}) {
		t.Errorf("roles %v", names)
	}

	// It goes when nobody has it, neither at home nor by a binding.
	u := p.addUser(adm, "ada", "clerk", &red)
	remove := call{method: "DELETE", path: path, token: adm}.in(red.ID)
	p.do(remove).want(409, auth.ErrRoleInUse)
	p.do(call{method: "PATCH", path: "/api/v1/users/" + u.ID.String(), token: adm, body: object{"role": "viewer"}}).want(200)
	var b auth.RoleBinding
	p.bind(adm, u.ID, red.ID, "clerk").want(201).into(&b)
	p.do(remove).want(409, auth.ErrRoleInUse)
	p.do(call{method: "DELETE", path: "/api/v1/role-bindings/" + b.ID.String(), token: adm}.in(red.ID)).want(204)
	p.do(remove).want(204)
	p.do(remove).want(404, auth.ErrRoleNotFound)
}

// Changes of roles and bindings count at once, also in another process of the installation.
func TestChangesOfRolesCountAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p, other := s.start(t), s.start(t)
	adm := p.admin().Access
	red, blue := p.addTenant(adm, "red"), p.addTenant(adm, "blue")
	r := p.addRole(adm, red.ID, "clerk", "vm:read")
	u := p.addUser(adm, "ada", "clerk", &red)
	tk := p.login("ada", goodPassword).Access
	soon := func(what string, tenant uuid.UUID, want ...string) {
		t.Helper()
		within(t, patience, what, func() bool {
			for _, at := range []*process{p, other} {
				c := call{method: "GET", path: "/api/v1/me/permissions", token: tk}
				if tenant != uuid.Nil {
					c = c.in(tenant)
				}
				a := at.do(c)
				var g struct{ Permissions []string }
				if a.status == 200 {
					a.into(&g)
				}
				if !slices.Equal(g.Permissions, want) {
					return false
				}
			}
			return true
		})
	}
	soon("the role at home", uuid.Nil, "vm:read")
	p.do(call{method: "PATCH", path: "/api/v1/roles/" + r.ID.String(), token: adm, body: object{"permissions": []string{"image:read"}}}.in(red.ID)).want(200)
	soon("the role has changed", uuid.Nil, "image:read")
	soon("no role in the other tenant", blue.ID)
	var b auth.RoleBinding
	p.bind(adm, u.ID, blue.ID, "auditor").want(201).into(&b)
	auditor := p.grants(tk, blue.ID)
	if !slices.Contains(auditor, "audit:read") || slices.Contains(auditor, "image:create") {
		t.Errorf("bound: %v", auditor)
	}
	soon("bound", blue.ID, auditor...)
	p.do(call{method: "DELETE", path: "/api/v1/role-bindings/" + b.ID.String(), token: adm}.in(blue.ID)).want(204)
	soon("no longer bound", blue.ID)
	p.do(call{method: "GET", path: "/api/v1/me", token: tk}.in(blue.ID)).want(403, auth.ErrNoRole)
	p.do(call{method: "GET", path: "/api/v1/me", token: tk}.in(uuid.New())).want(403, auth.ErrNoRole)
	soon("home is as before", uuid.Nil, "image:read")
}

// Nobody gives, in whatever way, what they do not hold where it counts.
func TestNobodyGivesWhatTheyLack(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	adm := p.admin().Access
	red, blue := p.addTenant(adm, "red"), p.addTenant(adm, "blue")
	p.addRole(adm, red.ID, "boss", "role:*", "user:*", "vm:*", "tenant:*")
	p.addRole(adm, red.ID, "strong", "vm:read", "session:read")
	p.addUser(adm, "boss", "boss", &red)
	u, foreign := p.addUser(adm, "ada", "viewer", &red), p.addUser(adm, "eve", "viewer", &blue)
	tk := p.login("boss", goodPassword).Access
	role := func(permissions ...string) answer {
		return p.do(call{method: "POST", path: "/api/v1/roles", token: tk, body: object{"name": "mine-" + uuid.NewString()[:8], "permissions": permissions}})
	}
	role("vm:read", "vm:delete:own", "vm:*").want(201)
	for _, bad := range []string{"*", "*:*", "*:read", "session:read", "image:read:own"} {
		a := role(bad).want(403, auth.ErrGrantExceedsOwn)
		if !strings.Contains(string(a.body), `"permission"`) {
			t.Errorf("the refusal does not name the permission: %s", a.body)
		}
	}
	bind := func(body object) answer {
		return p.do(call{method: "POST", path: "/api/v1/role-bindings", token: tk, body: body})
	}
	var made auth.RoleBinding
	bind(object{"principal_id": u.ID, "role": "boss"}).want(201).into(&made)
	if made.Role != "boss" || made.PrincipalName != "ada" || made.PrincipalKind != "user" || *made.TenantID != red.ID || made.Scope != "tenant" {
		t.Errorf("bound %+v", made)
	}
	bind(object{"principal_id": u.ID, "role": "boss"}).want(409, auth.ErrBindingExists)
	bind(object{"principal_id": u.ID, "role": "strong"}).want(403, auth.ErrGrantExceedsOwn)
	bind(object{"principal_id": u.ID, "role": "admin"}).want(403, auth.ErrGrantExceedsOwn)
	bind(object{"principal_id": u.ID, "role": "viewer", "scope": "platform"}).want(403, auth.ErrPlatformOnly)
	// The role at home does not count in projects, so it is no ground to give one there.
	bind(object{"principal_id": u.ID, "role": "boss", "include_projects": true}).want(403, auth.ErrGrantExceedsOwn)
	bind(object{"principal_id": u.ID, "role": "nonsense"}).want(422, auth.ErrUnknownRole)
	absent := bind(object{"principal_id": uuid.New(), "role": "boss"}).want(404, auth.ErrPrincipalNotFound)
	if theirs := bind(object{"principal_id": foreign.ID, "role": "boss"}).want(404); string(theirs.body) != string(absent.body) {
		t.Errorf("a user of another tenant: %s, one that is not: %s", theirs.body, absent.body)
	}
	bind(object{"principal_id": u.ID, "role": "boss", "principal_kind": "api_key"}).want(404, auth.ErrPrincipalNotFound)
	bind(object{"principal_id": u.ID, "role": "boss", "principal_kind": "robot"}).want(422)
	p.do(call{method: "GET", path: "/api/v1/role-bindings?scope=platform", token: tk}).want(403, auth.ErrPlatformOnly)
	p.do(call{method: "GET", path: "/api/v1/role-bindings?tenant_id=" + blue.ID.String(), token: tk}).want(404, auth.ErrTenantNotFound)

	// Whose password, address or account one can take over must not hold more anywhere: here at home, there in another tenant.
	one := "/api/v1/users/" + u.ID.String()
	takeOver := func(status int) {
		t.Helper()
		for _, c := range []call{
			{method: "POST", path: one + "/password", body: object{"password": "now it is mine, all mine"}}, {method: "POST", path: one + "/one-time-password"},
			{method: "PATCH", path: one, body: object{"email": "mine@example.org"}},
		} {
			c.token = tk
			a := p.do(c)
			if a.status/100 != status/100 {
				t.Errorf("%s %s: %d %s", c.method, c.path, a.status, a.body)
			}
		}
	}
	p.do(call{method: "DELETE", path: "/api/v1/role-bindings/" + made.ID.String(), token: tk}).want(204)
	p.do(call{method: "PATCH", path: one, token: adm, body: object{"role": "boss"}}).want(200)
	takeOver(200)
	var there auth.RoleBinding
	p.bind(adm, u.ID, blue.ID, "viewer").want(201).into(&there)
	takeOver(403)
	p.do(call{method: "DELETE", path: "/api/v1/role-bindings/" + there.ID.String(), token: tk}).want(404, auth.ErrBindingNotFound)
	p.do(call{method: "DELETE", path: "/api/v1/role-bindings/" + there.ID.String(), token: adm}).want(204)
	takeOver(200)
	p.bind(adm, u.ID, red.ID, "strong").want(201).into(&there)
	takeOver(403)
	p.do(call{method: "DELETE", path: "/api/v1/role-bindings/" + there.ID.String(), token: tk}).want(403, auth.ErrGrantExceedsOwn)
	// Nor can one make a strong role one's own by changing it.
	var roles httpx.Page[auth.Role]
	p.do(call{method: "GET", path: "/api/v1/roles", token: tk}).want(200).into(&roles)
	for _, r := range roles.Items {
		if r.Name == "strong" {
			path := "/api/v1/roles/" + r.ID.String()
			p.do(call{method: "PATCH", path: path, token: tk, body: object{"permissions": []string{"vm:read"}}}).want(403, auth.ErrGrantExceedsOwn)
			p.do(call{method: "DELETE", path: path, token: tk}).want(403, auth.ErrGrantExceedsOwn)
		}
	}
}

// What organisations may do in their projects, and what not.
func TestProjects(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	adm := p.admin().Access
	org := p.addTenant(adm, "acme")
	chief, member := p.addUser(adm, "chief", "viewer", &org), p.addUser(adm, "member", "operator", &org)
	p.do(call{method: "POST", path: "/api/v1/role-bindings", token: adm, body: object{"principal_id": chief.ID, "role": "admin", "include_projects": true}}.in(org.ID)).want(201)
	tk, mk := p.login("chief", goodPassword).Access, p.login("member", goodPassword).Access
	var project auth.Tenant
	p.do(call{method: "POST", path: "/api/v1/tenants", token: tk, body: object{"name": "acme-web", "parent_id": org.ID}}).want(201).into(&project)
	if project.ParentID == nil || *project.ParentID != org.ID {
		t.Fatalf("project %+v", project)
	}
	p.do(call{method: "POST", path: "/api/v1/tenants", token: tk, body: object{"name": "other"}}).want(403, auth.ErrPlatformOnly)
	p.do(call{method: "POST", path: "/api/v1/tenants", token: tk, body: object{"name": "deep", "parent_id": project.ID}}).want(404, auth.ErrTenantNotFound)
	p.do(call{method: "POST", path: "/api/v1/tenants", token: adm, body: object{"name": "deep", "parent_id": project.ID}}).want(409, auth.ErrNesting)
	p.do(call{method: "POST", path: "/api/v1/tenants", token: tk, body: object{"name": "deep", "parent_id": project.ID}}.in(project.ID)).want(409, auth.ErrNesting)
	p.do(call{method: "POST", path: "/api/v1/tenants", token: adm, body: object{"name": "lost", "parent_id": uuid.New()}}).want(404, auth.ErrTenantNotFound)
	p.do(call{method: "POST", path: "/api/v1/tenants", token: mk, body: object{"name": "mine", "parent_id": org.ID}}).want(403, httpx.ErrForbidden)

	var tenants httpx.Page[auth.Tenant]
	p.do(call{method: "GET", path: "/api/v1/tenants", token: tk}).want(200).into(&tenants)
	if len(tenants.Items) != 2 {
		t.Errorf("the chief sees %+v", tenants.Items)
	}
	p.do(call{method: "GET", path: "/api/v1/me/tenants", token: tk}).want(200).into(&tenants)
	if len(tenants.Items) != 2 || tenants.Items[0].Name != "acme" || tenants.Items[1].Name != "acme-web" {
		t.Errorf("the chief can act in %+v", tenants.Items)
	}
	// The chief reaches the project, a member of the organisation does not.
	// "Everything" in a tenant is everything of the tenant, not of the installation.
	for _, place := range []uuid.UUID{org.ID, project.ID} {
		g := p.grants(tk, place)
		if !identity.Covers(g, "vm:delete") || !identity.Covers(g, "role:bind") || identity.Covers(g, "node:read") || identity.Covers(g, "signing-key:rotate") {
			t.Errorf("the chief may %v", g)
		}
	}
	p.do(call{method: "GET", path: "/api/v1/signing-keys", token: tk}).want(403, httpx.ErrForbidden)
	p.do(call{method: "POST", path: "/api/v1/roles", token: tk, body: object{"name": "all", "permissions": []string{"*"}}}).want(201)
	p.do(call{method: "GET", path: "/api/v1/me", token: mk}.in(project.ID)).want(403, auth.ErrNoRole)
	var hand auth.User
	p.do(call{method: "POST", path: "/api/v1/users", token: tk, body: object{"username": "hand", "password": goodPassword}}.in(project.ID)).want(201).into(&hand)
	if hand.TenantID != project.ID {
		t.Errorf("made %+v", hand)
	}
	p.do(call{method: "POST", path: "/api/v1/role-bindings", token: tk, body: object{"principal_id": member.ID, "role": "operator"}}.in(project.ID)).want(201)
	p.do(call{method: "POST", path: "/api/v1/role-bindings", token: tk, body: object{"principal_id": hand.ID, "role": "admin"}}.in(project.ID)).want(201)
	if g := p.grants(mk, project.ID); !slices.Contains(g, "vm:*") {
		t.Errorf("the member may %v", g)
	}
	p.do(call{method: "POST", path: "/api/v1/role-bindings", token: tk, body: object{"principal_id": hand.ID, "role": "viewer"}}).want(201)
	p.do(call{method: "POST", path: "/api/v1/role-bindings", token: tk,
		body: object{"principal_id": hand.ID, "role": "operator", "include_projects": true}}.in(project.ID)).want(422, auth.ErrBinding)
	// The chief's rights end at the organisation's own gates.
	p.do(call{method: "PATCH", path: "/api/v1/tenants/" + org.ID.String(), token: tk, body: object{"name": "x"}}).want(403, auth.ErrPlatformOnly)
	p.do(call{method: "PATCH", path: "/api/v1/tenants/" + project.ID.String(), token: tk, body: object{"name": "acme-shop"}}).want(200)
	// A disabled organisation takes its projects along.
	hk := p.login("hand", goodPassword).Access
	p.do(call{method: "PATCH", path: "/api/v1/tenants/" + org.ID.String(), token: adm, body: object{"disabled": true}}).want(200)
	p.do(call{method: "GET", path: "/api/v1/me", token: hk}).want(401, auth.ErrSessionRevoked)
	p.do(call{method: "GET", path: "/api/v1/me", token: adm}.in(project.ID)).want(403, auth.ErrNoRole)
	p.do(call{method: "POST", path: "/auth/login", body: object{"username": "hand", "password": goodPassword}}).want(401, auth.ErrInvalidCredentials)
	p.do(call{method: "POST", path: "/api/v1/users", token: adm, body: object{"username": "late", "password": goodPassword, "tenant_id": project.ID}}).
		want(409, auth.ErrTenantDisabled)
}

// A one-time password opens a session that can do nothing but replace it, and ends by itself.
func TestOneTimePasswords(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.start(t)
	adm := p.admin().Access
	var made struct {
		auth.User
		OneTimePassword string `json:"one_time_password"`
	}
	a := p.do(call{method: "POST", path: "/api/v1/users", token: adm, body: object{"username": "ada", "role": "operator"}}).want(201)
	a.into(&made)
	if len(made.OneTimePassword) < 20 || !made.PasswordChangeRequired || made.PasswordExpiresAt == nil || a.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("made %s", a.body)
	}
	var tk struct {
		tokens
		ChangeRequired bool `json:"password_change_required"`
	}
	login := call{method: "POST", path: "/auth/login", body: object{"username": "ada", "password": made.OneTimePassword}}
	p.do(login).want(200).into(&tk)
	if !tk.ChangeRequired {
		t.Error("the login does not say that the password must be replaced")
	}
	p.do(call{method: "GET", path: "/api/v1/me", token: tk.Access}).want(200)
	if g := p.grants(tk.Access, uuid.Nil); len(g) != 0 {
		t.Errorf("before the change: %v", g)
	}
	for _, c := range []call{{method: "GET", path: "/api/v1/users"}, {method: "GET", path: "/api/v1/me/sessions"}, {method: "GET", path: "/api/v1/me/tenants"},
		{method: "POST", path: "/api/v1/users", body: object{"username": "x"}}} {
		c.token = tk.Access
		p.do(c).want(403, httpx.ErrPasswordChange)
	}
	change := func(next string) answer {
		return p.do(call{method: "PUT", path: "/api/v1/me/password", token: tk.Access, body: object{"current_password": made.OneTimePassword, "new_password": next}})
	}
	change(made.OneTimePassword).want(422, auth.ErrWeakPassword)
	change(goodPassword).want(204)
	p.do(call{method: "GET", path: "/api/v1/users", token: tk.Access}).want(200)
	p.do(login).want(401, auth.ErrInvalidCredentials)
	p.login("ada", goodPassword)

	// An administrator's reset does the same, and what is not used ends.
	var reset struct {
		OneTimePassword string `json:"one_time_password"`
	}
	p.do(call{method: "POST", path: "/api/v1/users/" + made.ID.String() + "/one-time-password", token: adm}).want(200).into(&reset)
	p.do(call{method: "GET", path: "/api/v1/me", token: tk.Access}).want(401, auth.ErrSessionRevoked)
	s.clock.forward(s.cfg.OneTimePasswordTTL + 1)
	p.do(call{method: "POST", path: "/auth/login", body: object{"username": "ada", "password": reset.OneTimePassword}}).want(401, auth.ErrInvalidCredentials)
	p.do(call{method: "POST", path: "/api/v1/users/" + made.ID.String() + "/password", token: p.admin().Access,
		body: object{"password": goodPassword, "must_change": true}}).want(204)
	p.do(call{method: "POST", path: "/auth/login", body: object{"username": "ada", "password": goodPassword}}).want(200).into(&tk)
	p.do(call{method: "GET", path: "/api/v1/users", token: tk.Access}).want(403, httpx.ErrPasswordChange)
}

func TestSelfRegistration(t *testing.T) {
	t.Parallel()
	register := func(p *process, name, from string) answer {
		return p.do(call{method: "POST", path: "/auth/register", from: from, body: object{"username": name, "password": goodPassword}})
	}
	off := newSite(t).start(t)
	register(off, "ada", "").want(403, auth.ErrRegistrationOff)

	s := newSite(t)
	s.cfg.SelfRegistration = true
	p := s.start(t)
	var u, v auth.User
	register(p, "ada", "192.0.2.7").want(201).into(&u)
	register(p, "bob", "192.0.2.7").want(201).into(&v)
	if u.Role != auth.RoleUser || u.TenantID == v.TenantID || u.PasswordChangeRequired {
		t.Errorf("registered %+v and %+v", u, v)
	}
	if g := p.grants(p.login("ada", goodPassword).Access, uuid.Nil); !slices.Contains(g, "vm:*") || slices.Contains(g, "user:read") {
		t.Errorf("who registers may %v", g)
	}
	register(p, "ADA", "192.0.2.8").want(409, auth.ErrUsernameTaken)
	p.do(call{method: "POST", path: "/auth/register", body: object{"username": "eve", "password": "short"}}).want(422, auth.ErrWeakPassword)
	p.do(call{method: "POST", path: "/auth/register", body: object{"username": "eve", "password": goodPassword, "role": "admin"}}).want(422)
	throttled := false
	for i := range 10 {
		if a := register(p, fmt.Sprintf("bot%d", i), "192.0.2.9"); a.status == 429 {
			throttled = true
		}
	}
	if !throttled {
		t.Error("one address registered ten accounts without a wait")
	}

	s = newSite(t)
	s.cfg.SelfRegistration, s.cfg.RegistrationTenant = true, "default"
	p = s.start(t)
	register(p, "ada", "").want(201).into(&u)
	var me auth.User
	p.do(call{method: "GET", path: "/api/v1/me", token: p.admin().Access}).want(200).into(&me)
	if u.TenantID != me.TenantID {
		t.Errorf("joined %s instead of the default tenant", u.TenantID)
	}
}
