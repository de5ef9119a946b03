package authmodule_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/platform/httpx"
)

func TestUsers(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	adm := p.admin().Access
	create := func(body object) answer {
		return p.do(call{method: "POST", path: "/api/v1/users", token: adm, body: body})
	}
	a := create(object{"username": "Ada", "email": "Ada@example.org", "password": goodPassword, "role": "operator"}).want(201)
	var ada auth.User
	a.into(&ada)
	if ada.Role != "operator" || ada.Email != "Ada@example.org" || ada.Disabled || ada.Version != 1 || strings.Contains(string(a.body), "argon2") {
		t.Errorf("created %s", a.body)
	}
	create(object{"username": "aDA", "password": goodPassword}).want(409, auth.ErrUsernameTaken)
	create(object{"username": "eve", "email": "ada@EXAMPLE.org", "password": goodPassword}).want(409, auth.ErrEmailTaken)
	create(object{"username": "eve", "password": goodPassword, "role": "root"}).want(422, auth.ErrUnknownRole)
	create(object{"username": "eve", "password": "short"}).want(422, auth.ErrWeakPassword)
	create(object{"username": "eve", "password": strings.Repeat("💥abcde", 40)}).want(422, auth.ErrWeakPassword)
	create(object{"username": "eve", "password": goodPassword, "tenant_id": uuid.New()}).want(404, auth.ErrTenantNotFound)
	for _, name := range []string{"", "-x", "a b", "a'b", "ada\n", "адa", "a\x00", strings.Repeat("a", 65), "<script>"} {
		create(object{"username": name, "password": goodPassword}).want(422)
	}
	create(object{"username": "eve", "password": goodPassword, "email": "not an address"}).want(422)
	create(object{"username": "eve", "password": goodPassword, "scope": "platform"}).want(422)

	path := "/api/v1/users/" + ada.ID.String()
	etag := p.do(call{method: "GET", path: path, token: adm}).want(200).header.Get("ETag")
	if etag != `"1"` {
		t.Errorf("ETag %s", etag)
	}
	patch := func(match string, body object) answer {
		return p.do(call{method: "PATCH", path: path, token: adm, body: body, header: map[string]string{"If-Match": match}})
	}
	patch(etag, object{"email": "countess@example.org"}).want(200).into(&ada)
	if ada.Email != "countess@example.org" || ada.Version != 2 || ada.Role != "operator" {
		t.Errorf("changed to %+v", ada)
	}
	patch(etag, object{"role": "viewer"}).want(412, auth.ErrVersion)
	patch(`nonsense`, object{"role": "viewer"}).want(412, auth.ErrVersion)
	patch(`"2"`, object{"role": "viewer", "email": ""}).want(200)
	var changed auth.User
	p.do(call{method: "GET", path: path, token: adm}).want(200).into(&changed)
	if changed.Email != "" || changed.Role != "viewer" {
		t.Errorf("changed to %+v", changed)
	}
	patch(`*`, object{"username": "x"}).want(422)

	tk := p.login("ada", goodPassword)
	p.do(call{method: "POST", path: path + "/password", token: adm, body: object{"password": "another good password"}}).want(204)
	p.do(call{method: "GET", path: "/api/v1/me", token: tk.Access}).want(401, auth.ErrSessionRevoked)
	tk = p.login("ada", "another good password")
	p.do(call{method: "DELETE", path: path, token: adm}).want(204)
	p.do(call{method: "GET", path: "/api/v1/me", token: tk.Access}).want(401, auth.ErrSessionRevoked)
	p.do(call{method: "GET", path: path, token: adm}).want(404, auth.ErrUserNotFound)
	p.do(call{method: "DELETE", path: path, token: adm}).want(404, auth.ErrUserNotFound)
	p.do(call{method: "GET", path: "/api/v1/users/nonsense", token: adm}).want(422)
}

