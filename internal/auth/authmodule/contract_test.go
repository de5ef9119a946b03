package authmodule_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/authtest"
)

// harness arranges things through the REST API, as an administrator would.
type harness struct {
	*process
	adminToken string
	names      map[uuid.UUID]string
}

func (h *harness) Service() auth.Service { return h.module.Service() }

func (h *harness) AddUser(_ *testing.T, username, role string) auth.User {
	u := h.addUser(h.adminToken, username, role, nil)
	h.names[u.ID] = username
	return u
}

func (h *harness) Token(_ *testing.T, id uuid.UUID) string {
	return h.login(h.names[id], goodPassword).Access
}

func (h *harness) ExpiredToken(t *testing.T, id uuid.UUID) string {
	token := h.Token(t, id)
	h.site.clock.forward(h.site.cfg.AccessTTL + time.Minute)
	return token
}

func (h *harness) Revoke(_ *testing.T, token string) {
	h.do(call{method: "POST", path: "/auth/logout", token: token}).want(204)
}

func (h *harness) ChangeRole(_ *testing.T, id uuid.UUID, role string) {
	h.do(call{method: "PATCH", path: fmt.Sprintf("/api/v1/users/%s", id), token: h.adminToken, body: object{"role": role}}).want(200)
}

func (h *harness) Disable(_ *testing.T, id uuid.UUID) {
	h.do(call{method: "PATCH", path: fmt.Sprintf("/api/v1/users/%s", id), token: h.adminToken, body: object{"disabled": true}}).want(200)
}

func (h *harness) RevokeAPIKey(_ *testing.T, id uuid.UUID) {
	h.do(call{method: "DELETE", path: fmt.Sprintf("/api/v1/api-keys/%s", id), token: h.adminToken}).want(204)
}

func (h *harness) Forward(_ *testing.T, d time.Duration) { h.site.clock.forward(d) }

func (h *harness) AddTenant(_ *testing.T, name string) uuid.UUID {
	return h.addTenant(h.adminToken, name).ID
}

func (h *harness) Bind(_ *testing.T, userID, tenantID uuid.UUID, role string) {
	h.bind(h.adminToken, userID, tenantID, role).want(201)
}

func TestContract(t *testing.T) {
	t.Parallel()
	authtest.Run(t, func(t *testing.T) authtest.Harness {
		p := newSite(t).start(t)
		return &harness{process: p, adminToken: p.admin().Access, names: map[uuid.UUID]string{}}
	})
}
