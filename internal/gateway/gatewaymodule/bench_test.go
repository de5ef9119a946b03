package gatewaymodule_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/gateway/gatewaymodule"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/platform/logx"
	"github.com/novacron/novacron/internal/platform/tracing"
)

// allow knows one principal: what the auth module costs is measured there.
type allow struct{ p identity.Principal }

func (a allow) ValidateToken(context.Context, auth.ValidateTokenRequest) (auth.ValidateTokenResponse, error) {
	return auth.ValidateTokenResponse{Principal: a.p}, nil
}

func (a allow) ValidateAPIKey(context.Context, auth.ValidateAPIKeyRequest) (auth.ValidateAPIKeyResponse, error) {
	return auth.ValidateAPIKeyResponse{Principal: a.p}, nil
}

// sinkWriter takes an answer as net/http's does, and keeps nothing of it.
type sinkWriter struct {
	header http.Header
	status int
}

func (w *sinkWriter) Header() http.Header              { return w.header }
func (w *sinkWriter) WriteHeader(status int)           { w.status = status }
func (w *sinkWriter) Write(p []byte) (int, error)      { return len(p), nil }
func (w *sinkWriter) SetWriteDeadline(time.Time) error { return nil }

// openWhole opens a gateway whose requests go all the way: with an access log, a caller, three limits and one of the route, and metrics.
func openWhole(t testing.TB) *door {
	return open(t, func(cfg *gatewaymodule.Config, deps *gatewaymodule.Deps) {
		deps.Auth = allow{identity.Principal{UserID: uuid.New(), TenantID: uuid.New(), Permissions: []string{"thing:read"}}}
		log, _, err := logx.New(logx.Options{Writer: io.Discard, Format: logx.FormatJSON,
			Context: []logx.Extractor{logx.FromString("trace_id", tracing.ID), logx.FromString("request_id", httpx.RequestID)}})
		if err != nil {
			t.Fatal(err)
		}
		deps.Log = logx.ForModule(log, "gateway")
		const plenty = "1000000/second"
		cfg.Rates = gatewaymodule.Rates{User: plenty, Key: plenty, Tenant: plenty, Address: plenty}
		cfg.Routes = []gatewaymodule.Rule{{Path: "/api/things/*", RateLimit: plenty}}
		deps.Counters = memory(t)
	})
}

// BenchmarkGet compares a GET through the gateway with the same handler on a bare chi router, both without a network.
func BenchmarkGet(b *testing.B) {
	d := openWhole(b)
	path := "/api/v1/things/" + uuid.NewString()
	bare := chi.NewRouter()
	bare.Get("/api/v1/things/{id}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"id":"` + chi.URLParam(r, "id") + `","name":"a","count":0}`))
	})
	ctx := httpx.WithRequest(identity.With(b.Context(), identity.Principal{Permissions: []string{"thing:read"}}), "r", path)
	for _, c := range []struct {
		name    string
		handler http.Handler
		ctx     context.Context
	}{{"gateway", d.Edge(), b.Context()}, {"module", d.things.Handler(), ctx}, {"chi", bare, b.Context()}} {
		b.Run(c.name, func(b *testing.B) {
			r := httptest.NewRequestWithContext(c.ctx, http.MethodGet, path, nil)
			r.Header.Set("Authorization", "Bearer x")
			b.ReportAllocs()
			for b.Loop() {
				w := &sinkWriter{header: http.Header{}, status: http.StatusOK}
				c.handler.ServeHTTP(w, r)
				if w.status != http.StatusOK {
					b.Fatalf("answered %d", w.status)
				}
			}
		})
	}
}