func TestUserPages(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	adm := p.admin().Access
	want := map[uuid.UUID]bool{}
	for i := range 7 {
		want[p.addUser(adm, fmt.Sprintf("user%d", i), "viewer", nil).ID] = true
	}
	var seen []uuid.UUID
	cursor := ""
	for pages := 0; pages == 0 || cursor != ""; pages++ {
		var page httpx.Page[auth.User]
		p.do(call{method: "GET", path: "/api/v1/users?limit=3&cursor=" + cursor, token: adm}).want(200).into(&page)
		if len(page.Items) > 3 || pages > 3 {
			t.Fatalf("page %d has %d users", pages, len(page.Items))
		}
		for _, u := range page.Items {
			seen = append(seen, u.ID)
			delete(want, u.ID)
		}
		cursor = page.NextCursor
	}
	if len(seen) != 8 || len(want) != 0 {
		t.Errorf("saw %d users, missed %v", len(seen), want)
	}
	for _, bad := range []string{"limit=0", "limit=501", "cursor=nonsense", "tenant_id=nonsense", "tenant_id=x'--", "page=2"} {
		p.do(call{method: "GET", path: "/api/v1/users?" + bad, token: adm}).want(422)
	}
}

// Nobody sees, changes or guesses at what is another tenant's: all of it answers like what does not exist.
func TestTenantsAreApart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.start(t)
	adm := p.admin().Access
	red, blue := p.addTenant(adm, "red"), p.addTenant(adm, "blue")
	p.addRole(adm, red.ID, "boss", "user:*", "tenant:*", "role:read", "vm:*")
	p.addUser(adm, "red-boss", "boss", &red)
	p.addUser(adm, "red-user", "viewer", &red)
	victim := p.addUser(adm, "blue-user", "viewer", &blue)
	boss := p.login("red-boss", goodPassword).Access
	blueSession := p.login("blue-user", goodPassword)
	absent := uuid.NewString()

	for _, c := range []call{
		{method: "GET", path: "/api/v1/users/%s"},
		{method: "PATCH", path: "/api/v1/users/%s", body: object{"disabled": true}},
		{method: "PATCH", path: "/api/v1/users/%s", body: object{"role": "nonsense"}},
		{method: "DELETE", path: "/api/v1/users/%s"},
		{method: "POST", path: "/api/v1/users/%s/password", body: object{"password": "a password that is mine"}},
		{method: "POST", path: "/api/v1/users/%s/password", body: object{"password": "short"}},
	} {
		theirs, nobodys := c, c
		theirs.path, nobodys.path = fmt.Sprintf(c.path, victim.ID), fmt.Sprintf(c.path, absent)
		theirs.token, nobodys.token = boss, boss
		got, want := p.do(theirs), p.do(nobodys).want(404, auth.ErrUserNotFound)
		if got.status != 404 || strings.ReplaceAll(string(got.body), victim.ID.String(), absent) != string(want.body) {
			t.Errorf("%s %s: %d %s, for what does not exist %s", c.method, c.path, got.status, got.body, want.body)
		}
	}
	for _, id := range []string{blue.ID.String(), absent} {
		p.do(call{method: "GET", path: "/api/v1/tenants/" + id, token: boss}).want(404, auth.ErrTenantNotFound)
		p.do(call{method: "PATCH", path: "/api/v1/tenants/" + id, token: boss, body: object{"disabled": true}}).want(404, auth.ErrTenantNotFound)
		p.do(call{method: "GET", path: "/api/v1/users?tenant_id=" + id, token: boss}).want(404, auth.ErrTenantNotFound)
		p.do(call{method: "POST", path: "/api/v1/users", token: boss,
			body: object{"username": "spy", "password": goodPassword, "tenant_id": id}}).want(404, auth.ErrTenantNotFound)
	}
	p.do(call{method: "GET", path: "/api/v1/users?tenant_id=all", token: boss}).want(403, auth.ErrPlatformOnly)
	p.do(call{method: "PATCH", path: "/api/v1/tenants/" + red.ID.String(), token: boss, body: object{"name": "crimson"}}).want(403, auth.ErrPlatformOnly)
	p.do(call{method: "POST", path: "/api/v1/tenants", token: boss, body: object{"name": "mine"}}).want(403, auth.ErrPlatformOnly)

	for path, want := range map[string]int{"/api/v1/users": 2, "/api/v1/tenants": 1} {
		a := p.do(call{method: "GET", path: path, token: boss}).want(200)
		var page httpx.Page[object]
		a.into(&page)
		if len(page.Items) != want || strings.Contains(string(a.body), blue.ID.String()) {
			t.Errorf("%s shows %s", path, a.body)
		}
	}
	// A role of one tenant is none of another's.
	p.do(call{method: "POST", path: "/api/v1/users", token: adm,
		body: object{"username": "blue-boss", "password": goodPassword, "role": "boss", "tenant_id": blue.ID}}).want(422, auth.ErrUnknownRole)
	// Sessions are their owner's alone.
	var me struct {
		SessionID uuid.UUID `json:"session_id"`
	}
	p.do(call{method: "GET", path: "/api/v1/me", token: blueSession.Access}).want(200).into(&me)
	for _, method := range []string{"GET", "DELETE"} {
		p.do(call{method: method, path: "/api/v1/me/sessions/" + me.SessionID.String(), token: boss}).want(404, auth.ErrSessionNotFound)
	}
	p.do(call{method: "GET", path: "/api/v1/me", token: blueSession.Access}).want(200)
}

