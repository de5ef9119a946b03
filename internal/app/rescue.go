package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/authmodule"
	"github.com/novacron/novacron/internal/bus/membus"
	"github.com/novacron/novacron/internal/config"
	"github.com/novacron/novacron/internal/platform/logx"
	"github.com/novacron/novacron/internal/platform/pg/pgserver"
)

// RescueRequest says what to do for an account when nobody can log in to do it.
type RescueRequest struct {
	Username   string
	DisableMFA bool // take its second factor away
	Enable     bool // enable it, and its tenant
	Admin      bool // give it the role admin
}

// Rescue gives an account a one-time password, without the API: who may read the data folder and the database may do everything anyway. It works
// beside a server that runs and where none does; then the private database is started for as long as it takes.
func Rescue(ctx context.Context, cfg config.Config, req RescueRequest, warnings io.Writer) (_ auth.User, oneTime string, err error) {
	log, _, err := logx.New(logx.Options{Level: "warn", Format: "text", Writer: warnings})
	if err != nil {
		return auth.User{}, "", err
	}
	if cfg.Database.URL == "" {
		server := pgserver.New(pgserver.Config{DataDir: filepath.Join(cfg.DataDir, "postgres"), Log: logx.ForModule(log, "database")})
		unlock, lockErr := lockDataDir(cfg.DataDir)
		switch {
		case lockErr == nil:
			defer unlock()
			if err := server.Start(ctx); err != nil {
				return auth.User{}, "", fmt.Errorf("start private PostgreSQL: %w", err)
			}
			defer func() {
				stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), databaseStopTimeout)
				defer cancel()
				err = errors.Join(err, server.Stop(stopping))
			}()
		case !errors.Is(lockErr, ErrDataDirInUse): // else the server that runs has started it
			return auth.User{}, "", lockErr
		}
		cfg.Database.URL = server.URL()
	}
	shared, err := openCache(cfg) // with Redis, processes that run hear of the change at once
	if err != nil {
		return auth.User{}, "", err
	}
	defer func() { err = errors.Join(err, shared.Close()) }()
	b := membus.New()
	defer func() { err = errors.Join(err, b.Close()) }()
	module, err := authmodule.New(cfg.AuthModule(), authmodule.Deps{Bus: b, Cache: shared, Log: logx.ForModule(log, "auth")})
	if err != nil {
		return auth.User{}, "", err
	}
	rescued, err := module.Rescue(ctx, authmodule.RescueRequest(req))
	return rescued.User, rescued.OneTimePassword, err
}
