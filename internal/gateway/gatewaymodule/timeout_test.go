package gatewaymodule_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/gateway"
	"github.com/novacron/novacron/internal/gateway/gatewaymodule"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
)

// sleepers is a surface whose handlers answer when they are released; those of one route may be asked to take their time.
type sleepers struct {
	kit     *httpx.API
	release chan struct{}
}

func (s *sleepers) Name() string             { return "sleepers" }
func (s *sleepers) Routes() []httpx.Route    { return s.kit.Routes() }
func (s *sleepers) Handler() http.Handler    { return s.kit.Handler() }
func (s *sleepers) OpenAPI() ([]byte, error) { return s.kit.OpenAPI() }

func newSleepers() *sleepers {
	s := &sleepers{kit: httpx.New("sleepers"), release: make(chan struct{})}
	sleep := func(ctx context.Context) (*struct{}, error) {
		select {
		case <-s.release:
			return &struct{}{}, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	httpx.Handle(s.kit, httpx.Op{ID: "sleep", Method: http.MethodGet, Path: "/api/v1/sleep", Permission: identity.Authenticated, Summary: "Sleep"},
		func(ctx context.Context, _ *struct{}) (*struct{}, error) { return sleep(ctx) })
	type Params struct {
		Wait string `query:"wait"`
	}
	httpx.Handle(s.kit, httpx.Op{ID: "hold", Method: http.MethodGet, Path: "/api/v1/hold", Permission: identity.Authenticated, Summary: "Hold"},
		func(ctx context.Context, _ *struct{ Params }) (*struct{}, error) { return sleep(ctx) })
	s.kit.Raw(httpx.Op{ID: "stream", Method: http.MethodGet, Path: "/api/v1/sleep/stream", Permission: identity.Authenticated, Summary: "Stream"},
		httpx.RawDoc{AnswerType: "text/plain", AnswerText: "Nothing."}, func(http.ResponseWriter, *http.Request) {})
	return s
}

// Only where a route holds answers back does asking for it free a request of its limit of time.
func TestWaitFreesHeldRoutesOnly(t *testing.T) {
	s := newSleepers()
	d := open(t, func(cfg *gatewaymodule.Config, deps *gatewaymodule.Deps) {
		cfg.Timeout = 100 * time.Millisecond
		deps.Surfaces = append(deps.Surfaces, s)
	})
	for _, path := range []string{"/api/v1/sleep", "/api/v1/sleep?wait=60s", "/api/v1/hold"} {
		if got := d.do(t, "GET", path, d.admin, nil); got.status != 504 && got.status != 422 {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
	if got := d.do(t, "GET", "/api/v1/sleep", d.admin, nil, "Prefer", "wait=60"); got.status != 504 || got.problem(t).Code != gateway.ErrTimeout.Code {
		t.Errorf("a route that holds nothing back: %d %s", got.status, got.body)
	}
	time.AfterFunc(400*time.Millisecond, func() { close(s.release) })
	if got := d.do(t, "GET", "/api/v1/hold?wait=60s", d.admin, nil); got.status != 204 && got.status != 200 {
		t.Errorf("a route that does: %d %s", got.status, got.body)
	}
}

// slowAuth is an authenticator whose database does not answer.
type slowAuth struct{ gatewaymodule.Authenticator }

func (slowAuth) ValidateToken(ctx context.Context, _ auth.ValidateTokenRequest) (auth.ValidateTokenResponse, error) {
	<-ctx.Done()
	return auth.ValidateTokenResponse{}, fmt.Errorf("read session: %w", ctx.Err())
}

// The limit of time holds for finding out who asks, too; also where the answer itself has none.
func TestAuthenticationIsBounded(t *testing.T) {
	d := open(t, func(cfg *gatewaymodule.Config, deps *gatewaymodule.Deps) {
		cfg.Timeout = 100 * time.Millisecond
		deps.Auth, deps.Surfaces = slowAuth{deps.Auth}, append(deps.Surfaces, newSleepers())
	})
	for _, path := range []string{"/api/v1/sleep", "/api/v1/hold?wait=60s", "/api/v1/sleep/stream"} {
		if got := d.do(t, "GET", path, d.admin, nil); got.status != 504 || got.problem(t).Code != gateway.ErrTimeout.Code {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
}
