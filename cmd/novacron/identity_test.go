package main

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/pquerna/otp/totp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/authmodule"
	"github.com/novacron/novacron/internal/bus/membus"
	"github.com/novacron/novacron/internal/platform/cache"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/platform/pg/pgtest"
)

// TestIdentityScripts runs the program against the real auth module, on a real database.
func TestIdentityScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/identity", UpdateScripts: *update, RequireUniqueNames: true,
		Setup: func(ts *testscript.Env) error {
			cfg := authmodule.Default()
			cfg.DataDir, cfg.DatabaseURL, cfg.MaxConns = filepath.Join(ts.WorkDir, "data"), pgtest.New(t).URL, 4
			cfg.PasswordMemoryKiB, cfg.PasswordIterations = 64, 1
			if err := os.Mkdir(cfg.DataDir, 0o700); err != nil {
				return err
			}
			b, shared := membus.New(), cache.NewMemory(1000)
			module, err := authmodule.New(cfg, authmodule.Deps{Bus: b, Cache: shared, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				return err
			}
			if err := module.Start(t.Context()); err != nil {
				return err
			}
			server := httptest.NewServer(withCallers(module))
			ts.Defer(func() {
				server.Close()
				for _, end := range []func() error{func() error { return module.Stop(context.Background()) }, b.Close, shared.Close} {
					if err := end(); err != nil {
						t.Error(err)
					}
				}
			})
			password, err := os.ReadFile(filepath.Join(cfg.DataDir, "initial-admin-password"))
			if err != nil {
				return err
			}
			ts.Setenv("NOVACRON_SERVER", server.URL)
			ts.Setenv("XDG_CONFIG_HOME", ts.WorkDir+"/config")
			return os.WriteFile(filepath.Join(ts.WorkDir, "admin"), password, 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "secret": secret, "code": appCode, "pick": pick},
	})
}

// secret cuts the one-time password out of the last output and writes it to a file: secret FILE.
func secret(ts *testscript.TestScript, _ bool, args []string) {
	_, rest, found := bytes.Cut([]byte(ts.ReadFile("stdout")), []byte("shown this once: "))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	if !found || len(line) < 20 {
		ts.Fatalf("there is no one-time password in the output")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), line, 0o600))
}

// appCode computes what an authenticator app shows: code FILE VARIABLE [STEPS], of the otpauth URI in the file, so many time steps from now.
func appCode(ts *testscript.TestScript, _ bool, args []string) {
	uri, err := url.Parse(strings.TrimSpace(ts.ReadFile(args[0])))
	ts.Check(err)
	at := time.Now()
	if len(args) > 2 {
		steps, err := strconv.Atoi(args[2])
		ts.Check(err)
		at = at.Add(time.Duration(steps) * 30 * time.Second)
	}
	code, err := totp.GenerateCode(uri.Query().Get("secret"), at)
	ts.Check(err)
	ts.Setenv(args[1], code)
}

// pick puts the last line of a file, or what follows the last space of it, into a variable: pick FILE VARIABLE.
func pick(ts *testscript.TestScript, _ bool, args []string) {
	fields := strings.Fields(ts.ReadFile(args[0]))
	if len(fields) == 0 {
		ts.Fatalf("%s is empty", args[0])
	}
	ts.Setenv(args[1], fields[len(fields)-1])
}

// withCallers does what the gateway does with credentials.
func withCallers(m *authmodule.Module) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		addr, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil {
			httpx.WriteError(w, r, err)
			return
		}
		ctx := httpx.WithClientInfo(r.Context(), httpx.Client{Addr: addr.Addr(), UserAgent: r.UserAgent()})
		if token, given := httpx.BearerToken(r); given {
			req := auth.ValidateTokenRequest{Token: token}
			if id, err := uuid.Parse(r.Header.Get(httpx.HeaderTenant)); err == nil {
				req.TenantID = id
			}
			resp, err := m.Service().ValidateToken(ctx, req)
			if err != nil {
				httpx.WriteError(w, r, err)
				return
			}
			ctx = identity.With(ctx, resp.Principal)
		}
		if key := r.Header.Get("X-API-Key"); key != "" {
			req := auth.ValidateAPIKeyRequest{Key: key, Client: addr.Addr()}
			if id, err := uuid.Parse(r.Header.Get(httpx.HeaderTenant)); err == nil {
				req.TenantID = id
			}
			resp, err := m.Service().ValidateAPIKey(ctx, req)
			if err != nil {
				httpx.WriteError(w, r, err)
				return
			}
			ctx = identity.With(ctx, resp.Principal)
		}
		m.Handler().ServeHTTP(w, r.WithContext(ctx))
	})
}
