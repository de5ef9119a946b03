package app

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/authmodule"
	"github.com/novacron/novacron/internal/bus/membus"
	"github.com/novacron/novacron/internal/config"
	"github.com/novacron/novacron/internal/platform/cache"
	"github.com/novacron/novacron/internal/platform/pg/pgserver"
)

// The way back in needs the data folder alone, whether a server works in it or not.
func TestRescueByTheDataFolder(t *testing.T) {
	dir, err := os.MkdirTemp("", "novacron-rescue-") // PostgreSQL's user must be able to pass through
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	cfg := config.Default()
	cfg.DataDir = dir
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()

	unlock, err := lockDataDir(dir) // as the server does
	if err != nil {
		t.Fatal(err)
	}
	server := pgserver.New(pgserver.Config{DataDir: filepath.Join(dir, "postgres"), Log: slog.New(slog.DiscardHandler)})
	if err := server.Start(ctx); err != nil {
		t.Fatal(err)
	}
	stop := func() {
		if err := server.Stop(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	b, shared := membus.New(), cache.NewMemory(100)
	t.Cleanup(func() {
		if err := errors.Join(b.Close(), shared.Close()); err != nil {
			t.Error(err)
		}
	})
	parts := cfg.AuthModule()
	parts.DatabaseURL = server.URL()
	module, err := authmodule.New(parts, authmodule.Deps{Bus: b, Cache: shared, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := module.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := module.Stop(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})

	var said bytes.Buffer
	user, first, err := Rescue(ctx, cfg, RescueRequest{Username: "admin"}, &said)
	if err != nil || user.Username != "admin" || len(first) < 20 {
		t.Fatalf("beside a server: %+v, %v, %s", user, err, &said)
	}
	if err := module.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	stop()
	unlock()
	_, second, err := Rescue(ctx, cfg, RescueRequest{Username: "admin", DisableMFA: true, Enable: true, Admin: true}, &said)
	if err != nil || second == first {
		t.Fatalf("without a server: %v, %s", err, &said)
	}
	if _, _, err := Rescue(ctx, cfg, RescueRequest{Username: "nobody"}, &said); !errors.Is(err, auth.ErrUserNotFound) {
		t.Errorf("nobody: %v", err)
	}
	if bytes.Contains(said.Bytes(), []byte(first)) || bytes.Contains(said.Bytes(), []byte(second)) {
		t.Error("a password is in the log")
	}
}
