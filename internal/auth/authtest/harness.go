package authtest

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
)

// FakeHarness lets the suite arrange things in a fake. A transport is tested with one whose Serve is the transport's client.
type FakeHarness struct {
	*Fake
	Tenant uuid.UUID    // of the users that it adds
	Serve  auth.Service // what is tested; nil: the fake itself
}

// Service implements Harness.
func (h FakeHarness) Service() auth.Service {
	if h.Serve != nil {
		return h.Serve
	}
	return h.Fake
}

// AddUser implements Harness.
func (h FakeHarness) AddUser(_ *testing.T, username, role string) auth.User {
	return h.Fake.AddUser(username, role, h.Tenant)
}

// Token implements Harness.
func (h FakeHarness) Token(_ *testing.T, id uuid.UUID) string { return h.Issue(id, time.Hour) }

// ExpiredToken implements Harness.
func (h FakeHarness) ExpiredToken(_ *testing.T, id uuid.UUID) string { return h.Issue(id, -time.Hour) }

// Revoke implements Harness.
func (h FakeHarness) Revoke(_ *testing.T, token string) { h.Fake.Revoke(token) }

// RevokeAPIKey implements Harness.
func (h FakeHarness) RevokeAPIKey(_ *testing.T, id uuid.UUID) { h.Fake.RevokeAPIKey(id) }

// Forward implements Harness.
func (h FakeHarness) Forward(_ *testing.T, d time.Duration) { h.Fake.Forward(d) }

// ChangeRole implements Harness.
func (h FakeHarness) ChangeRole(_ *testing.T, id uuid.UUID, role string) {
	h.Change(id, func(u *auth.User) { u.Role = role })
}

// Disable implements Harness.
func (h FakeHarness) Disable(_ *testing.T, id uuid.UUID) {
	h.Change(id, func(u *auth.User) { u.Disabled = true })
}

// AddTenant implements Harness.
func (h FakeHarness) AddTenant(*testing.T, string) uuid.UUID { return uuid.New() }

// Bind implements Harness.
func (h FakeHarness) Bind(_ *testing.T, userID, tenantID uuid.UUID, role string) {
	h.Fake.Bind(userID, tenantID, role)
}
