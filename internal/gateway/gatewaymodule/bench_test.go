package gatewaymodule_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/gateway/gatewaymodule"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
)

// allow knows one principal: what the auth module costs is measured there.
type allow struct{ p identity.Principal }

func (a allow) ValidateToken(context.Context, auth.ValidateTokenRequest) (auth.ValidateTokenResponse, error) {
	return auth.ValidateTokenResponse{Principal: a.p}, nil
}

func (a allow) ValidateAPIKey(context.Context, auth.ValidateAPIKeyRequest) (auth.ValidateAPIKeyResponse, error) {
	return auth.ValidateAPIKeyResponse{Principal: a.p}, nil
}

// BenchmarkGet compares a GET through the gateway with the same handler on a bare chi router, both without a network.
func BenchmarkGet(b *testing.B) {
	d := open(b, func(_ *gatewaymodule.Config, deps *gatewaymodule.Deps) {
		deps.Auth = allow{identity.Principal{UserID: uuid.New(), Permissions: []string{"thing:read"}}}
		deps.Log = nopLog()
	})
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
				w := httptest.NewRecorder()
				c.handler.ServeHTTP(w, r)
				if w.Code != http.StatusOK {
					b.Fatalf("answered %d %s", w.Code, w.Body)
				}
			}
		})
	}
}
