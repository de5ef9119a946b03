package authmodule

import (
	"context"
	"errors"

	"github.com/novacron/novacron/db"
	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/service"
	"github.com/novacron/novacron/internal/platform/pg"
)

// RescueRequest says what to do for an account when nobody can log in to do it.
type RescueRequest struct {
	Username   string
	DisableMFA bool // take its second factor away
	Enable     bool // enable it, and its tenant
	Admin      bool // give it the role admin
}

// Rescued is what came of it.
type Rescued struct {
	User            auth.User
	OneTimePassword string // must be replaced at the first login, before it ends
}

// Rescue gives an account a one-time password, by way of the database. Whoever can reach that needs no permission. The module need not run, here or
// elsewhere, and may.
func (m *Module) Rescue(ctx context.Context, req RescueRequest) (Rescued, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pool != nil {
		return Rescued{}, errors.New("auth: the module runs; ask it over its API")
	}
	migrations, err := db.Migrations(schema)
	if err != nil {
		return Rescued{}, err
	}
	if err := pg.Bootstrap(ctx, m.cfg.DatabaseURL, pg.Module{Schema: schema, Migrations: migrations}, m.deps.Log); err != nil {
		return Rescued{}, err
	}
	pool, err := pg.Open(ctx, pg.Config{URL: m.cfg.DatabaseURL, Schema: schema, MaxConns: 2})
	if err != nil {
		return Rescued{}, err
	}
	defer pool.Close()
	m.store.Attach(pool)
	defer m.store.Detach()
	oneTime, u, err := m.service.Rescue(ctx, service.Rescue(req))
	return Rescued{User: u, OneTimePassword: oneTime}, err
}
