package authmodule_test

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/authmodule"
	"github.com/novacron/novacron/internal/platform/cache"
	"github.com/novacron/novacron/internal/platform/cache/redistest"
)

// lines collects what a log says.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) has(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), s)
}

// Two processes that share a Redis and no bus. Redis dies: what is revoked meanwhile is refused everywhere all the same, because what nobody vouches
// for is read from the database, and the log says so. Redis comes back empty: nothing that was revoked counts again.
func TestRedisLostAndBack(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newSite(t)
	s.bus = deafBus{s.bus}
	said := &lines{}
	start := func() *process {
		t.Helper()
		c, err := cache.NewRedis(server.URL())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return s.startWith(t, func(d *authmodule.Deps) { d.Cache, d.Log = c, slog.New(slog.NewTextHandler(said, nil)) })
	}
	here, there := start(), start()
	before, during, after := here.admin(), here.admin(), here.admin()
	refused := func(p *process, token string) bool {
		_, err := p.module.Service().ValidateToken(t.Context(), auth.ValidateTokenRequest{Token: token})
		return errors.Is(err, auth.ErrSessionRevoked)
	}
	good := func(p *process, token string) {
		t.Helper()
		if _, err := p.module.Service().ValidateToken(t.Context(), auth.ValidateTokenRequest{Token: token}); err != nil {
			t.Errorf("a good token: %v", err)
		}
	}
	for _, tk := range []tokens{before, during, after} {
		good(there, tk.Access)
	}
	here.do(call{method: "POST", path: "/auth/logout", token: before.Access}).want(204)
	within(t, patience, "the other process hears by the counter", func() bool { return refused(there, before.Access) })

	server.Kill()
	within(t, patience, "the log says that the cache is away", func() bool { return said.has("the shared cache does not answer") })
	here.do(call{method: "POST", path: "/auth/logout", token: during.Access}).want(204)
	within(t, patience, "the other process refuses what was revoked without Redis", func() bool { return refused(there, during.Access) })
	good(there, after.Access)

	server.Restart()
	within(t, patience, "the log says that the cache is back", func() bool { return said.has("the shared cache answers again") })
	for _, p := range []*process{here, there} {
		for _, tk := range []tokens{before, during} {
			if !refused(p, tk.Access) {
				t.Error("what was revoked counts again, because Redis has forgotten")
			}
		}
		good(p, after.Access)
	}
	here.do(call{method: "POST", path: "/auth/logout", token: after.Access}).want(204)
	within(t, patience, "revocation reaches the other process again", func() bool { return refused(there, after.Access) })
}
