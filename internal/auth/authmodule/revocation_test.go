package authmodule_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/bus"
)

// patience is how long a test waits for what takes a second at most on a machine that is not overloaded.
const patience = 20 * time.Second

// deafBus publishes and never delivers: what a partition looks like.
type deafBus struct{ bus.Bus }

func (deafBus) Subscribe(string, bus.SubscribeOptions, bus.Handler) (bus.Subscription, error) {
	return deafSubscription{}, nil
}

type deafSubscription struct{}

func (deafSubscription) Close() {}

// A session that ends on one process ends on the others: with the bus, without it, and without the shared cache.
func TestRevocationReachesOthers(t *testing.T) {
	t.Parallel()
	for name, arrange := range map[string]func(*site){
		"bus and cache": func(*site) {},
		"cache only":    func(s *site) { s.bus = deafBus{s.bus} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			arrange(s)
			here, there := s.start(t), s.start(t)
			tk := here.admin()
			there.do(call{method: "GET", path: "/api/v1/me", token: tk.Access}).want(200)
			here.do(call{method: "POST", path: "/auth/logout", token: tk.Access}).want(204)
			here.do(call{method: "GET", path: "/api/v1/me", token: tk.Access}).want(401, auth.ErrSessionRevoked)
			within(t, patience, "the session ends on the other process", func() bool {
				return there.do(call{method: "GET", path: "/api/v1/me", token: tk.Access}).status == 401
			})
		})
	}
}

// With neither bus nor cache nobody vouches for what is remembered, so it is read from the database.
func TestRevocationWithoutBusAndCache(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.bus = deafBus{s.bus}
	here, there := s.start(t), s.start(t)
	tk := here.admin()
	there.do(call{method: "GET", path: "/api/v1/me", token: tk.Access}).want(200)
	s.cache.fail(errors.New("connection refused"))
	here.do(call{method: "POST", path: "/auth/logout", token: tk.Access}).want(204)
	within(t, patience, "the session ends on the other process", func() bool {
		return there.do(call{method: "GET", path: "/api/v1/me", token: tk.Access}).status == 401
	})
}

// A process that is cut off from everything trusts nothing: it answers that it does not know.
func TestValidationFailsClosed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.start(t)
	tk := p.admin()
	p.do(call{method: "GET", path: "/api/v1/me", token: tk.Access}).want(200)
	s.cache.fail(errors.New("connection refused"))
	renameAway(t, s)
	within(t, patience, "validation says that it cannot tell", func() bool {
		_, err := p.module.Service().ValidateToken(t.Context(), auth.ValidateTokenRequest{Token: tk.Access})
		return errors.Is(err, auth.ErrUnavailable)
	})
}

// renameAway makes sessions and API keys unreadable, as a broken database would.
func renameAway(t *testing.T, s *site) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.cfg.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.Exec(t.Context(), "ALTER TABLE auth.sessions RENAME TO sessions_away; ALTER TABLE auth.api_keys RENAME TO api_keys_away")
	if err := errors.Join(err, conn.Close(contextForCleanup(t))); err != nil {
		t.Fatal(err)
	}
}

// In the common case a validation asks nobody.
func TestValidationAsksNobody(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.start(t)
	tk := p.admin()
	validate := func() error {
		_, err := p.module.Service().ValidateToken(context.Background(), auth.ValidateTokenRequest{Token: tk.Access})
		return err
	}
	if err := validate(); err != nil {
		t.Fatal(err)
	}
	renameAway(t, s) // from here on every question to the database fails
	if err := validate(); err != nil {
		t.Errorf("remembered: %v", err)
	}
}
