package edge

import (
	"context"
	"net/http"
	"strconv"

	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/telemetry"
	"github.com/novacron/novacron/internal/platform/tracing"
)

// enter begins the span of a request. What machines ask every few seconds gets none.
func enter(ctx context.Context, r *http.Request) (context.Context, tracing.Span) {
	switch r.URL.Path {
	case "/health", "/ready", "/metrics":
		return ctx, tracing.Span{}
	}
	if tracing.From(ctx) == nil { // nobody would record what is described below
		return ctx, tracing.Span{}
	}
	return tracing.Enter(ctx, tracing.Server, telemetry.MethodLabel(r.Method), tracing.String("http.request.method", telemetry.MethodLabel(r.Method)),
		tracing.String("network.protocol.version", strconv.Itoa(r.ProtoMajor)), tracing.String("novacron.request_id", httpx.RequestID(ctx)))
}

// leave ends it. It is named by the pattern of the route: paths may hold tickets, and there is no end of them.
func (x *exchange) leave(service, endpoint string, status int, code string) {
	if !x.span.Recorded() {
		return
	}
	x.span.Name(telemetry.MethodLabel(x.method) + " " + endpoint)
	x.span.Set(tracing.String("http.route", endpoint), tracing.Int("http.response.status_code", status), tracing.String("novacron.module", service))
	if x.known {
		x.span.Set(tracing.String("novacron.tenant_id", x.principal.TenantID.String()), tracing.String("novacron.user_id", x.principal.UserID.String()))
	}
	switch {
	case status >= http.StatusInternalServerError && code == "":
		x.span.Fail(strconv.Itoa(status))
	case status >= http.StatusInternalServerError:
		x.span.Fail(code)
	case code != "": // the caller's mistake is not a failure of the server
		x.span.Set(tracing.String("error.type", code))
	}
	x.span.End(nil)
}