func TestNobodyGrantsWhatTheyLack(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.start(t)
	adm := p.admin().Access
	red := p.addTenant(adm, "red")
	p.addRole(adm, red.ID, "clerk", "user:*", "vm:read", "image:read", "network:read")
	p.addRole(adm, red.ID, "helper", "vm:read")
	clerk := p.addUser(adm, "clerk", "clerk", &red)
	chief := p.addUser(adm, "chief", "admin", &red)
	operator := p.addUser(adm, "operator", "operator", &red)
	tk := p.login("clerk", goodPassword).Access
	for _, role := range []string{"admin", "operator", "user", "viewer"} {
		p.do(call{method: "POST", path: "/api/v1/users", token: tk,
			body: object{"username": "x-" + role, "password": goodPassword, "role": role}}).want(403, auth.ErrGrantExceedsOwn)
		p.do(call{method: "PATCH", path: "/api/v1/users/" + clerk.ID.String(), token: tk, body: object{"role": role}}).want(403, auth.ErrGrantExceedsOwn)
	}
	for _, target := range []auth.User{chief, operator} {
		path := "/api/v1/users/" + target.ID.String()
		p.do(call{method: "PATCH", path: path, token: tk, body: object{"role": "helper"}}).want(403, auth.ErrGrantExceedsOwn)
		p.do(call{method: "PATCH", path: path, token: tk, body: object{"disabled": true}}).want(403, auth.ErrGrantExceedsOwn)
		p.do(call{method: "PATCH", path: path, token: tk, body: object{"email": "mine@example.org"}}).want(403, auth.ErrGrantExceedsOwn)
		p.do(call{method: "DELETE", path: path, token: tk}).want(403, auth.ErrGrantExceedsOwn)
		p.do(call{method: "POST", path: path + "/password", token: tk, body: object{"password": "now it is mine, all mine"}}).want(403, auth.ErrGrantExceedsOwn)
	}
	p.do(call{method: "POST", path: "/api/v1/users", token: tk, body: object{"username": "ok", "password": goodPassword, "role": "helper"}}).want(201)
	p.do(call{method: "POST", path: "/api/v1/users/" + clerk.ID.String() + "/password", token: tk, body: object{"password": goodPassword + "!"}}).
		want(409, auth.ErrOwnPassword)
	// A viewer may do none of it, and is told what is missing.
	p.addUser(adm, "viewer", "viewer", &red)
	a := p.do(call{method: "GET", path: "/api/v1/users", token: p.login("viewer", goodPassword).Access}).want(403, httpx.ErrForbidden)
	if !strings.Contains(string(a.body), "user:read") {
		t.Errorf("the refusal does not name the permission: %s", a.body)
	}
}

