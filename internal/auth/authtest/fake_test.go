package authtest_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/authtest"
)

type fakeHarness struct {
	*authtest.Fake
	tenant uuid.UUID
}

func (h fakeHarness) Service() auth.Service { return h.Fake }
func (h fakeHarness) AddUser(_ *testing.T, username, role string) auth.User {
	return h.Fake.AddUser(username, role, h.tenant)
}
func (h fakeHarness) Token(_ *testing.T, id uuid.UUID) string        { return h.Issue(id, time.Hour) }
func (h fakeHarness) ExpiredToken(_ *testing.T, id uuid.UUID) string { return h.Issue(id, -time.Hour) }
func (h fakeHarness) Revoke(_ *testing.T, token string)              { h.Fake.Revoke(token) }
func (h fakeHarness) RevokeAPIKey(_ *testing.T, id uuid.UUID)        { h.Fake.RevokeAPIKey(id) }
func (h fakeHarness) Forward(_ *testing.T, d time.Duration)          { h.Fake.Forward(d) }
func (h fakeHarness) ChangeRole(_ *testing.T, id uuid.UUID, role string) {
	h.Change(id, func(u *auth.User) { u.Role = role })
}
func (h fakeHarness) Disable(_ *testing.T, id uuid.UUID) {
	h.Change(id, func(u *auth.User) { u.Disabled = true })
}

func (h fakeHarness) AddTenant(*testing.T, string) uuid.UUID { return uuid.New() }
func (h fakeHarness) Bind(_ *testing.T, userID, tenantID uuid.UUID, role string) {
	h.Fake.Bind(userID, tenantID, role)
}

func TestFake(t *testing.T) {
	t.Parallel()
	authtest.Run(t, func(*testing.T) authtest.Harness { return fakeHarness{Fake: authtest.New(), tenant: uuid.New()} })
}
