package hop

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/platform/telemetry"
	"github.com/novacron/novacron/internal/platform/tracing"
)

// ErrNotGateway answers requests that reach a module's own listener past the gateway.
var ErrNotGateway = errs.New(errs.Forbidden, "internal.not_gateway", "this listener answers gateways only").
	WithAction("Send the request to the gateway. Gateways show a certificate of the installation's authority whose name internal.gateways lists.")

// ErrTimeout is why a request ends whose time, as the gateway measured it, is up.
var ErrTimeout = errs.New(errs.Deadline, "internal.timeout", "the time that the gateway gave for the answer is up")

// Errors lists the package's errors for the reference.
func Errors() []*errs.Error { return []*errs.Error{ErrNotGateway, ErrTimeout} }

// Handler lets requests of gateways through to a module, with their caller, id, client and deadline in the context, and refuses all others.
func Handler(v *Verifier, log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.Header.Get(HeaderPath)
		if path == "" {
			path = r.URL.Path
		}
		ctx := httpx.WithRequest(r.Context(), r.Header.Get("X-Request-Id"), path)
		caller, known, err := v.Verify(r)
		if err != nil {
			log.WarnContext(ctx, "request past the gateway refused", "remote", r.RemoteAddr, "error", err)
			httpx.WriteError(w, r.WithContext(ctx), ErrNotGateway)
			return
		}
		ctx = httpx.WithClientInfo(ctx, client(r))
		ctx, span := tracing.Enter(tracing.FromPeer(ctx, r.Header.Get), tracing.Server, telemetry.MethodLabel(r.Method),
			tracing.String("novacron.request_id", httpx.RequestID(ctx)))
		defer span.End(nil)
		if known {
			ctx = identity.With(ctx, caller)
		}
		if ms, err := strconv.ParseInt(r.Header.Get(HeaderDeadline), 10, 64); err == nil && ms > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeoutCause(ctx, time.Duration(ms)*time.Millisecond, ErrTimeout)
			defer cancel()
		}
		for _, name := range Headers() {
			r.Header.Del(name)
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}
