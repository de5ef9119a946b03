package authmodule_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/platform/httpx"
)

// An administrator sees and ends other people's sessions; nobody ends those of who may do more, and another tenant's users are not there.
func TestSessionsOfOthers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	here, there := s.start(t), s.start(t)
	adm := here.admin().Access
	red, blue := here.addTenant(adm, "red"), here.addTenant(adm, "blue")
	here.addRole(adm, red.ID, "guard", "session:*", "user:read", "vm:read")
	here.addUser(adm, "guard", "guard", &red)
	here.addRole(adm, red.ID, "worker", "vm:read")
	worker := here.addUser(adm, "worker", "worker", &red)
	operator := here.addUser(adm, "operator", "operator", &red)
	stranger := here.addUser(adm, "stranger", "viewer", &blue)
	guard := here.login("guard", goodPassword).Access
	one, two := here.login("worker", goodPassword), here.login("worker", goodPassword)
	path := "/api/v1/users/" + worker.ID.String() + "/sessions"

	var page httpx.Page[auth.Session]
	here.do(call{method: "GET", path: path, token: guard}).want(200).into(&page)
	if len(page.Items) != 2 || page.Items[0].UserID != worker.ID || page.Items[0].Current {
		t.Fatalf("sessions %+v", page.Items)
	}
	newest := page.Items[0].ID.String()
	there.do(call{method: "GET", path: "/api/v1/me", token: two.Access}).want(200)
	here.do(call{method: "DELETE", path: path + "/" + newest, token: guard}).want(204)
	here.do(call{method: "DELETE", path: path + "/" + newest, token: guard}).want(404, auth.ErrSessionNotFound)
	within(t, patience, "the session ends on the other process", func() bool {
		return there.do(call{method: "GET", path: "/api/v1/me", token: two.Access}).status == 401
	})
	here.do(call{method: "GET", path: "/api/v1/me", token: one.Access}).want(200)
	here.do(call{method: "DELETE", path: path, token: guard}).want(204)
	here.do(call{method: "GET", path: "/api/v1/me", token: one.Access}).want(401, auth.ErrSessionRevoked)
	here.refresh(one.Refresh).want(401)

	here.do(call{method: "DELETE", path: "/api/v1/users/" + operator.ID.String() + "/sessions", token: guard}).want(403, auth.ErrGrantExceedsOwn)
	for _, id := range []string{stranger.ID.String(), uuid.NewString()} {
		for _, method := range []string{"GET", "DELETE"} {
			here.do(call{method: method, path: "/api/v1/users/" + id + "/sessions", token: guard}).want(404, auth.ErrUserNotFound)
		}
		here.do(call{method: "DELETE", path: "/api/v1/users/" + id + "/sessions/" + newest, token: guard}).want(404, auth.ErrUserNotFound)
	}
	viewer := here.login("operator", goodPassword).Access
	here.do(call{method: "GET", path: path, token: viewer}).want(403, httpx.ErrForbidden)
}