func TestLastAdminStays(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	adm := p.admin().Access
	var me auth.User
	p.do(call{method: "GET", path: "/api/v1/me", token: adm}).want(200).into(&me)
	own := "/api/v1/users/" + me.ID.String()
	p.do(call{method: "DELETE", path: own, token: adm}).want(409, auth.ErrLastAdmin)
	p.do(call{method: "PATCH", path: own, token: adm, body: object{"disabled": true}}).want(409, auth.ErrLastAdmin)
	p.do(call{method: "PATCH", path: own, token: adm, body: object{"role": "viewer"}}).want(409, auth.ErrLastAdmin)
	p.do(call{method: "PATCH", path: "/api/v1/tenants/" + me.TenantID.String(), token: adm, body: object{"disabled": true}}).want(409, auth.ErrOwnTenant)

	// Two administrators who delete each other at the same moment: one stays.
	second := p.addUser(adm, "second", "admin", nil)
	other := p.login("second", goodPassword).Access
	var wg sync.WaitGroup
	results := make([]answer, 2)
	wg.Go(func() {
		results[0] = p.do(call{method: "DELETE", path: "/api/v1/users/" + second.ID.String(), token: adm})
	})
	wg.Go(func() { results[1] = p.do(call{method: "DELETE", path: own, token: other}) })
	wg.Wait()
	deleted := 0
	for _, a := range results {
		switch a.status {
		case 204:
			deleted++
		case 401, 409: // already out, or the last one
		default:
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	if left := query[int](t, p.site, "SELECT count(*) FROM auth.users WHERE role = 'admin'"); deleted != 1 || left != 1 {
		t.Errorf("%d were deleted, %d are left", deleted, left)
	}
}

func TestTenants(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	adm := p.admin().Access
	red := p.addTenant(adm, "red")
	p.do(call{method: "POST", path: "/api/v1/tenants", token: adm, body: object{"name": "RED"}}).want(409, auth.ErrTenantExists)
	for _, name := range []string{"", " red", "a\nb", "<b>", strings.Repeat("a", 64), "été"} {
		p.do(call{method: "POST", path: "/api/v1/tenants", token: adm, body: object{"name": name}}).want(422)
	}
	p.addUser(adm, "red-user", "viewer", &red)
	tk := p.login("red-user", goodPassword)
	path := "/api/v1/tenants/" + red.ID.String()
	p.do(call{method: "PATCH", path: path, token: adm, body: object{"disabled": true}}).want(200).into(&red)
	if !red.Disabled {
		t.Error("not disabled")
	}
	p.do(call{method: "GET", path: "/api/v1/me", token: tk.Access}).want(401, auth.ErrSessionRevoked)
	p.refresh(tk.Refresh).want(401, auth.ErrSessionRevoked)
	p.do(call{method: "POST", path: "/auth/login", body: object{"username": "red-user", "password": goodPassword}}).want(401, auth.ErrInvalidCredentials)
	p.do(call{method: "PATCH", path: path, token: adm, body: object{"disabled": false, "name": "crimson"}}).want(200)
	p.do(call{method: "GET", path: "/api/v1/me", token: tk.Access}).want(200)
	p.do(call{method: "PATCH", path: path, token: adm, body: object{"name": "default"}}).want(409, auth.ErrTenantExists)
	if got := p.do(call{method: "GET", path: path, token: adm}).want(200).header.Get("ETag"); got != `"3"` {
		t.Errorf("ETag %s", got)
	}
	var users httpx.Page[auth.User]
	p.do(call{method: "GET", path: "/api/v1/users?tenant_id=" + red.ID.String(), token: adm}).want(200).into(&users)
	if len(users.Items) != 1 {
		t.Errorf("the tenant's users: %+v", users.Items)
	}
	p.do(call{method: "GET", path: "/api/v1/users?tenant_id=all", token: adm}).want(200).into(&users)
	if len(users.Items) != 2 {
		t.Errorf("all users: %+v", users.Items)
	}
}

func TestOwnSessions(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	first, second, third := p.admin(), p.admin(), p.admin()
	var page httpx.Page[auth.Session]
	p.do(call{method: "GET", path: "/api/v1/me/sessions?limit=2", token: second.Access}).want(200).into(&page)
	if len(page.Items) != 2 || page.NextCursor == "" || page.Items[0].Current || !page.Items[1].Current {
		t.Fatalf("sessions %+v", page)
	}
	if s := page.Items[1]; s.IP != "192.0.2.1" || s.UserAgent != "test" {
		t.Errorf("session %+v", s)
	}
	newest := "/api/v1/me/sessions/" + page.Items[0].ID.String()
	p.do(call{method: "GET", path: newest, token: second.Access}).want(200)
	p.do(call{method: "DELETE", path: newest, token: second.Access}).want(204)
	p.do(call{method: "DELETE", path: newest, token: second.Access}).want(404, auth.ErrSessionNotFound)
	p.do(call{method: "GET", path: "/api/v1/me", token: third.Access}).want(401, auth.ErrSessionRevoked)
	p.do(call{method: "DELETE", path: "/api/v1/me/sessions", token: second.Access}).want(204)
	p.do(call{method: "GET", path: "/api/v1/me", token: first.Access}).want(401, auth.ErrSessionRevoked)
	p.do(call{method: "GET", path: "/api/v1/me", token: second.Access}).want(200)
	p.do(call{method: "DELETE", path: "/api/v1/me/sessions?keep_current=false", token: second.Access}).want(204)
	p.do(call{method: "GET", path: "/api/v1/me", token: second.Access}).want(401, auth.ErrSessionRevoked)
}

func TestRolesAndPermissions(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	adm := p.admin().Access
	var roles httpx.Page[auth.Role]
	p.do(call{method: "GET", path: "/api/v1/roles", token: adm}).want(200).into(&roles)
	var names []string
	for _, r := range roles.Items {
		names = append(names, r.Name)
		if len(r.Permissions) == 0 || !r.BuiltIn || (r.Scope == "platform") != (r.Name == "admin") {
			t.Errorf("role %+v", r)
		}
	}
	if !slices.Equal(names, []string{"admin", "operator", "user", "viewer", "auditor"}) {
		t.Errorf("roles %v", names)
	}
	var permissions httpx.Page[struct{ Name string }]
	p.do(call{method: "GET", path: "/api/v1/permissions", token: adm}).want(200).into(&permissions)
	for _, want := range []string{"user:write", "tenant:write", "vm:read", "audit:read"} {
		if !slices.ContainsFunc(permissions.Items, func(i struct{ Name string }) bool { return i.Name == want }) {
			t.Errorf("%s is not in the list", want)
		}
	}
}

// Every route is documented, declares what it takes, and lets nobody in without it.
func TestRoutes(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	text, err := p.module.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]struct {
			Permission string `json:"x-permission"`
			Summary    string
		}
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	public := map[string]bool{"/auth/login": true, "/auth/refresh": true, "/auth/register": true, "/auth/login/mfa": true, "/auth/password/forgot": true,
		"/auth/password/reset": true, "/auth/password/reset/form": true, "/.well-known/jwks.json": true}
	for _, r := range p.module.Routes() {
		op, documented := doc.Paths[r.Path][strings.ToLower(r.Method)]
		if !documented || op.Permission != r.Permission || op.Summary == "" {
			t.Errorf("%s %s: documented as %+v", r.Method, r.Path, op)
		}
		if public[r.Path] != (r.Permission == "public") {
			t.Errorf("%s %s has permission %s", r.Method, r.Path, r.Permission)
		}
		if r.Permission != "public" {
			path := strings.ReplaceAll(r.Path, "{id}", uuid.NewString())
			p.do(call{method: r.Method, path: path}).want(401, httpx.ErrUnauthenticated)
		}
	}
	if len(p.module.Routes()) < 24 {
		t.Errorf("only %d routes", len(p.module.Routes()))
	}
}
