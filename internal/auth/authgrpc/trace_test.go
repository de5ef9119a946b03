package authgrpc_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/authgrpc"
	"github.com/novacron/novacron/internal/auth/authtest"
	"github.com/novacron/novacron/internal/platform/grpcx"
	"github.com/novacron/novacron/internal/platform/grpcx/grpcxtest"
	"github.com/novacron/novacron/internal/platform/tracing"
	"github.com/novacron/novacron/internal/platform/tracing/otlp"
	"github.com/novacron/novacron/internal/platform/tracing/otlp/otlptest"
)

// A call of another process is a span on each side, of one trace, and neither holds the token that the call is about.
func TestTraceCrossesACall(t *testing.T) {
	t.Parallel()
	collector := otlptest.Start(t, nil)
	sender, err := otlp.New(t.Context(), otlp.Config{Endpoint: "http://" + collector.Address, SampleRatio: 1}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx := tracing.With(t.Context(), sender.Tracer())
	a := newAuthority(t)
	fake := authtest.New()
	token := fake.Issue(fake.AddUser("ada", auth.RoleViewer, uuid.New()).ID, time.Hour)
	server := a.Serve(ctx, t, "127.0.0.1:0", func(r grpcx.Registrar) { authgrpc.Register(r, fake) })
	ctx, span := tracing.Enter(ctx, tracing.Server, "request")
	c := a.dial(t, "gateway", server.Addr().String())
	if _, err := c.ValidateToken(ctx, auth.ValidateTokenRequest{Token: token}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ValidateToken(ctx, auth.ValidateTokenRequest{Token: "bad"}); err == nil {
		t.Fatal("a bad token is taken")
	}
	span.End(nil)
	grpcxtest.Stop(server) // so that its spans have ended
	if err := sender.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	spans := collector.Spans(tracing.ID(ctx))
	const method = "/novacron.auth.v1.AuthService/ValidateToken"
	const each = "  " + method + "\n    " + method + "\n"
	if got := otlptest.Tree(spans); got != "request\n"+each+each {
		t.Errorf("got\n%s", got)
	}
	failed := 0
	for _, s := range spans {
		if s.Failed {
			failed++
		}
		for _, value := range s.Attrs {
			if value == token {
				t.Errorf("a span holds the token: %+v", s)
			}
		}
	}
	if failed != 2 {
		t.Errorf("%d spans of the refused call failed, want both", failed)
	}
}
