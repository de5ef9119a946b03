package authmodule_test

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/authmodule"
)

// query gives one value from the site's database.
func query[T any](t testing.TB, s *site, sql string, args ...any) T {
	t.Helper()
	var v T
	conn, err := pgx.Connect(t.Context(), s.cfg.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(contextForCleanup(t)) }()
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func (s *site) hashOf(t testing.TB, username string) string {
	t.Helper()
	return query[string](t, s, "SELECT password_hash FROM auth.users WHERE username = $1", username)
}

func TestFirstAdmin(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var told []string
	m, err := authmodule.New(s.cfg, authmodule.Deps{Bus: s.bus, Cache: s.cache, Log: slog.New(slog.DiscardHandler),
		OnFirstAdmin: func(username, password, file string) { told = append(told, username, password, file) }})
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, site: s, module: m, http: gateway(m)}
	for range 2 { // the second start makes nothing
		if err := m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := m.Start(t.Context()); err != nil {
			t.Fatalf("start when started: %v", err)
		}
		p.admin()
		if err := m.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := m.Stop(t.Context()); err != nil {
			t.Fatalf("stop when stopped: %v", err)
		}
	}
	if len(told) != 3 || told[0] != "admin" || told[1] != p.initialPassword() || told[2] != p.passwordFile() {
		t.Errorf("told %v", told)
	}
	if info, err := os.Stat(p.passwordFile()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the password file: %v, %v", info, err)
	}
}

// Of processes that start together, one makes the administrator, and the file has the right password.
func TestFirstAdminIsMadeOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	processes := []*process{s.build(t), s.build(t), s.build(t)}
	var wg sync.WaitGroup
	for _, p := range processes {
		wg.Go(func() {
			if err := p.module.Start(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, p := range processes {
		tk := p.admin()
		for _, other := range processes { // they share keys and sessions
			other.do(call{method: "GET", path: "/api/v1/me", token: tk.Access}).want(200)
		}
	}
	for _, p := range processes {
		if err := p.module.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if n := query[int](t, s, "SELECT count(*) FROM auth.users"); n != 1 {
		t.Errorf("%d users", n)
	}
}

// A process died between writing the file and committing the account. Whoever comes next uses the file.
func TestFirstAdminAfterCrash(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if err := os.WriteFile(s.cfg.DataDir+"/initial-admin-password", []byte("left by who died here\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := s.start(t)
	p.login("admin", "left by who died here")

	// It died, and another process with another data folder was faster: the file that was left behind is of no use.
	other := *s
	other.cfg.DataDir = t.TempDir()
	if err := os.WriteFile(other.cfg.DataDir+"/initial-admin-password", []byte("not the password at all\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	other.start(t)
	if _, err := os.Stat(other.cfg.DataDir + "/initial-admin-password"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the useless file: %v", err)
	}
	if _, err := os.Stat(p.passwordFile()); err != nil {
		t.Errorf("the useful file: %v", err)
	}
}

func TestFileGoesWithThePassword(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.start(t)
	elsewhere := s.start(t) // shares the folder
	tk, other := p.admin(), p.admin()
	change := func(current, next string) answer {
		return elsewhere.do(call{method: "PUT", path: "/api/v1/me/password", token: tk.Access,
			body: object{"current_password": current, "new_password": next}})
	}
	change("not the password", goodPassword).want(422, auth.ErrWrongPassword)
	change(p.initialPassword(), "short").want(422, auth.ErrWeakPassword)
	change(p.initialPassword(), p.initialPassword()).want(422, auth.ErrWeakPassword)
	if _, err := os.Stat(p.passwordFile()); err != nil {
		t.Errorf("the file, before any change: %v", err)
	}
	change(p.initialPassword(), goodPassword).want(204)
	if _, err := os.Stat(p.passwordFile()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file, after the change: %v", err)
	}
	p.do(call{method: "GET", path: "/api/v1/me", token: tk.Access}).want(200)
	within(t, 20*time.Second, "the other session ends on the other process", func() bool {
		return p.do(call{method: "GET", path: "/api/v1/me", token: other.Access}).status == 401
	})
	p.login("admin", goodPassword)
}

func TestAdminOfLostDatabaseIsAnswered(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.build(t)
	p.do(call{method: "POST", path: "/auth/login", body: object{"username": "admin", "password": "x"}}).want(503)
	if err := p.module.Ready(t.Context()); err == nil {
		t.Error("ready before it was started")
	}
	if err := p.module.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.module.Ready(t.Context()); err != nil {
		t.Errorf("not ready: %v", err)
	}
	if err := p.module.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.module.Ready(t.Context()); err == nil {
		t.Error("ready after it was stopped")
	}
}

// within polls until the condition holds.
func within(t testing.TB, d time.Duration, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(d)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline.C:
			t.Fatalf("%s: not within %s", what, d)
		case <-tick.C:
		}
	}
}
